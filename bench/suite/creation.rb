# frozen_string_literal: true

# How the cost of a new lock grows with those that live already.

sample = lambda do |lock, live|
  kept = Array.new(live) { lock.new }
  GC.start
  GC.disable
  made = Bench.quick? ? 100 : 10_000
  start = Bench.now
  fresh = Array.new(made) { lock.new }
  seconds = Bench.now - start
  GC.enable
  seconds / (kept.size + fresh.size - live)
end

Bench.grow(
  "creation", "A new lock", "locks that live already", [1, 10, 100, 1000, 10_000, 100_000],
  "Mutex" => ->(live) { sample.call(ProcessShared::Mutex, live) },
  "Semaphore" => ->(live) { sample.call(ProcessShared::Semaphore, live) },
  "Thread::Mutex" => ->(live) { sample.call(Thread::Mutex, live) }
)
