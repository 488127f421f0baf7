# frozen_string_literal: true

# What a condition variable does, whatever mutex it is used with. Thread::ConditionVariable with Thread::Mutex runs these
# examples too.
#
# The including group defines `condition`, and `mutex` that nobody holds.
RSpec.shared_examples "a condition variable" do
  # A thread that waits; returns once it does.
  def waiting_thread(timeout = nil)
    held = false
    thread = in_thread do
      mutex.synchronize do
        held = true
        result = condition.wait(mutex, timeout)
        [result, mutex.locked?]
      end
    end
    wait_until { held && thread.status == "sleep" }
    mutex.synchronize { nil }
    thread
  end

  describe "#wait" do
    it "frees the mutex while it waits, and holds it again afterwards" do
      thread = waiting_thread
      mutex.synchronize { condition.signal }
      expect(thread.value).to match [Integer, true]
    end

    it "returns nil when the time is up, with the mutex held" do
      mutex.synchronize do
        result = :none
        expect(seconds { result = condition.wait(mutex, 0.03) }).to be >= 0.03
        expect(result).to be_nil
        expect(mutex).to be_locked
      end
    end

    it "returns an Integer when woken before the time is up" do
      thread = waiting_thread(100)
      condition.signal
      expect(thread.value).to match [Integer, true]
    end

    it "waits for the mutex before it returns" do
      thread = waiting_thread
      mutex.lock
      condition.signal
      wait_until_blocked(thread)
      mutex.unlock
      expect(thread.value).to match [Integer, true]
    end

    it "holds the mutex again before an exception comes out" do
      held = false
      thread = in_thread do
        mutex.lock
        held = true
        condition.wait(mutex)
      rescue KeyError
        mutex.locked?
      end
      wait_until { held && thread.status == "sleep" }
      thread.raise(KeyError)
      expect(thread.value).to be true
    end

    it "returns, with the mutex held, when its thread is woken by Thread#wakeup" do
      thread = waiting_thread
      thread.wakeup
      expect(thread.value.last).to be true
    end

    it "raises ArgumentError for a negative time, with the mutex held" do
      mutex.synchronize do
        expect { condition.wait(mutex, -1) }.to raise_error(ArgumentError, /negative/)
        expect(mutex).to be_locked
      end
    end

    it "raises ThreadError where the mutex is not held" do
      expect { condition.wait(mutex, 0.1) }.to raise_error(ThreadError)
    end
  end

  describe "#signal" do
    it "returns self, with and without waiters" do
      expect(condition.signal).to be condition
      thread = waiting_thread
      expect(condition.signal).to be condition
      thread.value
    end

    it "wakes one waiter, and no second one" do
      threads = Array.new(2) { waiting_thread }
      condition.signal
      wait_until { threads.one? { |thread| !thread.alive? } }
      expect(threads.reject(&:alive?).size).to be 1
      condition.signal
      threads.each(&:value)
    end

    it "wakes in the order of the waits" do
      order = Thread::Queue.new
      threads = Array.new(5) do |i|
        held = false
        thread = in_thread do
          mutex.synchronize do
            held = true
            condition.wait(mutex)
            order << i
          end
        end
        wait_until { held && thread.status == "sleep" }
        thread
      end
      mutex.synchronize { nil }
      threads.each_index do |i|
        condition.signal
        wait_until { order.size == i + 1 }
      end
      expect(Array.new(5) { order.pop }).to eq [0, 1, 2, 3, 4]
    end

    it "is forgotten when nobody waits" do
      3.times { condition.signal }
      mutex.synchronize { expect(condition.wait(mutex, 0.02)).to be_nil }
    end
  end

  describe "#broadcast" do
    it "returns self, with and without waiters" do
      expect(condition.broadcast).to be condition
      thread = waiting_thread
      expect(condition.broadcast).to be condition
      thread.value
    end

    it "wakes all that wait" do
      threads = Array.new(5) { waiting_thread }
      condition.broadcast
      expect(threads.map(&:value)).to match([[Integer, true]] * 5)
    end

    it "is forgotten when nobody waits" do
      condition.broadcast
      mutex.synchronize { expect(condition.wait(mutex, 0.02)).to be_nil }
    end
  end
end
