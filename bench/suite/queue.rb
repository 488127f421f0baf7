# frozen_string_literal: true

# Queues: beside core's in one thread, and beside a pipe with Marshal between two processes.
module Queues
  # Items over a pipe: each by Marshal, behind its length.
  class Pipe
    def initialize = (@reader, @writer = IO.pipe.each(&:binmode))

    def push(item)
      bytes = Marshal.dump(item)
      @writer.write([bytes.bytesize].pack("N") << bytes)
    end

    def pop = Marshal.load(@reader.read(@reader.read(4).unpack1("N")))
    def finish = @writer.flush
  end

  # Ours, one by one.
  class Single
    def initialize = @queue = ProcessShared::Queue.new
    def push(item) = @queue.push(item)
    def pop = @queue.pop
    def finish; end
  end

  # Ours, many at once.
  class Bundled
    def initialize
      @queue = ProcessShared::Queue.new
      @out = []
      @in = []
    end

    def push(item)
      @out << item
      finish if @out.size == 100
    end

    def pop
      @in = @queue.pop_all(1000).reverse if @in.empty?
      @in.pop
    end

    def finish
      @queue.concat(@out)
      @out = []
    end
  end

  module_function

  # Seconds an item takes from one process to another, in a stream.
  def stream(kind, item, count)
    line = kind.new
    Bench::Crew.time(2) do |number|
      number.zero? ? count.times { line.push(item) } && line.finish : count.times { line.pop }
    end / count
  end

  # Seconds an item takes there and back.
  def round_trip(there, back, rounds)
    Bench::Crew.time(2) do |number|
      rounds.times { number.zero? ? there.push(1) && back.pop : there.pop && back.push(1) }
    end / rounds
  end

  # Seconds from the death of a worker until another has its item.
  def hand_over
    queue = ProcessShared::Queue.new([1])
    taken = ProcessShared::Semaphore.new(0)
    worker = fork { queue.pop { taken.post && sleep } }
    taken.wait
    taker = Thread.new { queue.pop { Process.clock_gettime(Process::CLOCK_MONOTONIC) } }
    Thread.pass until queue.waiters == 1 && taker.status == "sleep"
    start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    Process.kill(:KILL, worker)
    taker.value - start
  ensure
    Process.wait(worker)
  end
end

small = { name: "process_shared", ids: [1, 2, 3], ratio: 0.5 }
ours, core = ProcessShared::Queue.new, Thread::Queue.new
Bench.compare("Queue", "push and pop of an Integer, one thread") do |c|
  c.code("Queue", "x.push(1); x.pop", x: ours)
  c.code("Thread::Queue", "x.push(1); x.pop", x: core, goal: 2.0)
end
Bench.compare("Queue", "pop with a block") do |c|
  c.code("pop { }", "x.push(1); x.pop { }", x: ours)
  c.code("pop", "x.push(1); x.pop", x: ours, goal: 2.0)
end
Bench.compare("Queue", "a small Hash there and back") do |c|
  c.code("Queue", "x.push(y); x.pop", x: ours, y: small)
  c.code("Marshal alone", "Marshal.load(Marshal.dump(y))", y: small, goal: 1.3)
end

count = Bench.quick? ? 200 : 50_000
{ "Integers" => [1, 0.1], "1,000-byte Strings" => ["x" * 1000, 0.4] }.each do |what, (item, goal)|
  { "push and pop" => Queues::Single, "concat and pop_all" => Queues::Bundled }.each do |way, kind|
    Bench.compare("Queue", "a stream of #{what} between 2 processes, #{way}", rounds: 11) do |c|
      c.timed("Queue") { Queues.stream(kind, item, count) }
      c.timed("a pipe with Marshal", goal: goal) { Queues.stream(Queues::Pipe, item, count) }
    end
  end
end

rounds = Bench.quick? ? 20 : 4000
Bench.compare("Queue", "round trip between 2 processes", rounds: 31) do |c|
  c.timed("Queue") { Queues.round_trip(ProcessShared::Queue.new, ProcessShared::Queue.new, rounds) }
  c.timed("a pipe with Marshal", goal: 0.3) { Queues.round_trip(Queues::Pipe.new, Queues::Pipe.new, rounds) }
end
Bench.compare("Queue", "a killed worker's item is with another", rounds: 31) do |c|
  c.timed("Queue") { Queues.hand_over }
  c.timed("10 ms", goal: 1.0) { 0.01 }
end
