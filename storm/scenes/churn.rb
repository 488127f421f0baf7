# frozen_string_literal: true

module Storm
  # Makes and drops objects, forks while holding locks, collects garbage: beside the others, in the same processes.
  class Churn < Scene
    def initialize(slots)
      super
      @lock = ProcessShared::Mutex.new
      @counted = ProcessShared::Semaphore.new(0)
    end

    def step(_me, random)
      case random.rand(20)
      when 0 then hold { fork_holding }
      when 1 then GC.start(full_mark: random.rand(4).zero?)
      when 2 then GC.respond_to?(:compact) && GC.compact
      when 3 then hold { Thread.new { ProcessShared::Monitor.new.enter } }
      else hold { make(random) }
      end
      hold { @counted.post }
    end

    private

    # A child is not the owner; it ends before its parent gives the lock back.
    def fork_holding
      @lock.lock
      pid = fork do
        good = !@lock.owned? && @lock.locked? && !@lock.try_lock && refused?
        exit!(good ? 0 : 1)
      end
      status = Process.wait2(pid).last
      check(status.success?, "a child of the holder believes it has the lock (#{status.inspect})")
    ensure
      @lock.unlock if @lock.owned?
    end

    def refused?
      @lock.unlock
      false
    rescue ProcessShared::ProcessError
      true
    end

    def make(random)
      mutex = ProcessShared::Mutex.new
      semaphore = ProcessShared::Semaphore.new(random.rand(3))
      mutex.lock if random.rand(2).zero?
      ProcessShared::ConditionVariable.new.signal
      semaphore.post
      memory = ProcessShared::SharedMemory.new(random.rand(1..100_000))
      memory.write_object([mutex.locked?, semaphore.value]) if memory.size > 100
      memory.close if random.rand(2).zero?
    end
  end
end
