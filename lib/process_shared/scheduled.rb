# frozen_string_literal: true

module ProcessShared
  # Waits that a helper thread does: for a non-blocking fiber, so that its thread's other fibers go on, and for locks
  # of other libraries, which only know how to sleep. Waiting for a thread or a queue is what a scheduler understands.
  module Scheduled
    # The fiber that a helper thread waits for has stopped waiting.
    class Interrupted < StandardError; end

    class << self
      # Until object (a lock or semaphore) may be free, or timeout seconds have passed.
      def watch(object, timeout)
        helper(-> { object.__send__(:watch, timeout) }, &:value)
      end

      # ConditionVariable#wait and Mutex#sleep: condition is the object waited for, lock what is released meanwhile.
      def wait(condition, lock, timeout)
        entered = Thread::Queue.new
        woken = Thread::Queue.new
        locked = Thread::Queue.new
        release = -> { entered << true }
        retake = lambda do
          woken << true
          locked.pop or raise Interrupted # so that a signal goes to the next
        end
        work = -> { condition.__send__(:wait_between, release, retake, timeout) }
        helper(work, -> { locked.close }) do |thread|
          entered.pop
          asleep(lock) { woken.pop }
          locked << true
          thread.value
        end
      end

      # ConditionVariable#wait with a lock that has nothing but sleep(timeout), as in core.
      def sleep_on(condition, lock, timeout)
        sleeper = Thread.current
        entered = Thread::Queue.new
        over = false
        # The sleeper may not be asleep yet: wake it until it says that it has been.
        retake = lambda do
          until over
            sleeper.wakeup
            sleep 0.001
          end
        end
        work = -> { condition.__send__(:wait_between, -> { entered << true }, retake, nil) }
        helper(work, -> { over = true }) do
          entered.pop
          lock.sleep(timeout)
        end
      end

      private

      # Runs work in a thread of its own for as long as the block needs it; let_go makes sure that it can end, also when
      # an exception came before the block began.
      def helper(work, let_go = nil)
        thread = Thread.new do
          Thread.current.report_on_exception = false
          work.call
        end
        yield thread
      ensure
        let_go&.call
        thread&.kill
        finish(thread) if thread
      end

      def finish(thread)
        thread.join
      rescue Interrupted
        nil
      end

      def asleep(lock)
        levels = lock.__send__(:release)
        begin
          yield
        ensure
          lock.__send__(:retake, levels)
        end
      end
    end
  end
  private_constant :Scheduled
end
