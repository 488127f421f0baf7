# frozen_string_literal: true

# Every call that can wait, described so that one spec can be run over all of them.
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

    private

    def lock(name, klass, &wait)
      @makers[name] = lambda do
        taken = klass.new.lock
        new(enter: NOTHING, wait: -> { wait.call(taken) }, waiting: -> { taken.waiters == 1 },
            intact: -> { !taken.owned? && taken.waiters.zero? }, release: -> { taken.unlock },
            leave: -> { taken.unlock }, sleeps: false, close: -> { taken.close })
      end
    end

    def permit(name, klass, &wait)
      @makers[name] = lambda do
        empty = klass.new(0)
        new(enter: NOTHING, wait: -> { wait.call(empty) }, waiting: -> { empty.waiters == 1 },
            intact: -> { empty.value.zero? && empty.waiters.zero? }, release: -> { empty.post },
            leave: -> { empty.post }, sleeps: false, close: -> { empty.close })
      end
    end

    def sleep(name, klass)
      @makers[name] = lambda do
        mutex = klass.new
        entered = ProcessShared::Semaphore.new(0)
        new(enter: -> { mutex.lock && entered.post }, wait: -> { mutex.sleep },
            waiting: -> { entered.value == 1 && !mutex.locked? }, intact: -> { mutex.owned? },
            release: -> { mutex.wakeup_first }, leave: -> { mutex.unlock && entered.try_wait }, sleeps: true,
            close: -> { mutex.close })
      end
    end

    def condition(name, &make)
      @makers[name] = lambda do
        mutex = make.call
        condition = ProcessShared::ConditionVariable.new
        new(enter: -> { mutex.lock }, wait: -> { condition.wait(mutex) }, waiting: -> { condition.waiters == 1 },
            intact: -> { mutex.locked? && condition.waiters.zero? }, release: -> { condition.signal },
            leave: -> { mutex.unlock }, sleeps: true, close: -> { condition.close })
      end
    end
  end

  lock("Mutex#lock", ProcessShared::Mutex, &:lock)
  lock("Mutex#try_lock(60)", ProcessShared::Mutex) { |taken| taken.try_lock(60) }
  lock("Monitor#enter", ProcessShared::Monitor) { |taken| taken.enter || true }
  lock("Monitor#try_lock(60)", ProcessShared::Monitor) { |taken| taken.try_lock(60) }
  permit("Semaphore#wait", ProcessShared::Semaphore, &:wait)
  permit("Semaphore#try_wait(60)", ProcessShared::Semaphore) { |empty| empty.try_wait(60) }
  permit("BinarySemaphore#wait", ProcessShared::BinarySemaphore, &:wait)
  permit("the lock of Semaphore#to_mtx", ProcessShared::Semaphore) { |empty| empty.to_mtx.lock }
  sleep("Mutex#sleep", ProcessShared::Mutex)
  sleep("Monitor#sleep", ProcessShared::Monitor)
  condition("ConditionVariable#wait with a Mutex") { ProcessShared::Mutex.new }
  condition("ConditionVariable#wait with a Monitor") { ProcessShared::Monitor.new }
  condition("ConditionVariable#wait with a semaphore's lock") { ProcessShared::Semaphore.new.to_mtx }
end
