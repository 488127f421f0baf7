# frozen_string_literal: true

# The programs in examples/: each must end by itself, with success, and without a warning.

require_relative "support/program"

desc "Run every program in examples/"
task examples: :compile do
  failed = FileList["examples/*.rb"].reject do |file|
    puts "== #{file}"
    Program.run("-w", "-Ilib", file)
  end
  abort "failed: #{failed.join(", ")}" unless failed.empty?
end
