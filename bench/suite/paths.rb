# frozen_string_literal: true

# Objects with a path: what a lock costs that is in a file, what its file costs other locks, and what it costs to open one.

require "fiddle"
require "tmpdir"

# The files to open, and how they are opened without us.
class ManyFiles
  COUNT = 50
  MAP = Fiddle::Function.new(
    Fiddle.dlopen(nil)["mmap"],
    [Fiddle::TYPE_VOIDP, Fiddle::TYPE_SIZE_T, Fiddle::TYPE_INT, Fiddle::TYPE_INT, Fiddle::TYPE_INT, Fiddle::TYPE_LONG], Fiddle::TYPE_VOIDP
  )
  UNMAP = Fiddle::Function.new(Fiddle.dlopen(nil)["munmap"], [Fiddle::TYPE_VOIDP, Fiddle::TYPE_SIZE_T], Fiddle::TYPE_INT)
  READ_WRITE = 3
  SHARED = 1

  def initialize(folder)
    @paths = Array.new(COUNT) { |number| File.join(folder, "open#{number}") }
  end

  # Seconds for one file. Another process has it open.
  def objects
    per_file { |path| ProcessShared::Mutex.new(path: path) }.tap { GC.start }
  end

  def files
    per_file do |path|
      File.open(path, "r+") { |file| UNMAP.call(MAP.call(nil, file.size, READ_WRITE, SHARED, file.fileno, 0), file.size) }
    end
  end

  # Runs the block while another process has all of them open.
  def in_use
    ready, done = IO.pipe
    child = fork do
      ready.close
      kept = @paths.map { |path| ProcessShared::Mutex.new(path: path) }
      done.write(kept.size.to_s)
      sleep
    end
    done.close
    ready.readpartial(9)
    yield
  ensure
    Process.kill(:KILL, child)
    Process.wait(child)
  end

  private

  def per_file(&open)
    start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    @paths.each(&open)
    (Process.clock_gettime(Process::CLOCK_MONOTONIC) - start) / COUNT
  end
end

Dir.mktmpdir("process_shared-bench", File.directory?("/dev/shm") ? "/dev/shm" : nil) do |folder|
  path = File.join(folder, "lock")
  { "lock, unlock" => "x.lock; x.unlock", "synchronize { }" => "x.synchronize { }" }.each do |work, code|
    Bench.compare("Mutex with a path", work) do |c|
      c.code("Mutex with a path", code, x: ProcessShared::Mutex.new(path: path))
      c.code("Mutex without", code, x: ProcessShared::Mutex.new, goal: 1.02)
    end
  end

  Bench.compare("Mutex", "lock, unlock in another, where a file is open") do |c|
    nested = "x.lock; y.lock; y.unlock; x.unlock"
    c.code("Mutex", nested, x: ProcessShared::Mutex.new, y: ProcessShared::Mutex.new)
    c.code("Thread::Mutex", nested, x: Thread::Mutex.new, y: Thread::Mutex.new, goal: 1.0)
    c.code("Mutex in one with a path", nested, x: ProcessShared::Mutex.new(path: path), y: ProcessShared::Mutex.new)
    c.code("Mutex with a path in one without", nested, x: ProcessShared::Mutex.new, y: ProcessShared::Mutex.new(path: path))
  end

  files = ManyFiles.new(folder)
  files.in_use do
    Bench.compare("Mutex with a path", "open it") do |c|
      c.timed("Mutex.new(path:)") { files.objects }
      c.timed("open, mmap, munmap, close", goal: 3.0) { files.files }
    end
  end
end
