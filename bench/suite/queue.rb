# frozen_string_literal: true

# Queues: beside core's in one thread, and beside a pipe with Marshal between two processes.

require "socket"

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

  # Redis behind a UNIX socket, one command an item.
  class InRedis
    def push(item) = ask("LPUSH", "items", Marshal.dump(item))
    def pop = Marshal.load(ask("BRPOP", "items", "0"))
    def finish; end

    private

    # Sends a command. Returns the answer, or the last of its Strings.
    def ask(*command)
      @socket ||= UNIXSocket.new(Bench::Rivals.redis) # in each process its own
      @socket.write("*#{command.size}\r\n", *command.map { |word| "$#{word.bytesize}\r\n#{word}\r\n" })
      answer
    end

    def answer
      kind, count = @socket.gets("\r\n", chomp: true).then { |line| [line[0], line[1..].to_i] }
      case kind
      when "$" then @socket.read(count + 2)[0, count]
      when "*" then Array.new(count) { answer }.last
      when ":" then count
      else raise "Redis says no"
      end
    end
  end

  # A byte through a pipe.
  class Byte
    def initialize = (@reader, @writer = IO.pipe)
    def push(_) = @writer.syswrite(".")
    def pop = @reader.sysread(1)
  end

  PYTHON = File.expand_path("../simple_queue.py", __dir__)

  module_function

  # Seconds an item takes from one process to another, in a stream.
  def stream(kind, item, count)
    line = kind.new
    Bench::Crew.time(2) do |number|
      number.zero? ? count.times { line.push(item) } && line.finish : count.times { line.pop }
    end / count
  end

  # The same for so many producers and as many consumers.
  def crowd(pairs, count)
    queue = ProcessShared::Queue.new
    each = count / pairs
    Bench::Crew.time(2 * pairs) do |number|
      number.even? ? each.times { queue.push(1) } : each.times { queue.pop }
    end / (each * pairs)
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

  # Ticks of the processor that a consumer uses in `seconds` while nothing comes, and another process has an item in flight.
  def idle_ticks(seconds)
    queue = ProcessShared::Queue.new([1])
    Bench::Crew.with(2, ->(_) { queue.pop { queue.pop } }) do |crew|
      crew.go
      sleep 0.01 until queue.waiters == 2
      sleep 0.5
      before = ticks(crew.pids)
      sleep seconds
      ticks(crew.pids) - before
    end
  end

  def ticks(pids)
    pids.sum { |pid| File.read("/proc/#{pid}/stat")[/.*\) (.*)/, 1].split[11, 2].sum(&:to_i) }
  end

  # Megabytes that a queue keeps when so many have been in it, in items small and large.
  def kept_memory(megabytes)
    shared = -> { File.read("/proc/self/status")[/^RssShmem:\s*(\d+) kB/, 1].to_i / 1024.0 }
    before = shared.call
    queue = ProcessShared::Queue.new(bytes: megabytes << 20)
    sizes = [1000, 100_000, 10_000_000].map { |size| "x" * size }
    sizes.cycle { |item| queue.push(item, true) }
  rescue ThreadError # it is full
    queue.pop until queue.empty?
    shared.call - before
  end

  # Seconds for a push and a pop of one of `length` items.
  def at_length(queue, length)
    (length - queue.size).times { |item| queue.push(item) }
    Bench::Comparison.time("x.push(1); x.pop", queue)
  end

  # Seconds for a push and a pop, in so many processes at a time.
  def together(processes, count, pop)
    queue = ProcessShared::Queue.new
    each = count / processes
    Bench::Crew.time(processes) { each.times { queue.push(1) && pop.call(queue) } } / (each * processes)
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
      next if kind == Queues::Bundled

      if Bench::Rivals.python
        length = item.is_a?(String) ? item.size : 0
        c.timed("Python's SimpleQueue", goal: 0.1) { Bench::Rivals.run(Bench::Rivals.python, Queues::PYTHON, count.to_s, length.to_s) }
      else
        c.leave_out("Python's SimpleQueue", "python3 is not there")
      end
      if Bench::Rivals.redis
        c.timed("Redis, LPUSH and BRPOP", goal: 0.03) { Queues.stream(Queues::InRedis, item, [count, 5000].min) }
      else
        c.leave_out("Redis", "redis-server is not there")
      end
    end
  end
end

rounds = Bench.quick? ? 20 : 4000
Bench.compare("Queue", "round trip between 2 processes", rounds: 31) do |c|
  c.timed("Queue") { Queues.round_trip(ProcessShared::Queue.new, ProcessShared::Queue.new, rounds) }
  c.timed("a byte over two pipes", goal: 0.3) { Queues.round_trip(Queues::Byte.new, Queues::Byte.new, rounds) }
end
Bench.compare("Queue", "an item, with 8 producers and 8 consumers", rounds: 11) do |c|
  c.timed("8 and 8") { Queues.crowd(8, count * 8) }
  c.timed("1 and 1", goal: 2.0) { Queues.crowd(1, count * 8) }
end
Bench.compare("Queue", "a killed worker's item is with another", rounds: 31) do |c|
  c.timed("Queue") { Queues.hand_over }
  c.timed("10 ms", goal: 1.0) { 0.01 }
end
Bench.count("ticks of 2 idle consumers with items in flight, in #{Bench.quick? ? 0.1 : 10} s", limit: 0) do
  Queues.idle_ticks(Bench.quick? ? 0.1 : 10)
end

held = Bench.quick? ? 32 : 1024
Bench.count("shared memory of an empty queue that held #{held} MB", limit: 1.0, unit: "MB") { Queues.kept_memory(held) }

Bench.grow(
  "queue-size", "An item from process to process", "bytes of the item", [16, 256, 1 << 12, 1 << 16, 1 << 20, 1 << 24],
  "Queue" => ->(size) { Queues.stream(Queues::Single, "x" * size, [(count * 1000) / size, 8].max.clamp(8, count)) },
  "a pipe with Marshal" => ->(size) { Queues.stream(Queues::Pipe, "x" * size, [(count * 1000) / size, 8].max.clamp(8, count / 5)) }
)
lengths = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000]
long = { ours: ProcessShared::Queue.new(bytes: 256 << 20), core: Thread::Queue.new }
Bench.grow(
  "queue-length", "push and pop beside other items", "items in the queue", lengths,
  "Queue" => ->(length) { Queues.at_length(long[:ours], length) },
  "Thread::Queue" => ->(length) { Queues.at_length(long[:core], length) }
)
long.clear
Bench.grow(
  "queue-processes", "push and pop in many processes", "processes", [1, 2, 4, 8, 16, 32, 64],
  "pop" => ->(processes) { Queues.together(processes, count * 4, ->(queue) { queue.pop }) },
  "pop with a block" => ->(processes) { Queues.together(processes, count * 4, ->(queue) { queue.pop { nil } }) }
)
