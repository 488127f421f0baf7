# frozen_string_literal: true

# The specs while Ruby's collector runs all the time, and the count of what many rounds leave behind.

namespace :spec do
  run = ->(mode, specs) { sh({ "SPEC_STRESS" => mode }, Gem.ruby, "-S", "rspec", *specs, verbose: false) }

  # Apart from each other: where objects are moved, nothing may be loaded that cannot bear it, such as rbs.
  desc "All specs with a collection at every allocation: of young objects, then of all, which are moved"
  task stress: :compile do
    run.call("minor", [])
    run.call("compact", FileList["spec/*/*_spec.rb"])
  end
end

desc "A million rounds of making, using and dropping objects of each class: does anything grow? (growth[rounds])"
task :growth, [:rounds] => :compile do |_, args|
  sh({ "GROWTH_ROUNDS" => args.fetch(:rounds, 1_000_000).to_s }, Gem.ruby, "-S", "rspec", "spec/integration/growth_spec.rb", verbose: false)
end
