# frozen_string_literal: true

# A waiter that is killed, wherever it is between going to sleep and having what it waited for, costs nobody a wake-up.
RSpec.describe "A waiter that dies" do
  def waiting_child(&wait)
    child = fork_child { |parent| parent.say && wait.call }
    child.hear
    child
  end

  describe "in Mutex#lock" do
    let!(:mutex) { ProcessShared::Mutex.new }

    it "leaves the others to be woken" do
      mutex.lock
      waiters = Array.new(4) { waiting_child { mutex.synchronize { :in } } }
      wait_until_blocked(waiters)
      waiters.values_at(0, 2).each(&:kill)
      mutex.unlock
      expect(waiters.values_at(1, 3).map(&:value)).to eq %i[in in]
      expect(mutex).not_to be_locked
    end

    it "at the moment of the unlock leaves the others to be woken" do
      50.times do
        mutex.lock
        doomed = waiting_child { mutex.lock && sleep }
        other = waiting_child { mutex.synchronize { :in } }
        wait_until_blocked(doomed, other)
        mutex.unlock
        doomed.kill
        expect(other.value).to be :in
        mutex.synchronize { nil }
      end
    end

    it "is counted among the waiters no more" do
      mutex.lock
      waiter = waiting_child { mutex.lock }
      wait_until { mutex.waiters == 1 }
      waiter.kill
      expect(mutex.waiters).to be 0
    end
  end

  describe "in Semaphore#wait" do
    let!(:semaphore) { ProcessShared::Semaphore.new(0) }

    it "takes no permit with it" do
      waiters = Array.new(3) { waiting_child { semaphore.wait && nil } }
      wait_until { semaphore.waiters == 3 }
      waiters.each(&:kill)
      semaphore.post
      expect([semaphore.value, semaphore.waiters]).to eq [1, 0]
      expect(semaphore.try_wait).to be semaphore
    end

    it "leaves the others to be woken" do
      waiters = Array.new(4) { waiting_child { semaphore.wait && :had } }
      wait_until { semaphore.waiters == 4 }
      waiters.values_at(0, 1).each(&:kill)
      2.times { semaphore.post }
      expect(waiters.values_at(2, 3).map(&:value)).to eq %i[had had]
      expect(semaphore.value).to be 0
    end

    it "at the moment of the post leaves no permit free beside a sleeper" do
      50.times do
        doomed = waiting_child { semaphore.wait && sleep }
        wait_until { semaphore.waiters == 1 }
        other = waiting_child { semaphore.wait && :had }
        wait_until { semaphore.waiters == 2 }
        semaphore.post
        doomed.kill
        next semaphore.post && other.value if semaphore.value.zero? && semaphore.waiters == 1 # the doomed one had it

        expect(other.value).to be :had
        expect(semaphore.value).to be 0
      end
    end
  end

  describe "in ConditionVariable#wait" do
    let!(:mutex) { ProcessShared::Mutex.new }
    let!(:condition) { ProcessShared::ConditionVariable.new }

    def waiting_on_condition
      count = condition.waiters
      child = fork_child { mutex.synchronize { [condition.wait(mutex), mutex.owned?] } }
      wait_until { condition.waiters == count + 1 }
      child
    end

    it "takes no signal with it, and keeps none for later" do
      waiting_on_condition.kill
      expect(condition.waiters).to be 0
      condition.signal
      expect(mutex.synchronize { condition.wait(mutex, 0.02) }).to be_nil
    end

    it "leaves the signal to the next in line" do
      first = waiting_on_condition
      second = waiting_on_condition
      third = waiting_on_condition
      first.kill
      condition.signal
      expect(second.value).to match [Integer, true]
      expect(third).to be_alive
      condition.broadcast
      expect(third.value).to match [Integer, true]
    end

    it "delays no broadcast" do
      children = Array.new(5) { waiting_on_condition }
      children.values_at(0, 2, 4).each(&:kill)
      condition.broadcast # waits for nobody, or the watchdog ends it
      expect(children.values_at(1, 3).map(&:value)).to match [[Integer, true]] * 2
    end

    it "after its signal, before it has the mutex, leaves the mutex to others" do
      child = waiting_on_condition
      mutex.lock
      condition.signal
      wait_until { mutex.waiters == 1 }
      child.kill
      mutex.unlock
      expect(in_child { mutex.synchronize { mutex.abandoned? } }).to be false
    end

    it "does not stop later waits and signals, many times" do
      30.times do
        doomed = waiting_on_condition
        other = waiting_on_condition
        condition.signal
        doomed.kill
        mutex.synchronize { condition.signal }
        expect(other.value).to match [Integer, true]
      end
      expect([condition.waiters, mutex.locked?]).to eq [0, false]
    end
  end
end
