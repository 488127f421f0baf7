# frozen_string_literal: true

# The native extension, built into lib/ for work in the checkout, and the specs that run on it.
#
# In a container of rb-sys-dock, which has the compilers and the Rubies of one platform and says which in RUBY_TARGET,
# `rake native:PLATFORM gem` makes the precompiled gem of that platform, with an extension for each Ruby.

require "rake/extensiontask"
require "rspec/core/rake_task"

require_relative "support/parallel_specs"

Rake::ExtensionTask.new("process_shared", Gem::Specification.load("process_shared.gemspec")) do |ext|
  ext.lib_dir = "lib/process_shared"
  ext.source_pattern = "{Cargo.toml,src/**/*.rs,../../Cargo.{toml,lock},../../src/**/*.rs}"
  ext.cross_compile = ENV.key?("RUBY_TARGET")
  ext.cross_platform = [ENV["RUBY_TARGET"]].compact
  ext.cross_compiling { |spec| spec.files.reject! { |file| file.match?(%r{\A(?:ext|src)/|\ACargo\.}) } }
end

desc "Run the specs against the checkout"
RSpec::Core::RakeTask.new(spec: :compile) do |task|
  task.ruby_opts = "-w"
  task.verbose = false
  task.pattern = FileList["spec/**/*_spec.rb"]
end

namespace :spec do
  desc "The specs, spread over several processes"
  task(parallel: :compile) { ParallelSpecs.run(*FileList["spec/**/*_spec.rb"]) }
end
