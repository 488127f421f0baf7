# frozen_string_literal: true

# A cache in shared memory that every process reads and writes. A process that is killed in the middle of a
# write leaves the memory half-written, and the lock locked: the next one that wants the lock gets it, and has
# it repaired first, by on_abandoned.

require "process_shared"

class ResultCache
  def initialize(bytes)
    @memory = ProcessShared::SharedMemory.new(bytes)
    @lock = ProcessShared::Mutex.new(on_abandoned: ->(_lock) { repair })
    @memory.write_object({})
  end

  def fetch(key)
    @lock.synchronize do
      entries = @memory.read_object
      next entries[key] if entries.key?(key)

      value = yield
      @memory.write_object(entries.merge(key => value))
      value
    end
  end

  # For the demonstration: dies while it writes.
  def die_while_writing
    @lock.lock
    @memory.put_bytes(0, "\xff" * 16)
    Process.kill(:KILL, Process.pid)
  end

  private

  def repair
    puts "process #{Process.pid}: somebody died while writing, the cache starts again empty"
    @memory.write_object({})
  end
end

$stdout.sync = true
cache = ResultCache.new(64 * 1024)
calls = ProcessShared::Semaphore.new(0)
compute = -> { calls.post && 42 }

Process.wait(fork { cache.fetch(:answer, &compute) })
puts "from the cache: #{cache.fetch(:answer, &compute)}, computed #{calls.value} time"
abort "computed again" unless calls.value == 1

Process.wait(fork { cache.die_while_writing })
puts "after the crash: #{cache.fetch(:answer, &compute)}, computed #{calls.value} times"
abort "not repaired" unless calls.value == 2 && cache.fetch(:answer) { :lost } == 42
