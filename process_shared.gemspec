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
  spec.metadata    = {
    "source_code_uri"       => spec.homepage,
    "bug_tracker_uri"       => "#{spec.homepage}/issues",
    "changelog_uri"         => "#{spec.homepage}/blob/master/CHANGELOG.md",
    "rubygems_mfa_required" => "true"
  }

  spec.required_ruby_version     = ">= 3.1"
  spec.required_rubygems_version = ">= 3.3"

  # Exactly what building, using and reading about the gem needs; `rake package:files` compares with git.
  spec.extensions = ["ext/process_shared/extconf.rb"]
  spec.files      = Dir.glob(
    ["lib/**/*.rb", "sig/**/*.rbs", "examples/*.rb", "src/**/*.rs", "ext/process_shared/{Cargo.toml,*.rb,src/**/*.rs}",
     "Cargo.{toml,lock}", "COPYING", "{README,CHANGELOG,DESIGN,SECURITY}.md", ".yardopts"], base: __dir__
  )
  spec.extra_rdoc_files = spec.files.grep(/\.md\z/)
  spec.rdoc_options     = ["--main", "README.md", "--exclude", "^ext/"]
end
