# frozen_string_literal: true

module ProcessShared
  # Waits that a helper thread does: for a non-blocking fiber, so that its thread's other fibers go on, and for locks
  # of other libraries, which only know how to sleep. Waiting for a queue is what a scheduler understands.
  #
  # A thread may be killed while its fibers wait. They run no ensure then, and Ruby must not be asked to wake them: it
  # would look at memory that is gone. So nobody says anything to a thread that is over, and its helpers end with it.
  module FiberScheduler
    # The fiber that a helper waits for has stopped waiting.
    class Interrupted < StandardError; end

    # A thread that can be ended also when the calling one puts off whatever would end it: new threads inherit that.
    def self.thread
      Thread.new do
        Thread.current.report_on_exception = false
        Thread.handle_interrupt(Object => :immediate) { yield }
      end
    end

    # The helpers of one thread, in a thread variable of its, and a warden that ends those it leaves behind.
    class Helpers
      KEY = :process_shared_helpers

      # Those of the calling thread; new ones in a forked child, which has neither helpers nor warden.
      def self.mine
        thread = Thread.current
        helpers = thread.thread_variable_get(KEY)
        helpers&.guarded? ? helpers : new(thread).tap { |fresh| thread.thread_variable_set(KEY, fresh) }
      end

      def initialize(owner)
        threads = @threads = {}.compare_by_identity
        return if owner == Thread.main # with which all others end

        @warden = FiberScheduler.thread do
          owner.join
        rescue Exception # rubocop:disable Lint/RescueException -- whatever ended the owner has been told already
          raise if owner.alive?
        ensure
          threads.each_key(&:kill)
        end
      end

      def guarded? = @warden.nil? || @warden.alive?
      def add(thread) = @threads[thread] = true
      def forget(thread) = @threads.delete(thread)
    end

    # A thread that waits for the calling one, and tells it what comes of it.
    class Helper
      # Runs `work` in a helper thread, yields the helper, and ends it after the block. `work` is given a callable, by which
      # it tells how far it is. `let_go` makes sure that the work can end, also if an exception comes before the block.
      def self.for(work, let_go = nil)
        helpers = Helpers.mine
        helper = new(work)
        helpers.add(helper.thread)
        yield helper
      ensure
        let_go&.call
        if helper
          helper.finish
          helpers.forget(helper.thread)
        end
      end

      attr_reader :thread

      def initialize(work)
        owner = Thread.current
        said = @said = Thread::Queue.new
        say = ->(word) { owner.alive? ? said << word : raise(Interrupted) }
        @thread = FiberScheduler.thread do
          outcome = [nil, ThreadError.new("the thread that waited in place of a fiber was killed")]
          outcome = [work.call(say)]
        rescue Exception => error # rubocop:disable Lint/RescueException -- it is raised in the other thread
          outcome = [nil, error]
        ensure
          said << outcome if owner.alive?
        end
      end

      # Waits until the helper tells something more, or is over.
      def await
        @outcome ||= @said.pop.then { |word| word if word.is_a?(Array) }
      end

      # Whether it has told something that was not awaited yet, or is over.
      def heard? = !@said.empty?

      # What the work returned or raised.
      def value
        await until @outcome
        result, error = @outcome
        raise error if error

        result
      end

      # Ends its sleep, if it is in one.
      def hurry
        @thread.wakeup
        self
      rescue ThreadError # it is over
        self
      end

      # Ends it. That takes no longer than for a thread to wake up.
      def finish
        @thread.kill
        Thread.pass while @thread.alive?
      end
    end
    private_constant :Helpers, :Helper

    class << self
      # Until object (a lock or semaphore) may be free, or timeout seconds have passed. amount is how much of it is wanted.
      def watch(object, timeout, *amount)
        Helper.for(->(_) { object.__send__(:watch, timeout, *amount) }, &:value)
      end

      # What a method of object returns. Ending the wait must leave nothing half done.
      def call(object, name, *arguments)
        Helper.for(->(_) { object.__send__(name, *arguments) }, &:value)
      end

      # ConditionVariable#wait and Mutex#sleep: condition is the object waited for, lock what is released meanwhile.
      def wait(condition, lock, timeout)
        locked = Thread::Queue.new
        work = lambda do |say|
          retake = lambda do |broken|
            next if broken # the fiber is told of that

            say.call(:woken)
            locked.pop or raise Interrupted # so that a signal goes to the next
          end
          condition.__send__(:wait_between, -> { say.call(:entered) }, retake, timeout)
        end
        Helper.for(work, -> { locked.close }) do |helper|
          helper.await # until it has entered
          asleep(lock) { helper.await }
          locked << true
          helper.value
        end
      end

      # ConditionVariable#wait with a lock that has nothing but sleep(timeout), as in core.
      def sleep_on(condition, lock, timeout)
        thread, fiber, scheduler = Thread.current, Fiber.current, Fiber.current_scheduler
        wake = scheduler ? -> { scheduler.unblock(lock, fiber) } : -> { thread.wakeup }
        asleep = over = false
        work = lambda do |say|
          # The sleeper may not be asleep yet: wake it until it says that it has been. A scheduler sees to that itself,
          # and a second word would end another sleep of the fiber.
          retake = lambda do |_|
            say.call(:woken)
            until over
              wake.call if asleep
              asleep &&= !scheduler
              sleep 0.001
            end
          end
          condition.__send__(:wait_between, -> { say.call(:entered) }, retake, nil)
        end
        Helper.for(work, -> { over = true }) do |helper|
          helper.value if helper.await # could not enter
          asleep = true # or about to be
          slept = lock.sleep(timeout)
          if helper.heard? && (slept || !timeout) # or else the signal goes to the next
            over = true
            helper.hurry.value
          end
          condition.closed? ? condition.waiters : slept # which says that it is closed
        end
      end

      private

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
  private_constant :FiberScheduler
end
