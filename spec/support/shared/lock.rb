# frozen_string_literal: true

# What every lock does that can stand in for a Thread::Mutex. Thread::Mutex itself runs these examples too: they
# describe it, so they must be right about it.
#
# The including group defines `lock`, a lock nobody holds.
RSpec.shared_examples "a lock" do
  describe "#lock" do
    it "returns self, and holds the lock" do
      expect(lock.lock).to be lock
      expect(lock).to be_locked
    end

    it "waits until the holder unlocks" do
      lock.lock
      waiter = in_thread { lock.lock; :taken }
      wait_until_blocked(waiter)
      lock.unlock
      expect(waiter.value).to be :taken
    end

    it "lets other threads run while it waits" do
      lock.lock
      waiter = in_thread { lock.lock }
      wait_until_blocked(waiter)
      expect(in_thread { 1 + 1 }.value).to be 2
      lock.unlock
    end

    it "lets one thread in at a time" do
      inside = 0
      most = 0
      threads = Array.new(4) do
        in_thread do
          50.times do
            lock.lock
            inside += 1
            most = [most, inside].max
            Thread.pass
            inside -= 1
            lock.unlock
          end
        end
      end
      threads.each(&:join)
      expect(most).to be 1
    end

    it "hands the lock to everybody who waits for it" do
      lock.lock
      waiters = Array.new(5) { in_thread { lock.synchronize { :had_it } } }
      wait_until_blocked(waiters)
      lock.unlock
      expect(waiters.map(&:value)).to eq([:had_it] * 5)
    end
  end

  describe "#try_lock" do
    it "takes a free lock" do
      expect(lock.try_lock).to be true
      expect(lock).to be_locked
    end

    it "is false at once where another thread holds the lock" do
      lock.lock
      expect(in_thread { lock.try_lock }.value).to be false
    end
  end

  describe "#unlock" do
    it "returns self, and frees the lock" do
      lock.lock
      expect(lock.unlock).to be lock
      expect(lock).not_to be_locked
    end
  end

  describe "#locked?" do
    it "is false for a new lock, true while somebody holds it, and false again" do
      seen = [lock.locked?]
      lock.lock
      seen << lock.locked? << in_thread { lock.locked? }.value
      lock.unlock
      expect(seen << lock.locked?).to eq [false, true, true, false]
    end
  end

  describe "#synchronize" do
    it "holds the lock during the block, and returns the block's value" do
      expect(lock.synchronize { [lock.locked?, :value] }).to eq [true, :value]
      expect(lock).not_to be_locked
    end

    it "unlocks when the block raises" do
      expect { lock.synchronize { raise KeyError, "mine" } }.to raise_error(KeyError, "mine")
      expect(lock).not_to be_locked
    end

    it "unlocks when the block throws, breaks or returns" do
      leave = -> { lock.synchronize { return 2 } }
      values = [catch(:out) { lock.synchronize { throw :out, 0 } }, lock.synchronize { break 1 }, leave.call]
      expect(values).to eq [0, 1, 2]
      expect(lock).not_to be_locked
    end

    it "unlocks when its thread is killed" do
      holder = in_thread { lock.synchronize { sleep } }
      wait_until_blocked(holder)
      holder.kill.join
      expect(lock).not_to be_locked
    end

    it "raises without a block, and takes nothing" do
      expect { lock.synchronize }.to raise_error(StandardError, /block/)
      expect(lock).not_to be_locked
    end
  end

  describe "#sleep" do
    it "frees the lock while it sleeps, and holds it again when it returns" do
      sleeper = in_thread do
        lock.lock
        lock.sleep
        lock.locked?
      end
      wait_until { sleeper.status == "sleep" && !lock.locked? }
      lock.synchronize { sleeper.wakeup }
      expect(sleeper.value).to be true
    end

    it "returns the whole seconds it slept when it is woken" do
      sleeper = nil
      longest = seconds do
        sleeper = in_thread { lock.synchronize { lock.sleep(100) } }
        wait_until { sleeper.status == "sleep" && !lock.locked? }
        sleeper.wakeup
        sleeper.join
      end
      expect(sleeper.value).to be_between(0, longest.round)
    end

    it "returns nil when the time is up" do
      lock.lock
      result = :none
      expect(seconds { result = lock.sleep(0.03) }).to be >= 0.03
      expect(result).to be_nil
      expect(lock).to be_locked
    end

    it "holds the lock again before an exception comes out" do
      sleeper = in_thread do
        lock.lock
        lock.sleep
      rescue KeyError
        lock.locked?
      end
      wait_until { sleeper.status == "sleep" && !lock.locked? }
      sleeper.raise(KeyError)
      expect(sleeper.value).to be true
    end

    it "waits for the lock before an exception comes out" do
      sleeper = in_thread do
        lock.lock
        lock.sleep
      rescue KeyError
        lock.locked? && :after
      end
      wait_until { sleeper.status == "sleep" && !lock.locked? }
      lock.lock
      sleeper.raise(KeyError)
      wait_until_blocked(sleeper)
      lock.unlock
      expect(sleeper.value).to be :after
    end

    it "raises ArgumentError for a negative time, and keeps the lock" do
      lock.lock
      expect { lock.sleep(-1) }.to raise_error(ArgumentError, /negative/)
      expect(lock).to be_locked
    end
  end
