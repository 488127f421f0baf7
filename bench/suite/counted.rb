# frozen_string_literal: true

# What is counted rather than timed: the same on a fast machine and on a slow one.

require "open3"
require "tempfile"

# Runs pieces of Ruby under tools that count.
module Counted
  LIB = $LOADED_FEATURES.grep(/process_shared\/process_shared\.(so|bundle)\z/).first
  LOAD_PATH = $LOAD_PATH.flat_map { |dir| ["-I", dir] }
  RUBY = [Gem.ruby, "--disable-gems", *LOAD_PATH, "-rprocess_shared"].freeze

  module_function

  def tool(name)
    Open3.capture2e(name, "--version")
  rescue SystemCallError
    raise Bench::LeftOut, "#{name} is not installed"
  end

  # System calls of the main thread while `code` runs, by strace.
  def system_calls(setup, code)
    tool("strace")
    marked = "#{setup}; File.exist?('/begin'); #{code}; File.exist?('/end')"
    Tempfile.create("strace") do |log|
      _, error, status = Open3.capture3("strace", "-o", log.path, *RUBY, "-e", marked)
      raise Bench::LeftOut, "strace does not work here: #{error.lines.first}" unless status.success?

      calls = log.readlines
      first, last = ["/begin", "/end"].map { |mark| calls.index { |line| line.include?("\"#{mark}\"") } }
      calls[first + 1...last].size
    end
  end

  # Instructions that one turn of `code` takes, by callgrind: the difference between many turns and few.
  def instructions(setup, code)
    tool("valgrind")
    few, many = [1000, 11_000].map do |turns|
      loop_of = "#{setup}; i = 0; while i < #{turns}; #{code}; i += 1; end"
      _, error, = Open3.capture3("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *RUBY, "-e", loop_of)
      Integer(error[/Collected : (\d+)/, 1] || raise(Bench::LeftOut, "valgrind does not work here"))
    end
    (many - few) / 10_000
  end

  # Context switches, and ticks of the processor, that these processes with all their threads have used so far.
  def activity(pids)
    pids.flat_map { |pid| Dir["/proc/#{pid}/task/*"] }.map do |task|
      switches = File.read("#{task}/status").scan(/ctxt_switches:\s*(\d+)/).flatten.sum(&:to_i)
      [switches, File.read("#{task}/stat")[/.*\) (.*)/, 1].split[11, 2].sum(&:to_i)]
    end.transpose.map(&:sum)
  end

  # What 64 processes that wait for a lock, a permit, and a condition do in `seconds`: switches and ticks.
  def idle_activity(seconds)
    locked = ProcessShared::Mutex.new.lock
    empty = ProcessShared::Semaphore.new(0)
    condition, mutex = ProcessShared::ConditionVariable.new, ProcessShared::Mutex.new
    waits = [-> { locked.lock }, -> { empty.wait }, -> { mutex.synchronize { condition.wait(mutex) } }]
    Bench::Crew.with(64, ->(number) { waits[number % 3].call }) do |crew|
      crew.go
      sleep 0.01 until locked.waiters + empty.waiters + condition.waiters == 64
      sleep 0.5 # the last of them fall asleep
      before = activity(crew.pids)
      sleep seconds
      activity(crew.pids).zip(before).map { |now, then_| now - then_ }
    end
  ensure
    locked.unlock
  end

  def descriptors
    Dir.children("/proc/self/fd").size
  end

  # Bytes of shared memory that this process uses.
  def shared
    File.read("/proc/self/status")[/^RssShmem:\s*(\d+) kB/, 1].to_i * 1024
  end

  # Milliseconds that `require "process_shared"` takes in a new process.
  def require_time
    program = 'start = Process.clock_gettime(Process::CLOCK_MONOTONIC); require "process_shared"; ' \
              "print Process.clock_gettime(Process::CLOCK_MONOTONIC) - start"
    Array.new(Bench.quick? ? 1 : 15) { Bench::Rivals.run(Gem.ruby, *LOAD_PATH, "-e", program) }.min * 1000
  end
end

# A waiter wakes every 0.45 s to see that the holder lives.
seconds = Bench.quick? ? 0.1 : 10
switches, ticks = Counted.idle_activity(seconds)
Bench.count("wake-ups of a blocked process, in a second", limit: 2.5) { (switches / 64.0 / seconds).round(1) }
Bench.count("ticks of the processor of 64 blocked processes, in #{seconds} s", limit: 2) { ticks }

{
  "Mutex lock, unlock" => ["x = ProcessShared::Mutex.new; x.lock.unlock", "x.lock; x.unlock"],
  "Mutex synchronize" => ["x = ProcessShared::Mutex.new; x.synchronize { }", "x.synchronize { }"],
  "Monitor synchronize" => ["x = ProcessShared::Monitor.new; x.synchronize { }", "x.synchronize { }"],
  "Semaphore wait, post" => ["x = ProcessShared::Semaphore.new; x.wait.post", "x.wait; x.post"]
}.each do |name, (setup, code)|
  Bench.count("system calls of 10,000 times #{name}, uncontended", limit: 0) do
    Counted.system_calls(setup, "10_000.times { #{code} }")
  end
end

unless Bench.quick?
  {
    "Mutex synchronize" => "ProcessShared::Mutex.new",
    "Thread::Mutex synchronize" => "Thread::Mutex.new",
    "Monitor synchronize" => "ProcessShared::Monitor.new"
  }.each do |name, setup|
    Bench.count("instructions of one #{name}, uncontended, and the loop around it") do
      Counted.instructions("x = #{setup}; x.synchronize { }", "x.synchronize { }")
    end
  end
end

many = Bench.quick? ? 4096 : 100_000
Bench.count("descriptors of 1,000 locks, semaphores and conditions", limit: 0) do
  before = Counted.descriptors
  kept = Array.new(250) do
    [ProcessShared::Mutex.new.synchronize { 1 }, ProcessShared::Monitor.new, ProcessShared::Semaphore.new, ProcessShared::ConditionVariable.new.signal]
  end
  Counted.descriptors - before + kept.size - 250
end

Bench.count("shared memory of one Mutex", limit: 128.5, unit: "bytes") do
  GC.start
  before = Counted.shared
  locks = Array.new(many) { ProcessShared::Mutex.new.tap { |lock| lock.synchronize { } } }
  (Counted.shared - before).fdiv(locks.size)
end

Bench.count("the extension", limit: 2.0, unit: "MB") { File.size(Counted::LIB) / 1e6 }
Bench.count("require \"process_shared\"", limit: 20, unit: "ms") { Counted.require_time }
