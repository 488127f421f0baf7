# frozen_string_literal: true

# A call that can wait, described so that one spec can be run over all of them. Which there are, `SharedClass` lists.
#
#   enter    what the waiter does first
#   wait     the call that waits
#   waiting  whether somebody waits in it
#   intact   asked by the waiter after its wait ended by an exception: has it taken nothing, and does it hold what it
#            held before?
#   release  what somebody else does to let the wait end
#   leave    what the waiter does after a wait that ended well, so that the object is as it was
#   sleeps   whether it is a sleep, which may return early, and not a wait for something to be had
#   close    ends the use of what is waited for
BlockingCall = Struct.new(:enter, :wait, :waiting, :intact, :release, :leave, :sleeps, :close, keyword_init: true)

class BlockingCall
  NOTHING = -> {}

  @makers = {}

  class << self
    def names
      @makers.keys
    end

    # The call of that name, on a fresh object; what it waits for is taken by the caller.
    def named(name)
      @makers.fetch(name).call
    end

    # Each of the following describes a call on a `klass`; the block makes the call.

    def lock(name, klass, &wait)
      @makers[name] = lambda do
        taken = klass.new.lock
        new(enter: NOTHING, wait: -> { wait.call(taken) }, waiting: -> { taken.waiters == 1 },
            intact: -> { !taken.owned? && taken.waiters.zero? }, release: -> { taken.unlock },
            leave: -> { taken.unlock }, sleeps: false, close: -> { taken.close })
      end
    end

    def two_permits(name, klass, &wait) = permit(name, klass, 2, &wait)

    def permit(name, klass, count = 1, make: -> { klass.new(0) }, &wait)
      @makers[name] = lambda do
        empty = make.call
        new(enter: NOTHING, wait: -> { wait.call(empty) }, waiting: -> { empty.waiters == 1 },
            intact: -> { empty.value.zero? && empty.waiters.zero? }, release: -> { empty.release(count) || true },
            leave: -> { empty.release(count) || true }, sleeps: false, close: -> { empty.close })
      end
    end

    # The caller holds all permits: only their holder gives them back.
    def robust_permits(name, klass, &wait)
      permit(name, klass, 2, make: -> { klass.new(2, robust: true).tap { |semaphore| semaphore.acquire(2) } }, &wait)
    end

    def event(name, klass, &wait)
      @makers[name] = lambda do
        event = klass.new
        new(enter: NOTHING, wait: -> { wait.call(event) }, waiting: -> { event.waiters == 1 },
            intact: -> { !event.set? && event.waiters.zero? }, release: -> { event.set },
            leave: -> { event.reset }, sleeps: false, close: -> { event.close })
      end
    end

    # The waiter has to come first: a latch opens once.
    def latch(name, klass, &wait)
      @makers[name] = lambda do
        latch = klass.new
        new(enter: NOTHING, wait: -> { wait.call(latch) }, waiting: -> { latch.waiters == 1 },
            intact: -> { latch.count == 1 && latch.waiters.zero? }, release: -> { latch.count_down },
            leave: -> { true }, sleeps: false, close: -> { latch.close })
      end
    end

    def item(name, klass, &wait)
      @makers[name] = lambda do
        empty = klass.new
        new(enter: NOTHING, wait: -> { wait.call(empty) }, waiting: -> { empty.waiters == 1 },
            intact: -> { empty.empty? && empty.in_flight.empty? && empty.waiters.zero? }, release: -> { empty.push(1) },
            leave: -> { empty.push(1) }, sleeps: false, close: -> { empty.release })
      end
    end

    def room(name, klass, &wait)
      @makers[name] = lambda do
        full = klass.new(1).push(1)
        new(enter: NOTHING, wait: -> { wait.call(full) }, waiting: -> { full.waiters == 1 },
            intact: -> { full.size == 1 && full.waiters.zero? }, release: -> { full.pop }, leave: -> { full.pop },
            sleeps: false, close: -> { full.release })
      end
    end

    # Whoever waits for a ReadWriteLock that the caller writes, or reads.
    { written: %i[acquire_write_lock release_write_lock], read: %i[acquire_read_lock release_read_lock] }.each do |maker, (take, give)|
      define_method(maker) do |name, klass, &wait|
        @makers[name] = lambda do
          taken = klass.new
          taken.public_send(take)
          free = -> { %i[release_read_lock release_write_lock].any? { |release| taken.public_send(release) rescue nil } }
          new(enter: NOTHING, wait: -> { wait.call(taken) }, waiting: -> { taken.waiters == 1 },
              intact: -> { !free.call && taken.waiters.zero? }, release: -> { taken.public_send(give) },
              leave: free, sleeps: false, close: -> { taken.close })
        end
      end
    end

    # More parties than the specs have threads: a party without patience ends the wait, for all and until a reset.
    def barrier(name, klass, &wait)
      @makers[name] = lambda do
        barrier = klass.new(10)
        new(enter: -> { barrier.reset if barrier.broken? }, wait: -> { [wait.call(barrier)] }, waiting: -> { barrier.number_waiting == 1 },
            intact: -> { barrier.number_waiting.zero? && barrier.waiters.zero? }, release: -> { barrier.wait(0) },
            leave: -> { true }, sleeps: false, close: -> { barrier.close })
      end
    end

    # The caller computes the value, in a thread of its own.
    def computed(name, klass, &wait)
      @makers[name] = lambda do
        map, begun, go = klass.new(1 << 16), ProcessShared::Event.new, ProcessShared::Event.new
        Thread.new { map.fetch(:key) { begun.set && go.wait } }
        begun.wait
        new(enter: NOTHING, wait: -> { wait.call(map) }, waiting: -> { map.waiters == 1 },
            intact: -> { !map.key?(:key) && map.waiters.zero? }, release: -> { go.set }, leave: -> { true },
            sleeps: false, close: -> { map.close })
      end
    end

    def sleep(name, klass, &wait)
      @makers[name] = lambda do
        mutex = klass.new
        entered = ProcessShared::Semaphore.new(0)
        new(enter: -> { mutex.lock && entered.post }, wait: -> { wait.call(mutex) },
            waiting: -> { entered.value == 1 && !mutex.locked? }, intact: -> { mutex.owned? },
            release: -> { mutex.wakeup_first }, leave: -> { mutex.unlock && entered.try_wait }, sleeps: true,
            close: -> { mutex.close })
      end
    end

    def condition(name, klass, &make_lock)
      @makers[name] = lambda do
        mutex = make_lock.call
        condition = klass.new
        new(enter: -> { mutex.lock }, wait: -> { condition.wait(mutex) }, waiting: -> { condition.waiters == 1 },
            intact: -> { mutex.locked? && condition.waiters.zero? }, release: -> { condition.signal },
            leave: -> { mutex.unlock }, sleeps: true, close: -> { condition.close })
      end
    end
  end
end
