# frozen_string_literal: true

# The owner is a fiber of a thread of a process; and under a fiber scheduler a waiting fiber does not stop the others.
RSpec.describe "Fibers" do
  [ProcessShared::Mutex, ProcessShared::Monitor].each do |klass|
    describe "of one thread, and a #{klass}" do
      let!(:mutex) { klass.new }

      it "own it one at a time" do
        fiber = Fiber.new do
          mutex.lock
          Fiber.yield mutex.owned?
          mutex.unlock.locked?
        end
        expect([fiber.resume, mutex.owned?, mutex.locked?, mutex.try_lock]).to eq [true, false, true, false]
        expect { mutex.unlock }.to raise_error(ProcessShared::ProcessError)
        expect(fiber.resume).to be false
        expect(mutex.try_lock).to be true
      end

      it "are told when a wait could never end" do
        mutex.lock
        [-> { mutex.lock }, -> { mutex.synchronize { nil } }].each do |wait|
          expect { Fiber.new(&wait).resume }.to raise_error(
            ProcessShared::ProcessError, /already owned by another fiber belonging to the same thread/
          )
        end
        expect(mutex).to be_owned
      end

      it "wait with a time for one another, in vain" do
        mutex.lock
        expect(Fiber.new { mutex.try_lock(0.02) }.resume).to be false
      end

      it "free it to other threads" do
        fiber = Fiber.new { mutex.synchronize { Fiber.yield } }
        fiber.resume
        waiter = in_thread { mutex.synchronize { :in } }
        wait_until { mutex.waiters == 1 }
        fiber.resume
        expect(waiter.value).to be :in
      end

      it "are told apart also when a fiber that ended and a new one are alike" do
        20.times do
          Fiber.new { mutex.synchronize { nil } }.resume
          fiber = Fiber.new { mutex.lock && Fiber.yield }
          fiber.resume
          expect(Fiber.new { mutex.owned? }.resume).to be false
          GC.start if rand < 0.1
          fiber = nil
          thread = in_thread { mutex.try_lock }
          expect(thread.value).to be false
          break
        end
      end
    end
  end

  describe "under a scheduler" do
    # Runs the block, which waits, in a fiber of a scheduler, beside a fiber that counts. Once `waiting` is true and the
    # other fiber has gone on counting for a while, does `release`. Returns the block's value.
    def beside_a_counter(waiting, release, &block)
      count = 0
      value = nil
      thread = in_thread do
        Scheduler.run do
          waiter = Fiber.schedule { value = block.call }
          Fiber.schedule { sleep(0.001) && count += 1 while waiter.alive? }
        end
      end
      wait_until("the wait") { thread.alive? ? waiting.call : thread.value }
      before = count
      wait_until("the other fiber") { thread.alive? ? count >= before + 3 : thread.value }
      release.call
      thread.value
      value
    end

    BlockingCall.names.each do |name|
      it "go on while one waits in #{name}" do
        call = BlockingCall.named(name)
        result = beside_a_counter(call.waiting, call.release) do
          call.enter.call
          call.wait.call && call.leave.call && :done
        end
        expect(result).to be :done
      end
    end

    it "get a mutex from one another" do
      mutex = ProcessShared::Mutex.new
      log = []
      Scheduler.run do
        3.times do |i|
          Fiber.schedule do
            mutex.synchronize do
              log << [i, :in]
              sleep 0.01
              log << [i, :out]
            end
          end
        end
      end
      expect(log.each_slice(2).map { |a, b| [a[0] == b[0], a[1], b[1]] }).to eq([[true, :in, :out]] * 3)
      expect(log.map(&:first).uniq).to match_array [0, 1, 2]
    end

    it "get a mutex from another process" do
      mutex = ProcessShared::Mutex.new
      holder = child_holding(mutex)
      value = beside_a_counter(-> { mutex.waiters == 1 }, -> { holder.tell(:unlock) }) do
        mutex.synchronize { mutex.owned? }
      end
      expect(value).to be true
    end

    it "get a mutex whose holder in another process died" do
      mutex = ProcessShared::Mutex.new
      holder = child_holding(mutex)
      value = beside_a_counter(-> { mutex.waiters == 1 }, -> { holder.kill }) do
        mutex.synchronize { [mutex.owned?, mutex.abandoned?] }
      end
      expect(value).to eq [true, true]
    end

    it "get a permit from another process" do
      semaphore = ProcessShared::Semaphore.new(0)
      post = -> { in_child { semaphore.post && nil } }
      expect(beside_a_counter(-> { semaphore.waiters == 1 }, post) { semaphore.wait.value }).to be 0
    end

    it "get a signal from another process, and the mutex with it" do
      mutex = ProcessShared::Mutex.new
      condition = ProcessShared::ConditionVariable.new
      signal = -> { in_child { condition.signal && nil } }
      value = beside_a_counter(-> { condition.waiters == 1 }, signal) do
        mutex.synchronize { [condition.wait(mutex), mutex.owned?] }
      end
      expect(value).to match [Integer, true]
    end

    it "get a signal with a Thread::Mutex, from another process and from one another" do
      mutex = Thread::Mutex.new
      condition = ProcessShared::ConditionVariable.new
      signal = -> { in_child { condition.signal && nil } }
      wait = -> { mutex.synchronize { [condition.wait(mutex), mutex.owned?] } }
      expect(beside_a_counter(-> { condition.waiters == 1 }, signal, &wait)).to match [Integer, true]
      left = Scheduler.run do
        waiters = Array.new(3) { Fiber.schedule(&wait) }
        sleep 0.001 until condition.waiters == 3
        [2, 1, 0].each do |left|
          mutex.synchronize { condition.signal }
          sleep 0.001 while waiters.count(&:alive?) > left
        end
        condition.waiters
      end
      expect(left).to be 0
    end

    it "are out of time where everything that could end a thread is put off" do
      mutex = ProcessShared::Mutex.new
      child_holding(mutex)
      value = in_child do
        Thread.handle_interrupt(Object => :never) do
          Scheduler.run { Timeout.timeout(0.02) { mutex.lock } rescue $!.class }
        end
      end
      expect(value).to be Timeout::Error
    end

    it "are out of time when the time is up, while others go on" do
      semaphore = ProcessShared::Semaphore.new(0)
      held = ProcessShared::Mutex.new
      child_holding(held)
      mutex = ProcessShared::Mutex.new
      condition = ProcessShared::ConditionVariable.new
      {
        -> { semaphore.try_wait(0.1) rescue $!.class } => Errno::ETIMEDOUT, -> { held.try_lock(0.1) } => false,
        -> { mutex.synchronize { mutex.sleep(0.1) } } => nil,
        -> { mutex.synchronize { condition.wait(mutex, 0.1) } } => nil
      }.each do |wait, result|
        value = :none
        expect(seconds { value = beside_a_counter(-> { true }, -> {}, &wait) }).to be >= 0.1
        expect(value).to be result
      end
    end

    it "work with a Monitor and its conditions as producer and consumer" do
      monitor = ProcessShared::Monitor.new
      full = monitor.new_cond
      items = []
      taken = Scheduler.run do
        consumer = []
        Fiber.schedule do
          3.times { monitor.synchronize { full.wait_while { items.empty? } || consumer << items.shift } }
        end
        Fiber.schedule do
          3.times { |i| sleep(0.002) && monitor.synchronize { items << i && full.signal } }
        end
        consumer
      end
      expect(taken).to eq [0, 1, 2]
    end

    describe "of a thread that is killed" do
      # A thread with a fiber that waits in the block; returns once the object has the waiter.
      def killed(counted, &wait)
        thread = Thread.new do
          Fiber.set_scheduler(Scheduler.new)
          Fiber.schedule(&wait)
        end
        thread.report_on_exception = false
        wait_until { counted.waiters == 1 }
        thread.kill.join
        wait_until { counted.waiters.zero? }
      end

      before { @threads = Thread.list }
      after { expect(wait_until { (Thread.list - @threads).empty? }).to be true } # no helper is left

      it "takes no signal" do
        mutex, condition = ProcessShared::Mutex.new, ProcessShared::ConditionVariable.new
        killed(condition) { mutex.synchronize { condition.wait(mutex) } }
        core = Thread::Mutex.new
        killed(condition) { core.synchronize { condition.wait(core) } }
        other = fork_child { mutex.synchronize { condition.wait(mutex, 10) } }
        wait_until { condition.waiters == 1 }
        condition.signal
        expect(other.value).to be_an Integer
      end

      it "takes no lock and no permit, and what it waited for can be closed" do
        mutex, semaphore = ProcessShared::Mutex.new.lock, ProcessShared::Semaphore.new(0)
        killed(mutex) { mutex.lock }
        killed(semaphore) { semaphore.wait }
        killed(semaphore) { semaphore.to_mtx.lock }
        GC.start
        mutex.unlock
        semaphore.post
        expect(in_child { [mutex.try_lock, semaphore.value] }).to eq [true, 1]
        [mutex, semaphore].each(&:close)
      end
    end
  end
end
