# frozen_string_literal: true

# A cache in shared memory that every process reads and writes. A process that is killed in the middle of a write leaves
# the memory half-written and the lock locked: the next process that wants the lock gets it, and on_abandoned repairs the
# memory before anybody reads it.

require "process_shared"

class ResultCache
  def initialize(bytes)
    @memory = ProcessShared::SharedMemory.new(bytes)
    @lock = ProcessShared::Mutex.new(on_abandoned: ->(_lock) { clear })
    clear
  end

  # The value for `key`; the block computes it, in one process at a time, where it is not in the cache.
  def fetch(key)
    @lock.synchronize do
      entries = @memory.read_object
      next entries[key] if entries.key?(key)

      yield.tap { |value| store(entries.merge(key => value)) }
    end
  end

  private

  def store(entries)
    @memory.write_object(entries)
  rescue IndexError # full
    clear
  end

  def clear = @memory.write_object({})
end

return unless $PROGRAM_NAME == __FILE__

cache = ResultCache.new(64 * 1024)
calls = ProcessShared::Semaphore.new(0)
compute = -> { calls.post && 42 }

Process.wait(fork { cache.fetch(:answer, &compute) })
puts "from the cache: #{cache.fetch(:answer, &compute)}, computed #{calls.value} time"
abort "computed again" unless calls.value == 1

Process.wait(fork { cache.fetch(:other) { Process.kill(:KILL, Process.pid) } })
puts "after a process was killed in it: #{cache.fetch(:answer, &compute)}, computed #{calls.value} times"
abort "not repaired" unless calls.value == 2 && cache.fetch(:answer) { :lost } == 42
