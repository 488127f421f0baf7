# frozen_string_literal: true

# Programs that try at random what nobody thought of; they take as long as you like. Each prints its seed.
# `rake storm[3600]` for an hour, `rake fuzz[1000000,7]` for a million calls with seed 7.

namespace :storm do
  desc "The storm for 30 seconds, as bin/test runs it"
  task(short: :compile) { Rake::Task["storm"].invoke("30", "1") }
end

desc "Processes and threads that are killed and interrupted all the time: does everything add up?"
task :storm, %i[seconds seed] => :compile do |_, args|
  sh Gem.ruby, "-W:no-experimental", "-Ilib", "storm/storm.rb", *args.to_a, verbose: false
end

namespace :fuzz do
  desc "A hundred thousand calls, as bin/test makes them"
  task(short: :compile) { Rake::Task["fuzz"].invoke("100000", "1") }
end

desc "Every public method with random arguments: no crash, no hang, no senseless message?"
task :fuzz, %i[calls seed] => :compile do |_, args|
  sh Gem.ruby, "-W:no-experimental", "-Ilib", "fuzz/fuzz.rb", *args.to_a, verbose: false
end
