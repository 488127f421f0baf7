# frozen_string_literal: true

module Storm
  # A turn that goes round: who has it gives it to the next, under a lock, with a broadcast.
  class Turns < Scene
    STATIONS = 3

    def initialize(slots)
      super
      @lock = ProcessShared::Mutex.new
      @changed = ProcessShared::ConditionVariable.new
      @cells = cells(1)
    end

    def step(_me, random)
      station = random.rand(STATIONS)
      @lock.synchronize do
        @changed.wait(@lock, 0.05) unless @cells[0] % STATIONS == station
        return unless @cells[0] % STATIONS == station

        @cells[0] += 1
        @changed.broadcast
      end
    end

    def ring(_random) = @changed.broadcast

    def progress = @cells[0]
  end

  # One permit that goes round a ring of semaphores.
  class Relay < Scene
    STATIONS = 4

    def initialize(slots)
      super
      @stations = Array.new(STATIONS) { |index| ProcessShared::BinarySemaphore.new(index.zero? ? 1 : 0) }
    end

    def step(_me, random)
      station = random.rand(STATIONS)
      @stations[station].try_wait(random.rand * 0.01)
      hold { @stations[(station + 1) % STATIONS].post }
    rescue Errno::ETIMEDOUT
      nil
    end

    def verdict(_kills)
      check(@stations.sum(&:value) == 1, "the permit was lost or doubled")
    end
  end

  # Mutex#sleep and wakeup_first: sleepers wait for the generation to change.
  class Sleepers < Scene
    def initialize(slots)
      super
      @lock = ProcessShared::Mutex.new
      @cells = cells(1)
    end

    def step(me, random)
      if (me / Worker::THREADS).even?
        @lock.synchronize { @cells[0] += 1 }
        slots.times { @lock.wakeup_first }
      else
        timeout = random.rand * 0.01 if random.rand(4).positive?
        @lock.synchronize do
          seen = @cells[0]
          @lock.sleep(timeout) if @cells[0] == seen
          check(@lock.owned?, "woken without the lock")
        end
      end
    end

    def ring(_random) = @lock.wakeup_first

    def verdict(_kills)
      check(@lock.try_lock(1), "still held")
      @lock.unlock
    end
  end
end
