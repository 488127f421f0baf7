# frozen_string_literal: true

# What it costs to have locks: making one and dropping it, and to fork with many of them.

require "etc"

Bench.compare("Mutex", "new, dropped") do |c|
  c.code("Mutex", "x.new", x: ProcessShared::Mutex)
  c.code("Thread::Mutex", "x.new", x: Thread::Mutex, goal: 3.0)
  Bench::Rivals.old_gem(c, "ProcessShared::Mutex", "x.new")
end

# Each side in a process of its own, which has only its own kind of lock.
many = Bench.quick? ? 1000 : 100_000
forks = Bench.quick? ? 1 : 20
fork_with = lambda do |lock, leave|
  result, result_in = IO.pipe
  pid = fork do
    locks = Array.new(many) { lock.new }
    GC.start
    times = Array.new(forks) do
      start = Bench.now
      Process.wait(fork { leave.call })
      Bench.now - start
    end
    result_in.write(times.min, locks.size.positive? ? "\n" : "")
    exit!
  end
  Process.wait(pid)
  Float(result.gets)
end

{ "exit" => -> { exit }, "exit!" => -> { exit! } }.each do |name, leave|
  Bench.compare("Process", "fork, #{name} with 100,000 mutexes", rounds: 11) do |c|
    c.timed("Mutex") { fork_with.call(ProcessShared::Mutex, leave) }
    c.timed("100,000 Thread::Mutex", goal: 1.05) { fork_with.call(Thread::Mutex, leave) }
  end
end
