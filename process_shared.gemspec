# frozen_string_literal: true

require_relative "lib/process_shared/version"

Gem::Specification.new do |spec|
  spec.name        = "process_shared"
  spec.version     = ProcessShared::VERSION
  spec.summary     = "Locks, semaphores, condition variables and memory shared between forked processes"
  spec.description = "Mutex, Monitor, Semaphore, ConditionVariable and SharedMemory that work across fork, " \
                     "survive kill -9 of any participant, and leave nothing behind."
  spec.authors     = ["The process_shared developers"]
  spec.license     = "MIT"
  spec.homepage    = "https://github.com/pmahoney/process_shared"

  spec.required_ruby_version     = ">= 3.1"
  spec.required_rubygems_version = ">= 3.3"

  spec.extensions = ["ext/process_shared/extconf.rb"]
  spec.files      = Dir.chdir(__dir__) do
    Dir["lib/**/*.rb", "sig/**/*.rbs", "src/**/*.rs", "ext/process_shared/{Cargo.toml,extconf.rb,src/**/*.rs}",
        "Cargo.{toml,lock}", "*.md", "COPYING"]
  end
end
