# frozen_string_literal: true

require "delegate"

RSpec.describe Thread::ConditionVariable, "the model" do
  let!(:condition) { described_class.new }
  let!(:mutex) { Thread::Mutex.new }

  it_behaves_like "a condition variable"
end

RSpec.describe ProcessShared::ConditionVariable do
  subject!(:condition) { described_class.new }
  let!(:mutex) { ProcessShared::Mutex.new }

  context "with a Mutex" do
    it_behaves_like "a condition variable"
  end

  context "with a Monitor" do
    let!(:mutex) { ProcessShared::Monitor.new }

    it_behaves_like "a condition variable"

    it "frees all levels while it waits, and holds them all again afterwards" do
      thread = in_thread do
        3.times { mutex.enter }
        condition.wait(mutex)
        3.times { mutex.exit }
        mutex.mon_locked?
      end
      wait_until { condition.waiters == 1 }
      expect(mutex.try_enter).to be true
      condition.signal
      mutex.exit
      expect(thread.value).to be false
    end
  end

  context "with the lock of a semaphore" do
    let!(:mutex) { ProcessShared::Semaphore.new.to_mtx }

    it "frees the lock while it waits, and holds it again afterwards" do
      child = fork_child do |parent|
        mutex.lock
        parent.say
        [condition.wait(mutex), mutex.locked?]
      end
      child.hear
      mutex.synchronize { condition.signal }
      expect(child.value).to match [an_instance_of(Integer), true]
    end

    it "returns nil when the time is up, with the lock held" do
      mutex.lock
      expect(condition.wait(mutex, 0.02)).to be_nil
      expect(mutex).to be_locked
    end
  end

  context "with an object that can sleep" do
    it "calls its sleep with the timeout, and returns what that returns" do
      sleeper = Object.new
      def sleeper.sleep(*arguments) = [:slept, *arguments]
      expect(condition.wait(sleeper, 12)).to eq [:slept, 12]
      expect(condition.wait(sleeper)).to eq [:slept, nil]
      expect(condition.waiters).to be 0
    end

    it "waits with a Thread::Mutex until another process signals" do
      core = Thread::Mutex.new
      thread = in_thread { core.synchronize { condition.wait(core) } }
      wait_until { condition.waiters == 1 && thread.status == "sleep" }
      core.synchronize { nil }
      in_child { condition.signal && nil }
      expect(thread.value).to be_an Integer
    end

    {
      "a Thread::Mutex" => -> { Thread::Mutex.new },
      "a delegator to a Mutex" => -> { SimpleDelegator.new(ProcessShared::Mutex.new) }
    }.each do |name, make|
      it "wakes as many as there are signals with #{name}" do
        lock = make.call
        threads = Array.new(4) { in_thread { lock.synchronize { condition.wait(lock) } } }
        wait_until { condition.waiters == 4 }
        lock.synchronize { nil }
        wait_until_blocked(threads)
        3.downto(0) do |left|
          condition.signal
          wait_until { threads.count(&:alive?) <= left }
          expect(condition.waiters).to be left
        end
        expect(threads.map(&:value)).to all be_an(Integer)
      end
    end

    # Something whose sleep is the block.
    def sleeper(&block)
      Object.new.tap { |object| object.define_singleton_method(:sleep) { |_| block.call } }
    end

    it "gives the signal to the next when an exception ends the sleep, or its time is up" do
      core = Thread::Mutex.new
      [-> { raise KeyError }, -> {}].each do |ending|
        other = nil
        lock = sleeper do
          other = in_thread { core.synchronize { condition.wait(core) } }
          wait_until { condition.waiters == 2 }
          condition.signal
          sleep # until it is woken by the signal
          ending.call
        end
        result = condition.wait(lock, 12) rescue $!.class
        expect(result).to be(KeyError).or be_nil
        expect(other.value).to be_an Integer
      end
    end

    it "ends also where everything that could end a thread is put off" do
      core = Thread::Mutex.new
      result = in_child do
        Thread.handle_interrupt(Object => :never) { core.synchronize { [condition.wait(core, 0.02), condition.waiters] } }
      end
      expect(result).to eq [nil, 0]
    end

    it "tells the main thread once of the exception of a thread that has waited" do
      core = Thread::Mutex.new
      told = in_child do
        Thread.abort_on_exception = true
        Thread.new do
          Thread.current.report_on_exception = false
          core.synchronize { condition.wait(core) }
          raise KeyError
        end
        wait_until { condition.waiters == 1 }
        count = 0
        begin
          core.synchronize { condition.signal }
          wait_until { Thread.list == [Thread.current] } && count
        rescue KeyError
          count += 1
          retry
        end
      end
      expect(told).to be 1
    end

    it "raises TypeError or NoMethodError for one that cannot" do
      [nil, 1, "mutex", :mutex].each do |object|
        expect { condition.wait(object) }.to raise_error(StandardError) { |error|
          expect(error).to be_a(TypeError).or be_a(NoMethodError)
        }
      end
      expect(condition.waiters).to be 0
    end
  end

  describe "across processes" do
    # Children that wait, in the order of the array; all wait when it returns.
    def waiting_children(count)
      Array.new(count) do |i|
        child = fork_child do |parent|
          mutex.synchronize { [parent.say, condition.wait(mutex), mutex.owned?].drop(1) }
        end
        child.hear
        wait_until { condition.waiters == i + 1 }
        child
      end
    end

    it "hands numbers over, as in the README" do
      memory = ProcessShared::SharedMemory.new(:int32, 2)
      reader = fork_child do |parent|
        mutex.synchronize do
          parent.say
          condition.wait(mutex)
          memory.get_array_of_int(0, 2)
        end
      end
      reader.hear
      in_child do
        mutex.synchronize do
          memory.put_array_of_int(0, [12_345, 67_890])
          condition.signal && nil
        end
      end
      expect(reader.value).to eq [12_345, 67_890]
    end

    it "signals without the mutex, from another process" do
      child, = waiting_children(1)
      in_child { condition.signal && nil }
      expect(child.value).to match [an_instance_of(Integer), true]
    end

    it "wakes in the order of the waits" do
      children = waiting_children(4)
      children.each do |child|
        condition.signal
        expect(child.value).to match [an_instance_of(Integer), true]
      end
    end

    it "wakes all with broadcast" do
      children = waiting_children(5)
      condition.broadcast
      expect(children.map(&:value)).to all match([an_instance_of(Integer), true])
      expect(condition.waiters).to be 0
    end

    it "wakes as many as there are signals" do
      children = waiting_children(4)
      2.times { condition.signal }
      children.first(2).each(&:value)
      expect(condition.waiters).to be 2
      expect(children.last(2)).to all be_alive
      condition.broadcast
      children.last(2).each(&:value)
    end

    it "keeps no signal for a wait that comes later" do
      5.times { condition.signal }
      condition.broadcast
      expect(in_child { mutex.synchronize { condition.wait(mutex, 0.02) } }).to be_nil
    end

    it "gives a signal that comes with the timeout of the first in line to one of two, never to none" do
      100.times do
        early = in_thread { mutex.synchronize { condition.wait(mutex, 0.002) } }
        wait_until { condition.waiters == 1 || !early.alive? }
        held = false
        late = in_thread { mutex.synchronize { (held = true) && condition.wait(mutex, 5) } }
        wait_until { held && late.status == "sleep" }
        mutex.synchronize { nil }
        condition.signal
        condition.signal if early.value
        expect(late.value).to be_an Integer
      end
    end
  end

  describe "#waiters" do
    it "counts those who wait, in all processes" do
      expect(condition.waiters).to be 0
      thread = in_thread { mutex.synchronize { condition.wait(mutex) } }
      child = fork_child { mutex.synchronize { condition.wait(mutex) } }
      wait_until { condition.waiters == 2 }
      condition.broadcast
      [thread, child].each(&:value)
      expect(condition.waiters).to be 0
    end

    it "does not count a wait that timed out or was interrupted" do
      mutex.synchronize { condition.wait(mutex, 0.01) }
      thread = in_thread { mutex.synchronize { condition.wait(mutex) } }
      wait_until { condition.waiters == 1 }
      thread.kill.join
      expect(condition.waiters).to be 0
    end
  end

  describe "#inspect" do
    it "says how many wait" do
      expect(condition.inspect).to match(/\A#<ProcessShared::ConditionVariable\b/)
      thread = in_thread { mutex.synchronize { condition.wait(mutex) } }
      wait_until { condition.waiters == 1 }
      expect(condition.inspect).to match(/1 waiting/)
      condition.signal
      thread.value
    end
  end
end
