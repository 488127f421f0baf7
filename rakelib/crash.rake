# frozen_string_literal: true

# What proves that nothing hangs and nothing is lost, in the core crate: every order of steps (loom), every point of death
# (ptrace), and storms. `rust:test` runs a spread of the last two.

require "open3"

namespace :rust do
  cargo = ENV.fetch("CARGO", "cargo")

  desc "Model-check the protocols; rust:loom[condition] only those whose names have it"
  task :loom, [:name] do |_, args|
    # A target directory of its own: the flag would have everything built again and again.
    env = { "RUSTFLAGS" => "--cfg loom", "CARGO_TARGET_DIR" => "target/loom" }
    test = [env, cargo, "test", "--locked", "--release", "--test", "loom*"]
    sh(*test, "--no-run", verbose: false)
    # Two processes, of which the first has about half of the work. Threads of one would wait for each other at each stack
    # that the model checker maps.
    first = %w[condition:: line:: semaphore:: lock::]
    halves = args.name ? [[args.name]] : [first, first.flat_map { |name| ["--skip", name] }]
    runs = halves.map { |half| Thread.new { Open3.capture2e(*test, "--", "--nocapture", "--test-threads=1", *half) } }.map(&:value)
    runs.each { |output, _| puts output }
    abort "a model failed" unless runs.all? { |_, status| status.success? }
  end

  desc "Kill a process at every instruction of every operation (half an hour; CRASH_STRIDE=n tries each n-th)"
  task :crash do
    env = { "CRASH_STRIDE" => ENV.fetch("CRASH_STRIDE", "1") }
    sh env, cargo, "test", "--locked", "--test", "crash", "--", "--nocapture", verbose: false
  end

  desc "Processes that work together while they are killed, for so many seconds"
  task :storm, %i[seconds seed] do |_, args|
    env = { "STORM_SECONDS" => args.fetch(:seconds, 60).to_s, "STORM_SEED" => args[:seed]&.to_s }
    sh env, cargo, "test", "--locked", "--test", "storm", "--", "--nocapture", verbose: false
  end
end

desc "Same as rust:crash"
task crash: "rust:crash"

desc "Same as rust:loom"
task loom: "rust:loom"