end

# What a lock does that knows its owner.
RSpec.shared_examples "an owned lock" do
  describe "#owned?" do
    it "is true for the holder alone" do
      expect(lock).not_to be_owned
      lock.lock
      expect(lock).to be_owned
      expect(in_thread { lock.owned? }.value).to be false
    end

    it "is false for another fiber of the holder's thread" do
      lock.lock
      expect(Fiber.new { lock.owned? }.resume).to be false
    end
  end

  describe "#unlock" do
    it "raises ThreadError where nobody holds the lock" do
      expect { lock.unlock }.to raise_error(ThreadError, /not (locked|held)/)
    end

    it "raises ThreadError for a thread that does not hold the lock, and leaves it locked" do
      lock.lock
      expect { in_thread { lock.unlock }.value }.to raise_error(ThreadError)
      expect(lock).to be_owned
    end

    it "raises ThreadError for another fiber of the holder's thread" do
      lock.lock
      expect { Fiber.new { lock.unlock }.resume }.to raise_error(ThreadError)
      expect(lock).to be_owned
    end
  end

  describe "#sleep" do
    it "raises ThreadError where the caller does not hold the lock" do
      expect { lock.sleep(0.01) }.to raise_error(ThreadError)
      holder = in_thread { lock.synchronize { sleep } }
      wait_until_blocked(holder)
      expect { lock.sleep(0.01) }.to raise_error(ThreadError)
    end

    it "looks at the time before it looks at the owner" do
      expect { lock.sleep(-1) }.to raise_error(ArgumentError)
    end
  end

  describe "#synchronize" do
    it "raises ThreadError when the block unlocked it already" do
      expect { lock.synchronize { lock.unlock } }.to raise_error(ThreadError, /not (locked|held)/)
    end
  end
end

# What a lock does that its holder can take only once.
RSpec.shared_examples "a lock without recursion" do
  it "raises ThreadError when the holder locks again, and stays locked" do
    lock.lock
    expect { lock.lock }.to raise_error(ThreadError, "deadlock; recursive locking")
    expect { lock.synchronize { nil } }.to raise_error(ThreadError, "deadlock; recursive locking")
    expect(lock).to be_owned
  end

  it "raises ThreadError when synchronize has no block" do
    expect { lock.synchronize }.to raise_error(ThreadError, /block/)
  end

  it "is false when the holder tries again" do
    lock.lock
    expect(lock.try_lock).to be false
    expect(lock.unlock).not_to be_locked
  end
end

RSpec.shared_examples "a lock that fibers of one thread share" do
  it "says so when another fiber of the thread would wait for ever" do
    lock.lock
    expect { Fiber.new { lock.lock }.resume }
      .to raise_error(ThreadError, "deadlock; lock already owned by another fiber belonging to the same thread")
    expect(lock).to be_owned
  end
end
