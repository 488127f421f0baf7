# frozen_string_literal: true

module Storm
  # A ring of items, each its own number, between producers and consumers: even and odd slots.
  class Buffer < Scene
    HEAD, TAIL, RING = 0, 1, 2
    SIZE = 8

    def initialize(slots)
      super
      @cells = cells(RING + SIZE)
    end

    def progress = @cells[HEAD]

    private

    def produces?(me) = (me / Worker::THREADS).even?

    def length = @cells[TAIL] - @cells[HEAD]

    def put
      tail = @cells[TAIL]
      @cells[RING + tail % SIZE] = tail
      @cells[TAIL] = tail + 1
    end

    def take
      head = @cells[HEAD]
      check(@cells[RING + head % SIZE] == head, "item #{head} is not there")
      @cells[HEAD] = head + 1
    end
  end

  # Waits for two condition variables, with signal: one lost signal and everybody sleeps for ever.
  class ConditionBuffer < Buffer
    def initialize(slots)
      super
      # Who died with the lock may have had a signal and done nothing with it.
      @lock = ProcessShared::Mutex.new(on_abandoned: ->(_) { @conditions.each(&:broadcast) })
      @conditions = Array.new(2) { ProcessShared::ConditionVariable.new }
    end

    def step(me, random)
      own, others = produces?(me) ? @conditions : @conditions.reverse
      timeout = random.rand * 0.01 if random.rand(10).zero?
      @lock.lock
      begin
        while produces?(me) ? length == SIZE : length.zero?
          check(length.between?(0, SIZE), "#{length} items")
          pause(own, timeout)
          return if timeout
        end
        produces?(me) ? put : take
        others.signal
      ensure
        @lock.unlock
      end
    end

    def ring(random) = @conditions.sample(random: random).signal

    def verdict(_kills)
      check(length.between?(0, SIZE), "#{length} items")
      check(@conditions.all? { |condition| condition.waiters.zero? }, "waiters left")
    end

    private

    def pause(condition, timeout)
      condition.wait(@lock, timeout)
      check(@lock.owned?, "woken without the lock")
    end
  end

  # The same with a Monitor held twice.
  class MonitorBuffer < ConditionBuffer
    def initialize(slots)
      super
      @lock = ProcessShared::Monitor.new(on_abandoned: ->(_) { @conditions.each(&:broadcast) })
    end

    private

    def pause(condition, timeout)
      @lock.synchronize { super }
    end
  end

  # Two semaphores count room and items; a Mutex guards the ring.
  class SemaphoreBuffer < Buffer
    def initialize(slots)
      super
      @lock = ProcessShared::Mutex.new
      @room = ProcessShared::Semaphore.new(SIZE)
      @items = ProcessShared::Semaphore.new(0)
    end

    def step(me, random)
      from, to = produces?(me) ? [@room, @items] : [@items, @room]
      random.rand(10).zero? ? from.try_wait(random.rand * 0.01) : from.wait
      hold do
        @lock.synchronize { produces?(me) ? put : take }
        to.post
      end
    rescue Errno::ETIMEDOUT
      nil
    end

    # Nobody is killed here.
    def verdict(_kills)
      check(@room.value + @items.value == SIZE, "permits lost or made up")
      check(@items.value == length, "#{length} items")
    end
  end

  # The same among those who get killed: each takes at most MOST permits with it, so here are plenty.
  class MortalBuffer < Buffer
    PERMITS = 10_000
    MOST = 3

    def initialize(slots)
      super
      @permits = ProcessShared::Semaphore.new(0)
      @back = ProcessShared::Semaphore.new(PERMITS)
    end

    def step(me, random)
      from, to = produces?(me) ? [@permits, @back] : [@back, @permits]
      count = random.rand(1..MOST)
      taken = random.rand(10).zero? ? from.try_acquire(count, random.rand * 0.01) : from.acquire(count) || true
      hold { to.release(count) } if taken
    end

    def progress = @steps.get_array_of_int64(0, slots).sum

    def verdict(kills)
      missing = PERMITS - @permits.value - @back.value
      check(missing.between?(0, kills * Worker::THREADS * MOST), "#{missing} permits missing after #{kills} kills")
    end
  end
end
