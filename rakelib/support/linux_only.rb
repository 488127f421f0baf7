# frozen_string_literal: true

require "rake"

# What there is on Linux only: queues, maps, permits that come back, and the specs and programs that use them.
module LinuxOnly
  names = %w[cache items_that_fork map process_shared_store prometheus queue rate_limits recipes robust_semaphore]
  SPECS = "spec/**/{#{names.join(",")}}_spec.rb"
  USE = /ProcessShared::(?:SizedQueue|Queue|Map|Cache)\b|robust: true/

  # The files that can be run here.
  def self.runnable(files)
    return files if RUBY_PLATFORM.include?("linux")

    files.exclude(SPECS) { |file| file.start_with?("examples/") && File.read(file).match?(USE) }
  end
end
