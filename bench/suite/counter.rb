# frozen_string_literal: true

# A counter that processes increment under a lock; time for one increment, of all of them.

require "tempfile"

# Each way to lock. The loops are bare, so that little but the lock is measured.
module Counter
  MEMORY = ProcessShared::SharedMemory.new(:int64)
  FILE = Tempfile.create("process_shared").tap { |file| File.unlink(file.path) }
  PYTHON = File.expand_path("../counter.py", __dir__)

  module_function

  # Seconds an increment takes when `processes` share `total` increments; `start` is run in each of them.
  def time(processes, total, &start)
    each = total / processes
    MEMORY.put_int64(0, 0)
    seconds = Bench::Crew.time(processes) { start.call(each) }
    lost = each * processes - MEMORY.get_int64(0)
    raise "#{lost} increments were lost" unless lost.zero?

    seconds / (each * processes)
  end

  def mutex(processes, total, lock = ProcessShared::Mutex.new)
    memory = MEMORY
    time(processes, total) do |times|
      while (times -= 1) >= 0
        lock.synchronize { memory.put_int64(0, memory.get_int64(0) + 1) }
      end
    end
  end

  def semaphore(processes, total)
    mutex(processes, total, ProcessShared::Semaphore.new(1))
  end

  def flock(processes, total)
    memory = MEMORY
    path = "/proc/#{Process.pid}/fd/#{FILE.fileno}" # a description of its own for each process
    time(processes, total) do |times|
      File.open(path) do |file|
        while (times -= 1) >= 0
          file.flock(File::LOCK_EX)
          memory.put_int64(0, memory.get_int64(0) + 1)
          file.flock(File::LOCK_UN)
        end
      end
    end
  end

  # A byte in a pipe is the lock.
  def pipe(processes, total)
    reader, writer = IO.pipe
    writer.syswrite(".")
    memory = MEMORY
    byte = +""
    time(processes, total) do |times|
      while (times -= 1) >= 0
        reader.sysread(1, byte)
        memory.put_int64(0, memory.get_int64(0) + 1)
        writer.syswrite(byte)
      end
    end
  ensure
    [reader, writer].each(&:close)
  end

  def python(processes, total)
    Bench::Rivals.run(Bench::Rivals.python, PYTHON, processes.to_s, (total / processes).to_s)
  end
end

total = Bench.quick? ? 640 : 80_000
[2, 4, 8, 32].each do |processes|
  Bench.compare("Mutex", "counter, #{processes} processes", rounds: 9) do |c|
    c.timed("Mutex") { Counter.mutex(processes, total * 4) }
    c.timed("File#flock", goal: 0.1) { Counter.flock(processes, total / 4) }
    if Bench::Rivals.python
      c.timed("Python's multiprocessing.Lock", goal: 0.5) { Counter.python(processes, total) }
    else
      c.leave_out("Python's multiprocessing.Lock", "python3 is not there")
    end
  end
end

Bench.grow(
  "processes", "A counter under a lock", "processes", [1, 2, 4, 8, 16, 32, 64],
  "Mutex" => ->(processes) { Counter.mutex(processes, total * 2) },
  "Semaphore" => ->(processes) { Counter.semaphore(processes, total * 2) },
  "File#flock" => ->(processes) { Counter.flock(processes, total / 8) },
  "byte in a pipe" => ->(processes) { Counter.pipe(processes, total / 8) }
)
