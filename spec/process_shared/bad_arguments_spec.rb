# frozen_string_literal: true

# Wrong arguments for every parameter of every synchronisation method (timeouts have a spec of their own): a clear
# exception, and no change.
RSpec.describe "Bad arguments" do
  odd = [nil, true, 1, -1, 1.5, 2**70, Float::NAN, "x", :x, [], {}, Object.new, Class, 1..2, -> { nil }, BasicObject]

  describe "the number of arguments" do
    takes_none = {
      ProcessShared::Mutex => %i[lock unlock locked? owned? abandoned? owner_pid waiters wakeup_first close closed?],
      ProcessShared::Monitor => %i[enter exit mon_enter mon_exit mon_locked? mon_owned?
                                   mon_check_owner lock unlock new_cond],
      ProcessShared::Semaphore => %i[wait post value to_mtx waiters close closed?],
      ProcessShared::BinarySemaphore => %i[wait post value to_mtx waiters close closed?],
      ProcessShared::ConditionVariable => %i[signal broadcast waiters close closed?]
    }
    takes_none.each do |klass, names|
      names.each do |name|
        it "of #{klass}##{name} is 0" do
          object = klass.new
          expect { object.public_send(name, 1) }.to raise_error(ArgumentError, /given 1, expected 0/)
          expect { object.public_send(name, a: 1) }.to raise_error(ArgumentError)
        end
      end

      it "of #{klass}#synchronize is 0" do
        expect { klass.new.synchronize(1) { nil } }.to raise_error(ArgumentError) if klass.method_defined?(:synchronize)
      end
    end

    { try_lock: ProcessShared::Mutex, sleep: ProcessShared::Mutex, try_wait: ProcessShared::Semaphore }.each do |name, klass|
      it "of #{klass}##{name} is 0 or 1" do
        expect { klass.new.public_send(name, 1, 2) }.to raise_error(ArgumentError, /given 2, expected 0\.\.1/)
      end
    end

    it "of ConditionVariable#wait is 1 or 2" do
      condition = ProcessShared::ConditionVariable.new
      expect { condition.wait }.to raise_error(ArgumentError, /given 0, expected 1\.\.2/)
      expect { condition.wait(ProcessShared::Mutex.new, 1, 2) }.to raise_error(ArgumentError, /given 3, expected 1\.\.2/)
    end

    it "of Monitor#wait_for_cond is 2" do
      monitor = ProcessShared::Monitor.new
      [[], [1], [1, 2, 3]].each { |given| expect { monitor.wait_for_cond(*given) }.to raise_error(ArgumentError) }
    end
  end

  describe "Mutex.new(on_abandoned:)" do
    it "refuses what cannot be called" do
      (odd - [nil]).reject { |value| value.respond_to?(:call) rescue true }.each do |value|
        [ProcessShared::Mutex, ProcessShared::Monitor].each do |klass|
          expect { klass.new(on_abandoned: value) }.to raise_error(TypeError)
        end
      end
    end

    it "takes nil, a Proc, a Method and any object that can be called" do
      callable = Object.new.tap { |object| def object.call(_mutex) = nil }
      [nil, proc { nil }, method(:puts), callable].each do |value|
        expect(ProcessShared::Mutex.new(on_abandoned: value)).not_to be_locked
      end
    end

    it "refuses other keywords and positional arguments" do
      expect { ProcessShared::Mutex.new(on_abandon: proc { nil }) }.to raise_error(ArgumentError, /on_abandon/)
      expect { ProcessShared::Mutex.new(proc { nil }) }.to raise_error(ArgumentError)
    end
  end

  describe "the mutex of ConditionVariable#wait" do
    odd.each do |value|
      it "cannot be #{value.inspect[0, 30]}" do
        condition = ProcessShared::ConditionVariable.new
        expect { condition.wait(value, 0.01) }.to raise_error(StandardError) { |error|
          expect(error).to be_a(TypeError).or be_a(NoMethodError)
        }
        expect(condition.waiters).to be 0
      end
    end

    it "cannot be a closed one" do
      mutex = ProcessShared::Mutex.new
      mutex.close
      expect { ProcessShared::ConditionVariable.new.wait(mutex, 0.01) }.to raise_error(ProcessShared::ClosedError)
    end

    it "cannot be one that was never initialized" do
      expect { ProcessShared::ConditionVariable.new.wait(ProcessShared::Mutex.allocate, 0.01) }
        .to raise_error(TypeError, /not initialized/)
    end
  end

  describe "the condition of Monitor#wait_for_cond" do
    (odd + [ProcessShared::Mutex.new, ProcessShared::ConditionVariable]).each do |value|
      it "cannot be #{value.inspect[0, 30]}" do
        monitor = ProcessShared::Monitor.new.tap(&:enter)
        expect { monitor.wait_for_cond(value, 0.01) }.to raise_error(StandardError) { |error|
          expect(error).to be_a(TypeError).or be_a(NoMethodError)
        }
        expect(monitor).to be_mon_owned
      end
    end
  end

  describe "an object that is asked something and throws" do
    let(:thrower) do
      Class.new(Numeric) do
        %i[< respond_to_missing? inspect to_s to_int].each { |name| define_method(name) { |*| throw :thrown, :caught } }
      end.new
    end

    it "is heard" do
      word = Class.new { %i[inspect to_s respond_to_missing?].each { |name| define_method(name) { |*| throw :thrown, :caught } } }.new
      [
        -> { ProcessShared::Mutex.new.try_lock(thrower) }, -> { ProcessShared::Semaphore.new.try_wait(thrower) },
        -> { ProcessShared::SharedMemory.new(thrower) }, -> { ProcessShared::SharedMemory.new(word) },
        -> { ProcessShared::SharedMemory.new(8).get(word, 0) }, -> { ProcessShared::SharedMemory.new(8).put(word, 0, 1) }
      ].each do |call|
        expect(catch(:thrown) { call.call }).to be :caught
      end
    end
  end
end
