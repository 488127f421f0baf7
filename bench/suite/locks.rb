# frozen_string_literal: true

# Uncontended: what a lock costs that nobody else wants.

require "monitor"

{
  "synchronize { }" => ["x.synchronize { }", "ProcessShared::Mutex.new"],
  "lock, unlock" => ["x.lock; x.unlock", "ProcessShared::Mutex.new"]
}.each do |work, (code, setup)|
  Bench.compare("Mutex", work) do |c|
    c.code("Mutex", code, x: ProcessShared::Mutex.new)
    c.code("Thread::Mutex", code, x: Thread::Mutex.new, goal: 1.0)
    Bench::Rivals.old_gem(c, setup, code)
  end
end

Bench.compare("Monitor", "synchronize { }") do |c|
  c.code("Monitor", "x.synchronize { }", x: ProcessShared::Monitor.new)
  c.code("::Monitor", "x.synchronize { }", x: Monitor.new, goal: 1.0)
end

held = [ProcessShared::Monitor.new, Monitor.new].each(&:enter)
Bench.compare("Monitor", "synchronize { }, nested") do |c|
  c.code("Monitor", "x.synchronize { }", x: held[0])
  c.code("::Monitor", "x.synchronize { }", x: held[1], goal: 1.0)
end
held.each(&:exit)

Bench.compare("Semaphore", "wait, post") do |c|
  c.code("Semaphore", "x.wait; x.post", x: ProcessShared::Semaphore.new(1))
  c.code("Thread::Mutex#lock, unlock", "x.lock; x.unlock", x: Thread::Mutex.new, goal: 1.0)
  Bench::Rivals.old_gem(c, "ProcessShared::Semaphore.new(1)", "x.wait; x.post")
end

Bench.compare("Semaphore", "wait, post, robust") do |c|
  c.code("Semaphore, robust", "x.wait; x.post", x: ProcessShared::Semaphore.new(1, robust: true))
  c.code("Semaphore", "x.wait; x.post", x: ProcessShared::Semaphore.new(1), goal: 1.5)
end

Bench.compare("Semaphore", "acquire { }") do |c|
  c.code("Semaphore#acquire { }", "x.acquire { }", x: ProcessShared::Semaphore.new(1))
  c.code("Semaphore#wait, post", "x.wait; x.post", x: ProcessShared::Semaphore.new(1), goal: 1.3)
end

Bench.compare("Semaphore#to_mtx", "synchronize { }") do |c|
  c.code("to_mtx", "x.synchronize { }", x: ProcessShared::Semaphore.new(1).to_mtx)
  c.code("Thread::Mutex", "x.synchronize { }", x: Thread::Mutex.new, goal: 1.0)
end
