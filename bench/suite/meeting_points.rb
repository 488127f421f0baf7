# frozen_string_literal: true

# The cost of meeting points and of the read-write lock.

{ "set?" => "x.set?", "wait, on a set one" => "x.wait" }.each do |work, code|
  Bench.compare("Event", work) do |c|
    c.code("Event", code, x: ProcessShared::Event.new.tap(&:set))
    Bench::Rivals.concurrently(c, code, goal: 0.5) { |rival| rival::Event.new.tap(&:set) }
  end
end

# Processes that meet again and again.
module Meeting
  SIZE = 8

  # What a barrier is without one: each says over a pipe that it is there; the first hears all, and tells each over a pipe of its.
  class Pipes
    def initialize
      @here = IO.pipe
      @go = Array.new(SIZE) { IO.pipe }
      @bytes = +""
    end

    def wait(number)
      @here[1].syswrite(".")
      if number.zero?
        heard = 0
        heard += @here[0].sysread(SIZE - heard, @bytes).size until heard == SIZE
        @go.each { |_, writer| writer.syswrite(".") }
      end
      @go[number][0].sysread(1, @bytes)
    end
  end

  # No meeting, but what 8 writes to pipes and 8 reads cost: a byte goes once around all processes.
  class Ring
    def initialize = @pipes = Array.new(SIZE) { IO.pipe }

    def wait(number)
      send(number + 1) if number.zero?
      @pipes[number][0].sysread(1)
      send(number + 1) unless number.zero?
    end

    private

    def send(number) = @pipes[number % SIZE][1].syswrite(".")
  end

  # Seconds for a round.
  def self.time(rounds, &wait)
    Bench::Crew.time(SIZE) { |number| rounds.times { wait.call(number) } } / rounds
  end
end

rounds = Bench.quick? ? 20 : 500
Bench.compare("CyclicBarrier", "a round of 8 processes", rounds: 31) do |c|
  c.timed("CyclicBarrier") do
    barrier = ProcessShared::CyclicBarrier.new(Meeting::SIZE)
    Meeting.time(rounds) { barrier.wait }
  end
  { "a meeting over pipes" => Meeting::Pipes, "8 pipe writes and reads" => Meeting::Ring }.each do |rival, kind|
    c.timed(rival, goal: 1.0) do
      pipes = kind.new
      Meeting.time(rounds) { |number| pipes.wait(number) }
    end
  end
end

%w[with_read_lock with_write_lock].each do |work|
  code = "x.#{work} { }"
  Bench.compare("ReadWriteLock", work) do |c|
    c.code("ReadWriteLock", code, x: ProcessShared::ReadWriteLock.new)
    Bench::Rivals.concurrently(c, code, goal: (0.3 if work == "with_read_lock")) { |rival| rival::ReentrantReadWriteLock.new }
  end
end

reads = Bench.quick? ? 1000 : 200_000
Bench.compare("ReadWriteLock", "with_read_lock in 2 processes at once, each", rounds: 15) do |c|
  read = ->(lock) { ->(_) { reads.times { lock.with_read_lock { nil } } } }
  c.timed("2 processes") { Bench::Crew.time(2, &read.call(ProcessShared::ReadWriteLock.new)) / reads }
  c.timed("one alone", goal: 1.3) { Bench::Crew.time(1, &read.call(ProcessShared::ReadWriteLock.new)) / reads }
end

Bench.count("Presence#size with 64 members", unit: "ns") do
  presence = ProcessShared::Presence.new
  Bench::Crew.with(64, ->(_) { presence.enter && sleep }) do |crew|
    crew.go
    sleep 0.01 until presence.size == 64
    times = Bench.quick? ? 100 : 100_000
    start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    times.times { presence.size }
    (Process.clock_gettime(Process::CLOCK_MONOTONIC) - start) / times * 1e9
  end
end
