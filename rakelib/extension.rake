# frozen_string_literal: true

# The native extension, built into lib/ for work in the checkout, and the specs that run on it.

require "rake/extensiontask"
require "rspec/core/rake_task"

Rake::ExtensionTask.new("process_shared") do |ext|
  ext.lib_dir = "lib/process_shared"
  ext.source_pattern = "{Cargo.toml,src/**/*.rs,../../Cargo.{toml,lock},../../src/**/*.rs}"
end

desc "Run the specs against the checkout"
RSpec::Core::RakeTask.new(spec: :compile) do |task|
  task.ruby_opts = "-w"
  task.verbose = false
end
