# frozen_string_literal: true

# Counters and limits: one process, and eight on one counter.

{ "increment" => "x.increment", "value" => "x.value" }.each do |work, code|
  Bench.compare("AtomicFixnum", work) do |c|
    c.code("AtomicFixnum", code, x: ProcessShared::AtomicFixnum.new)
    Bench::Rivals.concurrently(c, code, goal: 1.0) { |rival| rival::AtomicFixnum.new }
  end
end

total = Bench.quick? ? 800 : 400_000
Bench.compare("AtomicFixnum", "counter, 8 processes", rounds: 9) do |c|
  number, lock = ProcessShared::AtomicFixnum.new, ProcessShared::Mutex.new
  array = ProcessShared::SharedArray.new(:int64)
  c.timed("AtomicFixnum#increment") do
    Bench::Crew.time(8) do
      times = total / 8
      number.increment while (times -= 1) >= 0
    end / total
  end
  c.timed("Mutex and SharedArray", goal: 0.3) do
    Bench::Crew.time(8) do
      times = total / 8
      lock.synchronize { array[0] += 1 } while (times -= 1) >= 0
    end / total
  end
end

Bench.compare("RateLimiter", "try_acquire") do |c|
  c.code("RateLimiter#try_acquire", "x.try_acquire", x: ProcessShared::RateLimiter.new(1000))
  c.code("Mutex#synchronize { }", "x.synchronize { }", x: ProcessShared::Mutex.new, goal: 1.5)
end
