# frozen_string_literal: true

require "timeout"

# Whatever ends a wait from outside does so at once, and the wait has then taken nothing.
RSpec.describe "Interrupts" do
  at_once = 0.2 # seconds, on a machine that is busy with other things

  BlockingCall.names.each do |name|
    describe "in #{name}" do
      let!(:call) { BlockingCall.named(name) }

      # A thread that waits in the call; returns when it does. Its value is the block's, which gets a wait to call.
      def waiter
        thread = in_thread do
          call.enter.call
          yield call.wait
        end
        wait_until { call.waiting.call && thread.status == "sleep" }
        thread
      end

      # The object still works: one that waits gets what is released.
      def expect_in_order
        thread = waiter { |wait| wait.call && call.leave.call && :done }
        call.release.call
        expect(thread.value).to be :done
      end

      # The shortest of a few: what it takes where nothing else keeps the machine busy.
      def shortest
        Array.new(3) { yield }.min
      end

      it "Thread#raise comes out at once, with nothing taken" do
        took = shortest do
          thread = waiter do |wait|
            wait.call
          rescue KeyError
            [Process.clock_gettime(Process::CLOCK_MONOTONIC), call.intact.call].tap { call.leave.call if call.sleeps }
          end
          start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
          thread.raise(KeyError)
          ended, intact = thread.value
          expect(intact).to be true
          ended - start
        end
        expect(took).to be < at_once
        expect_in_order
      end

      it "Thread#kill ends it at once, with nothing taken" do
        took = shortest do
          intact = nil
          thread = waiter do |wait|
            wait.call
          ensure
            intact = call.intact.call
            call.leave.call if call.sleeps
          end
          time = seconds { thread.kill.join }
          expect(intact).to be true
          time
        end
        expect(took).to be < at_once
        expect_in_order
      end

      it "Timeout.timeout ends it, with nothing taken" do
        thread = in_thread do
          call.enter.call
          begin
            Timeout.timeout(0.02) { call.wait.call }
          rescue Timeout::Error
            call.intact.call.tap { call.leave.call if call.sleeps }
          end
        end
        expect(thread.value).to be true
        expect_in_order
      end

      if BlockingCall.named(name).sleeps
        it "Thread#wakeup returns, with the lock held" do
          thread = waiter { |wait| [wait.call, call.intact.call].tap { call.leave.call } }
          thread.wakeup
          expect(thread.value).to match [Integer, true]
        end
      else
        it "Thread#wakeup changes nothing" do
          thread = waiter { |wait| wait.call && :done }
          5.times do
            thread.wakeup
            Thread.pass
            wait_until { call.waiting.call && thread.status == "sleep" }
          end
          call.release.call
          expect(thread.value).to be :done
        end
      end

      it "an exception that is pending already comes out with :on_blocking" do
        ready = Thread::Queue.new
        thread = in_thread do
          Thread.handle_interrupt(KeyError => :on_blocking) do
            call.enter.call
            ready << true
            Thread.pass until Thread.pending_interrupt?
            call.wait.call
          rescue KeyError
            call.intact.call.tap { call.leave.call if call.sleeps }
          end
        end
        ready.pop
        thread.raise(KeyError)
        expect(thread.join(2)&.value).to be true
        expect_in_order
      end

      it "an exception comes out of the wait with :on_blocking" do
        thread = waiter do |wait|
          Thread.handle_interrupt(KeyError => :on_blocking) do
            wait.call
          rescue KeyError
            call.intact.call
          end
        end
        thread.raise(KeyError)
        expect(thread.join(2)&.value).to be true
      end

      it "an exception waits for the end of the wait with :never" do
        ended = false
        thread = waiter do |wait|
          Thread.handle_interrupt(KeyError => :never) do
            wait.call
            ended = true
          end
        rescue KeyError
          [:late, ended]
        end
        thread.raise(KeyError)
        3.times { Thread.pass }
        expect(thread).to be_alive
        call.release.call
        expect(thread.join(2)&.value).to eq [:late, true]
      end

      it "an exception that races with the release takes either all or nothing" do
        100.times do |round|
          call = BlockingCall.named(name)
          thread = in_thread do
            Thread.handle_interrupt(KeyError => :on_blocking) do
              call.enter.call
              outcome = begin
                call.wait.call && :had
              rescue KeyError
                :refused
              end
              outcome
            end
          rescue KeyError
            :had_and_then_interrupted
          end
          wait_until { call.waiting.call && thread.status == "sleep" }
          actions = [-> { thread.raise(KeyError) }, -> { call.release.call }]
          actions.reverse! if round.odd?
          actions.each(&:call)
          thread.join
          next if call.sleeps || thread.value != :refused

          second = in_thread { call.wait.call && :had }
          expect(second.join(2)&.value).to be :had
        end
      end
    end
  end

  describe "in ConditionVariable#wait, racing with a signal" do
    let!(:mutex) { ProcessShared::Mutex.new }
    let!(:condition) { ProcessShared::ConditionVariable.new }

    it "leave the signal to the next in line" do
      100.times do |round|
        first = in_thread do
          Thread.handle_interrupt(KeyError => :on_blocking) do
            mutex.synchronize { condition.wait(mutex) && :woken }
          rescue KeyError
            :interrupted
          end
        rescue KeyError
          :woken
        end
        wait_until { condition.waiters == 1 }
        second = in_thread { mutex.synchronize { condition.wait(mutex) && :woken } }
        wait_until { condition.waiters == 2 }
        actions = [-> { first.raise(KeyError) }, -> { condition.signal }]
        actions.reverse! if round.odd?
        actions.each(&:call)
        if first.value == :woken
          expect(condition.waiters).to be 1
          condition.signal
        end
        expect(second.join(2)&.value).to be :woken
      end
    end
  end

  describe "while it takes the mutex again" do
    let!(:mutex) { ProcessShared::Mutex.new }
    let!(:condition) { ProcessShared::ConditionVariable.new }

    after { mutex.unlock if mutex.owned? }

    # A thread whose wait has ended by `how`, and which waits for the mutex, held by the caller. With it, what tells what its
    # ensure part saw.
    def retaking(how)
      loop do
        seen = nil
        thread = in_thread do
          mutex.lock
          begin
            how.call
          ensure
            seen = [mutex.owned?, condition.waiters, mutex.waiters]
            mutex.unlock
          end
        end
        wait_until { condition.waiters == 1 }
        mutex.lock
        if seen # its time was over before it could be kept from the mutex
          mutex.unlock
          next
        end
        yield thread
        wait_until { mutex.waiters == 1 }
        return [thread, -> { seen }]
      end
    end

    ways = {
      "Thread#raise" => [-> { condition.wait(mutex) }, ->(thread) { thread.raise(KeyError, "first") }],
      "Thread#kill" => [-> { condition.wait(mutex) }, ->(thread) { thread.kill }],
      "Timeout" => [-> { Timeout.timeout(0.05) { condition.wait(mutex) } }, ->(_) {}],
      "a signal" => [-> { condition.wait(mutex) }, ->(_) { condition.signal }],
      "the timeout of the wait" => [-> { condition.wait(mutex, 0.05) }, ->(_) {}]
    }
    ways.each do |name, (wait, stop)|
      it "after #{name}, further ones still find the mutex held" do
        thread, seen = retaking(-> { instance_exec(&wait) }) { |waiting| instance_exec(waiting, &stop) }
        3.times { |i| thread.raise(IndexError, "further #{i}") && sleep(0.005) }
        wait_until { mutex.waiters == 1 }
        expect(mutex).to be_owned
        mutex.unlock
        expect { thread.value }.to raise_error(IndexError)
        expect(seen.call).to eq [true, 0, 0]
        expect(mutex).not_to be_locked
      end

      it "after #{name}, a kill still finds the mutex held" do
        thread, seen = retaking(-> { instance_exec(&wait) }) { |waiting| instance_exec(waiting, &stop) }
        2.times { thread.kill && sleep(0.005) }
        wait_until { mutex.waiters == 1 }
        mutex.unlock
        thread.join
        expect(seen.call).to eq [true, 0, 0]
        expect(mutex).not_to be_locked
      end
    end
  end

  describe "in Mutex#lock" do
    let!(:mutex) { ProcessShared::Mutex.new.lock }

    it "leave the unlock to the next in line" do
      100.times do
        first = in_thread { mutex.synchronize { :in } }
        wait_until { mutex.waiters == 1 }
        second = in_thread { mutex.synchronize { :in } }
        wait_until { mutex.waiters == 2 }
        mutex.unlock
        first.kill
        expect(second.join(2)&.value).to be :in
        first.join
        mutex.lock
      end
    end

    it "by Timeout, many at once, leave a working mutex" do
      threads = Array.new(10) do |i|
        in_thread { Timeout.timeout(0.01 * (i % 3 + 1)) { mutex.synchronize { :in } } rescue :late }
      end
      expect(threads.map(&:value)).to eq([:late] * 10)
      mutex.unlock
      expect(mutex.synchronize { :in }).to be :in
    end
  end
end
