# frozen_string_literal: true

# The specs while Ruby's collector runs all the time, and the count of what many rounds leave behind.

namespace :spec do
  run = ->(mode) { sh({ "SPEC_STRESS" => mode }, Gem.ruby, "-S", "rspec", verbose: false) }

  # Apart from each other: only what can bear it may be loaded where objects are moved.
  desc "All specs with a collection at every allocation: of young objects, then of all, which are moved"
  task(stress: :compile) { %w[minor compact].each(&run) }
end

desc "A million rounds of making, using and dropping objects of each class: does anything grow? (growth[rounds])"
task :growth, [:rounds] => :compile do |_, args|
  sh({ "GROWTH_ROUNDS" => args.fetch(:rounds, 1_000_000).to_s }, Gem.ruby, "-S", "rspec", "spec/integration/growth_spec.rb", verbose: false)
end
