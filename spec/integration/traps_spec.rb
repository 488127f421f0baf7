# frozen_string_literal: true

# Signals that arrive while the main thread waits, and calls from trap handlers.
RSpec.describe "Signals" do
  BlockingCall.names.each do |name|
    describe "in #{name}" do
      let!(:call) { BlockingCall.named(name) }

      # A child whose main thread waits in the call; returns when it does. The block runs in the child, around the wait.
      def waiting_child
        child = fork_child do |parent|
          call.enter.call
          yield call.wait, parent
        end
        wait_until { call.waiting.call }
        wait_until_blocked(child)
        child
      end

      it "handled by a trap that returns let the wait go on" do
        child = waiting_child do |wait, parent|
          trap(:USR1) { parent.say(:handled) }
          wait.call && :done
        end
        3.times do
          child.signal(:USR1)
          expect(child.hear).to be :handled
        end
        wait_until_blocked(child)
        call.release.call
        expect(child.value).to be :done
      end

      it "handled by a trap that raises end the wait, with nothing taken" do
        child = fork_child do |parent|
          trap(:USR1) { raise KeyError }
          call.enter.call
          parent.say
          begin
            call.wait.call
          rescue KeyError
            call.intact.call
          end
        end
        child.hear
        wait_until { call.waiting.call }
        wait_until_blocked(child)
        child.signal(:USR1)
        expect(child.value).to be true
      end

      it "with the default action end the process" do
        child = waiting_child { |wait, _| wait.call }
        child.signal(:TERM)
        expect { child.value }.to raise_error(Child::Failed, /SignalException|SIGTERM/)
      end

      it "handled by a trap that forks let the wait go on in both processes, each with what it waits for" do
        begun, done = Array.new(2) { ProcessShared::Semaphore.new(0) }
        child = fork_child do |parent|
          me = Process.pid
          trap(:USR1) { parent.say(:forked) if fork }
          parent.say
          call.enter.call
          call.wait.call
          done.post
          begun.wait
          call.leave.call rescue nil # the note that one has entered is there once
          exit!(true) if Process.pid != me
          Process.waitall.map { |_, status| status.success? }
        end
        child.hear
        wait_until { call.waiting.call }
        wait_until_blocked(child)
        child.signal(:USR1)
        expect(child.hear).to be :forked
        2.times do |number|
          call.release.call unless call.sleeps || number.positive?
          wait_until { call.release.call if call.sleeps; done.value > number }
          begun.post
        end
        expect(child.value).to eq [true]
      end

      it "that stop and continue the process let the wait go on" do
        child = waiting_child { |wait, _| wait.call && :done }
        child.signal(:STOP)
        wait_until { File.read("/proc/#{child.pid}/stat")[/\) (\w)/, 1] == "T" } if File.directory?("/proc")
        child.signal(:CONT)
        wait_until_blocked(child)
        call.release.call
        expect(child.value).to be :done
      end
    end
  end

  describe "handled by a trap" do
    # The handler's value, called in the main thread of a child while it waits in Semaphore#wait.
    def in_trap(&handler)
      gate = ProcessShared::Semaphore.new(0)
      child = fork_child do |parent|
        trap(:USR1) do
          parent.say(handler.call)
        rescue Exception => error # rubocop:disable Lint/RescueException
          parent.say(error)
        end
        parent.say(:ready)
        gate.wait && nil
      end
      child.hear
      wait_until { gate.waiters == 1 }
      child.signal(:USR1)
      heard = child.hear
      gate.post
      child.value
      heard
    end

    SharedClass.objects.reject { |entry| entry.cost == :wait }.each do |entry|
      it "can use a #{entry.name} that nobody has" do
        object = entry.make
        expect(in_trap { [entry.in_use(object), entry.when_idle(object)].last }).to eq entry.when_idle(object)
      end
    end

    let!(:mutex) { ProcessShared::Mutex.new }
    let!(:semaphore) { ProcessShared::Semaphore.new(0) }
    let!(:condition) { ProcessShared::ConditionVariable.new }

    it "may post, and try to wait" do
      expect(in_trap { semaphore.post.value }).to be 1
      expect(in_trap { semaphore.try_wait.value }).to be 0
      expect(in_trap { semaphore.try_wait }).to be_a(Errno::EAGAIN)
      expect(in_trap { ProcessShared::BinarySemaphore.new(0).post.value }).to be 1
    end

    it "may signal and broadcast" do
      waiters = Array.new(3) { fork_child { mutex.synchronize { condition.wait(mutex) } } }
      wait_until { condition.waiters == 3 }
      expect(in_trap { condition.signal && condition.broadcast && :done }).to be :done
      expect(waiters.map(&:value)).to all be_an(Integer)
    end

    it "may try to lock, unlock and ask" do
      expect(in_trap { [mutex.try_lock, mutex.owned?, mutex.locked?, mutex.unlock.locked?, mutex.waiters] })
        .to eq [true, true, true, false, 0]
      expect(in_trap { mutex.inspect }).to match(/unlocked/)
      mutex.lock
      expect(in_trap { [mutex.try_lock, mutex.owner_pid] }).to eq [false, Process.pid]
    end

    it "may lock a free mutex" do
      expect(in_trap { mutex.lock.owned? }).to be true
    end

    it "cannot wait for a lock, a permit or a condition: ThreadError" do
      mutex.lock
      expect(in_trap { mutex.lock }).to be_a(ThreadError)
      expect(in_trap { mutex.synchronize { nil } }).to be_a(ThreadError)
      expect(in_trap { semaphore.wait }).to be_a(ThreadError)
      expect([mutex.waiters, semaphore.waiters, semaphore.value]).to eq [0, 0, 0]
    end

    it "interrupting the holder cannot wait for what the holder has: ThreadError, and no deadlock" do
      seen = in_child do
        mutex.lock
        error = nil
        trap(:USR1) do
          mutex.lock
        rescue ThreadError => error
          nil
        end
        Process.kill(:USR1, Process.pid)
        Thread.pass until error
        [error.class.ancestors.include?(ThreadError), mutex.owned?, mutex.unlock.locked?]
      end
      expect(seen).to eq [true, true, false]
    end

    it "may unlock what its thread holds, and end the wait of others with it" do
      gate = ProcessShared::Semaphore.new(0)
      child = fork_child do
        trap(:USR1) { mutex.unlock }
        mutex.lock
        gate.wait && mutex.owned?
      end
      wait_until { gate.waiters == 1 }
      waiter = in_thread { mutex.synchronize { :in } }
      wait_until { mutex.waiters == 1 }
      child.signal(:USR1)
      expect(waiter.value).to be :in
      gate.post
      expect(child.value).to be false
    end
  end

  it "by the hundred neither end nor stretch nor lose a wait" do
    semaphore = ProcessShared::Semaphore.new(0)
    count = ProcessShared::SharedMemory.new(:int)
    child = fork_child do |parent|
      trap(:USR1) { count.write_int(count.read_int + 1) }
      parent.say
      Array.new(100) { semaphore.wait && 1 }.sum
    end
    child.hear
    100.times do
      child.signal(:USR1)
      semaphore.post
      child.signal(:USR1)
    end
    expect(child.value).to be 100
    expect(count.read_int).to be > 0
  end

  describe "whose handler takes the lock that is waited for, and keeps it" do
    # A child that waits in the block, and whose handler does so. Its value is the block's. `waits` has it wait for the
    # lock, which is then the caller's.
    def taking(lock, waits, &wait)
      child = fork_child do |parent|
        trap(:USR1) { parent.say(:begun) && parent.listen && lock.try_lock }
        wait.call
      end
      waits.call
      wait_until { lock.waiters == 1 }
      child.signal(:USR1)
      child.hear
      lock.unlock
      child.tell(:go)
      child.value
    end

    it "have a Mutex refuse to wait for itself" do
      mutex = ProcessShared::Mutex.new.lock
      value = taking(mutex, -> {}) { [(mutex.lock rescue $!.message), mutex.owned?] }
      expect(value).to eq ["deadlock; recursive locking", true]
    end

    it "have a Mutex not be had by try_lock" do
      mutex = ProcessShared::Mutex.new.lock
      expect(taking(mutex, -> {}) { [mutex.try_lock(10), mutex.owned?] }).to eq [false, true]
    end

    it "have a Monitor stay another fiber's, if one of the handler's has it" do
      monitor = ProcessShared::Monitor.new.lock
      child = fork_child do |parent|
        fiber = nil
        trap(:USR1) do
          parent.say(:begun) && parent.listen
          fiber = Fiber.new { monitor.try_enter && Fiber.yield || monitor.exit }.tap(&:resume)
        end
        seen = [(monitor.enter rescue $!.class), monitor.mon_owned?]
        fiber.resume
        seen + [monitor.mon_locked?]
      end
      wait_until { monitor.waiters == 1 }
      child.signal(:USR1)
      child.hear
      monitor.unlock
      child.tell(:go)
      expect(child.value).to eq [ProcessShared::ProcessError, false, false]
    end

    it "have a Monitor entered twice" do
      monitor = ProcessShared::Monitor.new.lock
      value = taking(monitor, -> {}) { monitor.enter || Array.new(2) { monitor.exit || monitor.mon_owned? } }
      expect(value).to eq [true, false]
    end

    [ProcessShared::Mutex, ProcessShared::Monitor].each do |klass|
      it "have it after a sleep, once (#{klass})" do
        mutex = klass.new
        asleep = ProcessShared::Semaphore.new(0)
        wake = lambda do
          asleep.wait
          mutex.lock
          mutex.wakeup_first
        end
        value = taking(mutex, wake) do
          mutex.lock
          asleep.post
          [mutex.sleep, mutex.owned?, mutex.unlock.owned?]
        end
        expect(value).to match [Integer, true, false]
      end
    end
  end

  describe "while one that was woken waits for its mutex" do
    let!(:condition) { ProcessShared::ConditionVariable.new }

    {
      "a Mutex" => -> { [ProcessShared::Mutex.new] * 2 },
      "a Monitor" => -> { [ProcessShared::Monitor.new] * 2 },
      "a Semaphore" => -> { ProcessShared::Semaphore.new(1).then { |semaphore| [semaphore.to_mtx, semaphore] } }
    }.each do |what, make|
      it "let others that were woken have it, however long the handler takes (#{what})" do
        mutex, counted = make.call
        waiting_child = lambda do |&life|
          count = condition.waiters
          child = fork_child(&life)
          wait_until { condition.waiters == count + 1 }
          child
        end
        first = waiting_child.call do |parent|
          trap(:USR1) { parent.say(:begun) && parent.listen }
          mutex.synchronize { [condition.wait(mutex), mutex.locked?] }
        end
        others = Array.new(2) { waiting_child.call { mutex.synchronize { [condition.wait(mutex), mutex.locked?] } } }
        mutex.lock
        condition.signal
        wait_until { counted.waiters == 1 } # the first, before the others are woken
        2.times { condition.signal }
        first.signal(:USR1)
        expect(first.hear).to be :begun
        mutex.unlock
        expect(others.map(&:value)).to all match [Integer, true]
        first.tell(:end)
        expect(first.value).to match [Integer, true]
        expect([condition.waiters, mutex.locked?]).to eq [0, false]
      end

      it "and it dies in the handler, leave its signal to the next (#{what})" do
        mutex, counted = make.call
        first = fork_child do |parent|
          trap(:USR1) { parent.say(:begun) && parent.listen }
          mutex.synchronize { condition.wait(mutex) }
        end
        wait_until { condition.waiters == 1 }
        second = fork_child { mutex.synchronize { [condition.wait(mutex), mutex.locked?] } }
        wait_until { condition.waiters == 2 }
        mutex.lock
        condition.signal
        wait_until { counted.waiters == 1 }
        first.signal(:USR1)
        expect(first.hear).to be :begun
        first.kill
        mutex.unlock
        expect(second.value).to match [Integer, true]
        expect(mutex.synchronize { condition.wait(mutex, 0.02) }).to be_nil
      end
    end
  end
end
