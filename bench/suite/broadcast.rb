# frozen_string_literal: true

# Getting 64 waiting processes going: until all of them have run.

# A crew of waiting processes; each answers with a byte whenever it was woken.
class Audience
  SIZE = Bench.quick? ? 4 : 64

  # `wait` is run by each process, with its number, again and again; `wake` wakes all; `waiting` says that they wait.
  def self.time(calls, wait, wake, waiting)
    answers, answer = IO.pipe
    Bench::Crew.with(SIZE, ->(number) { loop { wait.call(number) { answer.syswrite(".") } } }) do |crew|
      crew.go
      times = Array.new(calls) do
        sleep 0.001 until waiting.call(crew.pids)
        start = Bench.now
        wake.call
        SIZE.times { answers.readpartial(1) }
        Bench.now - start
      end
      times.min
    end
  ensure
    [answers, answer].each(&:close)
  end

  # Whether the system says that all of these processes sleep.
  def self.asleep?(pids)
    pids.all? { |pid| File.read("/proc/#{pid}/stat").match?(/\) S /) }
  end
end

calls = Bench.quick? ? 2 : 60
Bench.compare("ConditionVariable", "broadcast to 64 processes", rounds: 11) do |c|
  c.timed("ConditionVariable") do
    mutex = ProcessShared::Mutex.new
    condition = ProcessShared::ConditionVariable.new
    wait = lambda do |_, &answer|
      mutex.synchronize do
        condition.wait(mutex)
        answer.call
      end
    end
    Audience.time(calls, wait, -> { condition.broadcast }, ->(pids) { condition.waiters == Audience::SIZE && Audience.asleep?(pids) })
  end
  c.timed("64 pipe writes", goal: 1.0) do
    pipes = Array.new(Audience::SIZE) { IO.pipe }
    wait = lambda do |number, &answer|
      pipes[number][0].sysread(1)
      answer.call
    end
    Audience.time(calls, wait, -> { pipes.each { |_, writer| writer.syswrite(".") } }, Audience.method(:asleep?))
  ensure
    pipes.flatten.each(&:close)
  end
end
