# frozen_string_literal: true

# What runs on macOS, run on Linux over a model of the Mach kernel (models/mach).

require_relative "support/parallel_specs"

namespace :rust do
  cargo = ENV.fetch("CARGO", "cargo")

  desc "The core crate's tests over the model of the Mach kernel"
  task(:simulated) do
    sh cargo, "clippy", "--quiet", "--workspace", "--all-targets", "--locked", "--features", "process_shared/simulated-mach",
       "--", "-Dwarnings", verbose: false
    sh cargo, "test", "--locked", "--features", "simulated-mach", verbose: false
    # where threads cannot sleep at an address
    tests = %w[paths queue map robust_semaphore].flat_map { |name| ["--test", name] }
    sh({ "MACH_BEFORE_14_4" => "1" }, cargo, "test", "--locked", "--features", "simulated-mach", *tests,
       "--", "--skip", "spoiled", "--skip", "found_out", verbose: false)
  end
end

namespace :simulated do
  # Built without the optimiser; kept apart from the extension that all other tasks use.
  task :compile do
    cargo = ENV.fetch("CARGO", "cargo")
    sh({ "RUBY" => Gem.ruby }, cargo, "build", "--quiet", "--locked", "-p", "process_shared", "--features", "simulated-mach",
       verbose: false)
    mkdir_p "tmp/simulated/process_shared", verbose: false
    cp "#{ENV.fetch("CARGO_TARGET_DIR", "target")}/debug/libprocess_shared.so",
       "tmp/simulated/process_shared/process_shared.so", verbose: false
  end

  run = lambda do |specs|
    path = %w[tmp/simulated lib].map { |dir| File.expand_path(dir) }
    ParallelSpecs.run(*specs, env: { "RUBYLIB" => path.join(":") })
  end

  # What the system has a part in.
  task short: :compile do
    run.call(FileList["spec/macos/*_spec.rb"] +
             %w[fork fibers interrupts interrupted_twice traps waiter_death holder_death].map { |name| "spec/integration/#{name}_spec.rb" })
  end

  # But for: what a wait costs (on macOS waiters look by themselves), the memory that objects take (the model takes some
  # itself), how an extension is found (this one is found elsewhere), and servers that start anew (the model is in the memory
  # of one program and its children).
  desc "All specs over the model of the Mach kernel (three minutes)"
  task all: :compile do
    run.call(FileList["spec/*/*_spec.rb"].exclude(/waiting_spec|garbage_spec|extension_spec|servers_spec/))
  end
end

desc "Specs that the system has a part in, over the model of the Mach kernel"
task simulated: "simulated:short"

unless RUBY_PLATFORM.include?("linux")
  %w[rust:simulated simulated:compile simulated:short simulated:all].each do |name|
    Rake::Task[name].clear_actions.enhance { puts "#{name}: the model of the Mach kernel runs on Linux only" }
  end
end
