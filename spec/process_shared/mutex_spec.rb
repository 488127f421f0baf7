# frozen_string_literal: true

RSpec.describe Thread::Mutex, "the model" do
  let!(:lock) { described_class.new }

  it_behaves_like "a lock"
  it_behaves_like "an owned lock"
  it_behaves_like "a lock without recursion"
  it_behaves_like "a lock that fibers of one thread share" if RUBY_VERSION >= "3.2" # on some 3.1 it waits for ever
end

RSpec.describe ProcessShared::Mutex do
  subject!(:mutex) { described_class.new }
  let!(:lock) { mutex }

  it_behaves_like "a lock"
  it_behaves_like "an owned lock"
  it_behaves_like "a lock without recursion"
  it_behaves_like "a lock that fibers of one thread share"

  describe "across processes" do
    it "waits until the process that holds the lock unlocks" do
      holder = child_holding(mutex)
      waiter = fork_child { |parent| parent.say; mutex.lock; :taken }
      waiter.hear
      wait_until_blocked(waiter)
      expect(mutex.try_lock).to be false
      holder.tell(:unlock)
      expect(waiter.value).to be :taken
    end

    it "lets one process in at a time" do
      memory = ProcessShared::SharedMemory.new(:int, 2)
      children = Array.new(4) do
        fork_child do
          100.times do
            mutex.synchronize do
              memory.put_int(0, memory.get_int(0) + 1)
              memory.put_int(4, [memory.get_int(4), memory.get_int(0)].max)
              Thread.pass
              memory.put_int(0, memory.get_int(0) - 1)
            end
          end
        end
      end
      children.each(&:value)
      expect(memory.get_array_of_int(0, 2)).to eq [0, 1]
    end

    it "is locked everywhere and owned by one" do
      child = child_holding(mutex)
      expect([mutex.locked?, mutex.owned?, mutex.owner_pid]).to eq [true, false, child.pid]
      child.tell(:unlock)
      child.value
      expect([mutex.locked?, mutex.owned?, mutex.owner_pid]).to eq [false, false, nil]
    end

    it "cannot be unlocked by a stranger, who is told the holder's pid" do
      child = child_holding(mutex)
      expect { mutex.unlock }.to raise_error(ProcessShared::ProcessError, /\b#{child.pid}\b/)
      expect(mutex).to be_locked
    end

    it "cannot be slept on by a stranger, who is told the holder's pid" do
      child = child_holding(mutex)
      expect { mutex.sleep(0.01) }.to raise_error(ProcessShared::ProcessError, /\b#{child.pid}\b/)
    end

    it "is freed while a process sleeps on it" do
      child = fork_child do |parent|
        mutex.lock
        parent.say
        [mutex.sleep(0.05), mutex.owned?]
      end
      child.hear
      mutex.synchronize { expect(mutex.owner_pid).to be Process.pid }
      expect(child.value).to eq [nil, true]
    end

    it "wakes the process that has slept on it longest with wakeup_first" do
      sleepers = Array.new(2) do
        child = fork_child { |parent| mutex.synchronize { parent.say; mutex.sleep } }
        child.hear
        wait_until_blocked(child)
        child
      end
      mutex.synchronize { nil }
      in_child { mutex.wakeup_first && nil }
      expect(sleepers.first.value).to be_an Integer
      expect(sleepers.last).to be_alive
      mutex.wakeup_first
      expect(sleepers.last.value).to be_an Integer
    end
  end

  describe "#owner_pid" do
    it "is the holder's pid, or nil" do
      expect(mutex.owner_pid).to be_nil
      expect(mutex.synchronize { mutex.owner_pid }).to be Process.pid
      expect(mutex.owner_pid).to be_nil
    end
  end

  describe "#abandoned?" do
    it "is false for a free mutex, and for one taken from a holder that unlocked" do
      seen = [mutex.abandoned?, mutex.synchronize { mutex.abandoned? }]
      child_holding(mutex).then { |child| child.tell(:unlock) && child.value }
      expect(seen << mutex.synchronize { mutex.abandoned? }).to eq [false, false, false]
    end
  end

  describe "#try_lock with a timeout" do
    before { @holder = child_holding(mutex) }

    it "is false when the time is up" do
      result = nil
      expect(seconds { result = mutex.try_lock(0.05) }).to be >= 0.05
      expect(result).to be false
    end

    it "is true as soon as the lock is free" do
      waiter = in_thread { mutex.try_lock(10) && mutex.owned? }
      wait_until_blocked(waiter)
      @holder.tell(:unlock)
      expect(waiter.value).to be true
    end

    it "tries once for 0, for a negative time, and for nil" do
      results = [mutex.try_lock(0), mutex.try_lock(-1), mutex.try_lock(nil)]
      expect(results).to eq [false, false, false]
    end
  end

  describe "#try_lock with a timeout on a free mutex" do
    it "takes it, whatever the time" do
      [0, -1, 0.5, 2, Rational(1, 3), nil].each do |timeout|
        expect(mutex.try_lock(timeout)).to be true
        mutex.unlock
      end
    end
  end

  describe "#waiters" do
    it "counts those who wait, in all processes" do
      holder = child_holding(mutex)
      expect(mutex.waiters).to be 0
      child = fork_child { |parent| parent.say; mutex.synchronize { nil } }
      child.hear
      thread = in_thread { mutex.synchronize { nil } }
      wait_until { mutex.waiters == 2 }
      holder.tell(:unlock)
      [child, thread].each(&:value)
      expect(mutex.waiters).to be 0
    end
  end

  describe "#initialize" do
    it "takes whatever can be called with the mutex as on_abandoned" do
      callables = [->(_) {}, ->(*) {}, ->(_, _ = 1) {}, proc {}, proc { |_, _| }, :unlock.to_proc, method(:puts), [].method(:push),
                   Class.new { def call(_) = nil }.new, Class.new { def call(*) = nil }.new, nil]
      callables.each { |callable| expect { described_class.new(on_abandoned: callable) }.not_to raise_error }
    end

    it "refuses at once what could not be called with the mutex at the first crash" do
      { 5 => /an instance of Integer does not respond/, :unlock => /Symbol/, -> {} => /Proc takes 0/, ->(_, _) {} => /takes 2/,
        ->(_, _, *) {} => /takes at least 2/, Dir.method(:pwd) => /Method takes 0/,
        Class.new { def call = nil }.new => /takes 0/ }.compact.each do |callable, message|
        expect { described_class.new(on_abandoned: callable) }.to raise_error(TypeError, /on_abandoned: .*#{message}/)
      end
    end
  end

  describe "#inspect" do
    it "tells a free mutex from a locked one, by whom and how many wait" do
      expect(mutex.inspect).to match(/\A#<ProcessShared::Mutex\b.*unlocked/)
      mutex.lock
      expect(mutex.inspect).to match(/\A#<ProcessShared::Mutex\b.*locked by #{Process.pid}/)
      in_thread { mutex.synchronize { nil } }
      wait_until { mutex.waiters == 1 }
      expect(mutex.inspect).to match(/locked by #{Process.pid}, 1 waiting/)
      mutex.unlock
    end

    it "says that the mutex was abandoned, for as long as it is" do
      child_holding(mutex).kill
      mutex.synchronize { expect(mutex.inspect).to match(/abandoned/) }
      expect(mutex.inspect).not_to match(/abandoned/)
    end
  end
end
