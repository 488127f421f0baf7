# frozen_string_literal: true

require_relative "support/parallel_specs"

# The specs while Ruby's collector runs all the time, and the count of what many rounds leave behind.

namespace :spec do
  run = ->(mode, specs) { ParallelSpecs.run(*specs, env: { "SPEC_STRESS" => mode }) }

  desc "All specs with a collection of young objects at every allocation (ten minutes)"
  task(stress: :compile) { run.call("minor", FileList["spec/**/*_spec.rb"]) }

  # Beside moved objects, nothing may be loaded that cannot bear it, such as rbs.
  desc "Specs whose objects are moved again and again (ten minutes)"
  task(compact: :compile) { run.call("compact", FileList["spec/*/*_spec.rb"]) }
end

desc "A million rounds of making, using and dropping objects of each class: does anything grow? (growth[rounds])"
task :growth, [:rounds] => :compile do |_, args|
  sh({ "GROWTH_ROUNDS" => args.fetch(:rounds, 1_000_000).to_s }, Gem.ruby, "-S", "rspec", "spec/integration/growth_spec.rb", verbose: false)
end
