# frozen_string_literal: true

require "process_shared"

Dir[File.join(__dir__, "support", "**", "*.rb")].sort.each { |file| require file }

RSpec.configure do |config|
  config.disable_monkey_patching!
  config.order = :random
  Kernel.srand config.seed

  config.include Children
  config.include Blocking
  config.include Rubies

  config.before(:suite) { Watchdog.start }
  # On macOS a fork copies the ports of all objects: garbage would make each one slow.
  config.before(:context) { GC.start }
  config.after(:suite) { Watchdog.stop }
  config.around do |example|
    Watchdog.watch(example.metadata[:limit] || Watchdog::LIMIT) do
      example.metadata[:unstressed] ? example.run : Stress.during { example.run }
    end
  ensure
    Child.reap_all
    Blocking.end_threads
  end
end
