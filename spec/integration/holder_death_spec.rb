# frozen_string_literal: true

# A holder that dies, in whatever way, hands the lock on: at once, to whoever waits or comes.
[ProcessShared::Mutex, ProcessShared::Monitor].each do |klass|
  RSpec.describe klass, "whose holder died" do
    let!(:mutex) { klass.new }

    # A child that takes the mutex and then runs the block; returns with the mutex held.
    def holder(&dying)
      child = fork_child do |parent|
        mutex.lock
        parent.say
        parent.listen
        dying&.call
        sleep
      end
      child.hear
      child
    end

    # Has the holder die while another waits for the mutex: whether that one gets it, abandoned.
    def abandoned_for_a_waiter?(child)
      waiter = fork_child { |parent| parent.say && mutex.lock && mutex.abandoned? }
      waiter.hear
      wait_until_blocked(waiter)
      child.tell(:die)
      waiter.value
    end

    {
      "SIGKILL" => -> { Process.kill(:KILL, Process.pid) },
      "SIGSEGV" => -> { trap(:SEGV, "SYSTEM_DEFAULT") rescue nil; Process.setrlimit(:CORE, 0); Process.kill(:ABRT, Process.pid) },
      "SIGTERM" => -> { trap(:TERM, "SYSTEM_DEFAULT"); Process.kill(:TERM, Process.pid) },
      "exit!" => -> { exit!(3) },
      "exit" => -> { exit(3) },
      "exec" => -> { exec("sleep", "60") },
      "exec of a shell" => -> { exec("exec sleep 60") }
    }.each do |way, dying|
      it "by #{way} is taken over by the next lock, which returns self" do
        child = holder(&dying)
        child.tell(:die)
        expect(mutex.lock).to be mutex
        expect([mutex.abandoned?, mutex.owned?, mutex.owner_pid]).to eq [true, true, Process.pid]
        mutex.unlock
        expect([mutex.abandoned?, mutex.locked?]).to eq [false, false]
      end

      it "by #{way} wakes the one that waits" do
        expect(abandoned_for_a_waiter?(holder(&dying))).to be true
      end
    end

    it "is taken at once after the death, not by a look now and then" do
      times = Array.new(10) do
        child = holder
        waiter = fork_child do |parent|
          parent.say
          mutex.lock
          time = Process.clock_gettime(Process::CLOCK_MONOTONIC)
          mutex.unlock
          time
        end
        waiter.hear
        wait_until_blocked(waiter)
        start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
        child.kill
        waiter.value - start
      end
      expect(times.min).to be < 0.2 # on a machine that is busy with other things
    end

    it "wakes waiters one after the other" do
      child = holder
      waiters = Array.new(4) do
        waiter = fork_child { |parent| parent.say && mutex.synchronize { mutex.abandoned? } }
        waiter.hear
        waiter
      end
      wait_until_blocked(waiters)
      child.kill
      expect(waiters.map(&:value)).to match_array [true, false, false, false]
    end

    it "survives a chain of holders that all die" do
      children = Array.new(5) { fork_child { |parent| mutex.lock && parent.say && sleep } }
      5.times do
        pid = wait_until { mutex.owner_pid }
        holder = children.find { |child| child.pid == pid }
        holder.hear
        holder.kill
        wait_until { mutex.owner_pid != pid }
      end
      expect(mutex.synchronize { mutex.abandoned? }).to be true
    end

    it "is taken over by try_lock, with and without a time, and by synchronize" do
      [-> { mutex.try_lock }, -> { mutex.try_lock(5) }].each do |take|
        holder.kill
        expect([take.call, mutex.abandoned?]).to eq [true, true]
        mutex.unlock
      end
      holder.kill
      expect(mutex.synchronize { mutex.abandoned? }).to be true
    end

    it "is seen as abandoned by all while the one that took it over has it" do
      holder.kill
      mutex.lock
      expect(in_child { [mutex.abandoned?, mutex.locked?] }).to eq [true, true]
      expect(in_thread { mutex.abandoned? }.value).to be true
    end

    it "stays abandoned when the one that took it over dies too" do
      2.times { holder.kill }
      expect(mutex.synchronize { mutex.abandoned? }).to be true
      expect(mutex.synchronize { mutex.abandoned? }).to be false
    end

    it "is neither owned nor anybody's before it is taken over, and says that it was left" do
      pid = holder.tap(&:kill).pid
      expect(mutex).not_to be_owned
      expect([mutex.abandoned?, mutex.locked?, in_child { mutex.abandoned? }]).to eq [true, false, true]
      expect(mutex.inspect).to eq "#<#{klass} left by a holder that died>"
      expect([nil, pid]).to include mutex.owner_pid
      expect { mutex.unlock }.to raise_error(ProcessShared::ProcessError)
      expect(mutex.inspect).to start_with("#<#{klass}")
    end

    it "hands on all of many locks held at once" do
      mutexes = Array.new(500) { klass.new }
      child = fork_child { |parent| mutexes.each(&:lock) && parent.say && sleep }
      child.hear
      child.kill
      expect(mutexes.map { |each| each.synchronize { each.abandoned? } }).to all be true
    end

    it "is handed on while somebody waits for a condition of it" do
      condition = ProcessShared::ConditionVariable.new
      waiter = fork_child { mutex.synchronize { [condition.wait(mutex), mutex.owned?, mutex.abandoned?] } }
      wait_until { condition.waiters == 1 }
      child = holder
      condition.signal
      wait_until_blocked(waiter)
      child.kill
      expect(waiter.value).to match [Integer, true, true]
    end

    it "is handed on to one that sleeps on it" do
      sleeper = fork_child { |parent| mutex.synchronize { [parent.say, mutex.sleep, mutex.owned?, mutex.abandoned?].drop(1) } }
      sleeper.hear
      child = holder
      mutex.wakeup_first
      wait_until { mutex.waiters == 1 }
      child.kill
      expect(sleeper.value).to match [Integer, true, true]
    end

    # The kernel gives a thread that calls exec another number before it looks at what the thread holds.
    describe "by exec in a thread that is not the first" do
      # A child, a thread of which takes the mutex and runs the block when it is told to.
      def holding_thread(&dying)
        child = fork_child do |parent|
          thread = Thread.new { mutex.lock && parent.say && parent.listen && instance_exec(&dying) }
          thread.report_on_exception = false
          thread.value
        end
        child.hear
        child
      end

      {
        "Kernel#exec" => -> { exec("sleep", "60") },
        "Kernel.exec" => -> { Kernel.exec("sleep", "60") },
        "Process.exec with an environment and options" => -> { Process.exec({ "A" => "b" }, %w[sleep sleep], "60", umask: 0o77) },
        "exec of a shell" => -> { exec("exec sleep 60") },
        "exec after one that failed" => -> { exec("/nowhere") rescue exec("sleep", "60") },
        "exec in a fiber" => -> { Fiber.new { exec("sleep", "60") }.resume },
        "exec in an argument of exec" => -> { exec(Object.new.tap { |object| object.define_singleton_method(:to_str) { exec("sleep", "60") } }) }
      }.each do |way, dying|
        it "is taken over: #{way}" do
          expect(abandoned_for_a_waiter?(holding_thread(&dying))).to be true
        end
      end

      it "is taken over at once, not by a look now and then", unstressed: "bounds the time that exec takes in a child" do
        times = Array.new(10) do
          child = holding_thread { exec("sleep", "60") }
          child.tell(:die)
          seconds { mutex.synchronize { expect(mutex).to be_abandoned } }.tap { child.kill }
        end
        expect(times.min).to be < 0.2 # on a machine that is busy with other things
      end

      it "is taken over in a child that C code forked, by its first thread",
         unstressed: "Ruby would believe the thread that ends the stress to be in that child too" do
        skip "neither ffi nor fiddle" unless CFork.possible?
        skip "on macOS such a child has nothing of its parent's" if ProcessShared.const_defined?(:Handover, false)

        child = fork_child { |parent| Thread.new { CFork.call.zero? ? mutex.lock && parent.say && exec("sleep", "60") : sleep }.join }
        child.hear
        expect(mutex.synchronize { mutex.abandoned? }).to be true
      end

      it "is still held where the program cannot be executed", unstressed: "counts the threads of a process" do
        other = klass.new
        seen = in_child do
          Thread.new do
            [other, mutex].each(&:lock)
            count = -> { Dir["/proc/self/task/*"].size }
            before = count.call
            odd = Object.new
            during = nil
            look = lambda do
              during = [mutex.owned?, mutex.owner_pid == Process.pid]
              other.unlock
              raise IOError
            end
            odd.define_singleton_method(:to_str) { look.call }
            errors = [-> { exec("/nowhere") }, -> { Process.exec("/nowhere", "a") }, -> { exec(odd) }, -> { exec }].map do |call|
              call.call
            rescue StandardError => error
              error.class
            end
            sleep 0.001 until count.call == before # what held them meanwhile has gone
            [errors, during, mutex.owned?, other.owned?, mutex.abandoned?, in_child { mutex.try_lock }]
          end.value
        end
        expect(seen).to eq [[Errno::ENOENT, Errno::ENOENT, IOError, ArgumentError], [true, true], true, false, false, false]
        expect([mutex.synchronize { mutex.abandoned? }, other.synchronize { other.abandoned? }]).to eq [true, false]
      end

      it "leaves exec as private as it was" do
        expect { Object.new.exec("true") }.to raise_error(NoMethodError, /private/)
        expect(Kernel.method(:exec).arity).to be(-1)
      end
    end

    describe "with on_abandoned" do
      let!(:calls) { [] }
      let!(:mutex) { klass.new(on_abandoned: ->(given) { calls << [given, given.owned?, given.abandoned?] }) }

      it "runs it with the mutex, held, before lock returns" do
        holder.kill
        mutex.lock
        expect(calls).to eq [[mutex, true, true]]
        expect(mutex).to be_owned.and be_abandoned
        mutex.unlock
        mutex.synchronize { nil }
        expect(calls.size).to be 1
      end

      it "runs it for try_lock and synchronize too" do
        holder.kill
        mutex.try_lock && mutex.unlock
        holder.kill
        mutex.synchronize { nil }
        expect(calls.size).to be 2
      end

      it "does not run it where the holder unlocked" do
        child_holding(mutex).then { |child| child.tell(:unlock) && child.value }
        mutex.synchronize { nil }
        expect(calls).to be_empty
      end

      it "does not run it for a lock that was not got" do
        child_holding(mutex)
        expect([mutex.try_lock, mutex.try_lock(0.01)]).to eq [false, false]
        expect(calls).to be_empty
      end
    end

    describe "with on_abandoned that unlocks" do
      let!(:mutex) { klass.new(on_abandoned: :unlock.to_proc) }

      { "lock" => :lock, "try_lock" => :try_lock, "synchronize" => ->(mutex, &block) { mutex.synchronize(&block) && mutex.lock } }.each do |name, take|
        it "holds the lock all the same after #{name}" do
          holder.kill
          take.to_proc.call(mutex) { true }
          expect([mutex.owned?, mutex.abandoned?]).to eq [true, false]
        end
      end

      it "holds the lock all the same after a wait" do
        condition = ProcessShared::ConditionVariable.new
        waiter = fork_child { mutex.synchronize { condition.wait(mutex) && mutex.owned? } }
        wait_until { condition.waiters == 1 }
        child = holder
        condition.signal
        wait_until { mutex.waiters == 1 }
        child.kill
        expect(waiter.value).to be true
      end
    end

    # A waiter that was woken holds up others that were, until it has the mutex; but not while it runs Ruby code.
    it "lets on_abandoned, run by one that was woken, wait for another that was, which goes on with the repair" do
      condition = ProcessShared::ConditionVariable.new
      step = ProcessShared::SharedMemory.new(:int)
      mutex = klass.new(on_abandoned: lambda do |given|
        step.write_int(step.read_int + 1)
        step.read_int == 1 ? (condition.wait(given) until step.read_int == 2) : condition.signal
      end)
      first = fork_child { mutex.synchronize { [condition.wait(mutex), mutex.owned?] } }
      wait_until { condition.waiters == 1 }
      second = fork_child { mutex.synchronize { [condition.wait(mutex), mutex.abandoned?] } }
      wait_until { condition.waiters == 2 }
      holder = fork_child { |parent| mutex.lock && condition.signal && parent.say && sleep }
      holder.hear
      wait_until { mutex.waiters == 1 } # the first
      condition.signal
      holder.kill
      expect(second.value).to match [Integer, true]
      expect(first.value).to match [Integer, true]
      expect([step.read_int, mutex.synchronize { mutex.abandoned? }]).to eq [2, false]
    end

    # Whatever gives the lock away before on_abandoned has returned leaves the lock marked for the next holder.
    describe "in a process that is killed in its on_abandoned" do
      let!(:condition) { ProcessShared::ConditionVariable.new }
      let!(:runs) { ProcessShared::SharedMemory.new(:int) }

      # The child is told what to do in on_abandoned; others do nothing there but count.
      def killed_in_on_abandoned(take: :lock)
        give_away = nil
        counting = lambda do |given|
          runs.write_int(runs.read_int + 1)
          give_away&.call(given)
        end
        mutex = described_class.new(on_abandoned: counting)
        child_holding(mutex).kill
        child = fork_child do |parent|
          give_away = lambda do |given|
            parent.say
            yield given
          end
          mutex.public_send(take)
        end
        child.hear
        mutex.lock # which the child has given away
        child.kill
        seen = [mutex.abandoned?, runs.read_int]
        mutex.unlock
        [*seen, mutex.synchronize { mutex.abandoned? }]
      end

      {
        "sleeps on the mutex" => ->(mutex, _) { mutex.sleep },
        "sleeps on the mutex again and again" => ->(mutex, _) { loop { mutex.sleep(0.001) } },
        "waits for a condition" => ->(mutex, condition) { condition.wait(mutex) }
      }.each do |way, give_away|
        it "and #{way} there, the next holder sees it abandoned, and repairs it" do
          expect(killed_in_on_abandoned { |mutex| give_away.call(mutex, condition) }).to eq [true, 2, false]
        end

        it "and #{way} there after try_lock, the next holder sees it abandoned, and repairs it" do
          expect(killed_in_on_abandoned(take: :try_lock) { |mutex| give_away.call(mutex, condition) }).to eq [true, 2, false]
        end
      end

      it "and sleeps there in a fiber under a scheduler, the next holder sees it abandoned, and repairs it" do
        mutex = klass.new(on_abandoned: lambda do |given|
          runs.write_int(runs.read_int + 1)
          given.sleep if runs.read_int == 1
        end)
        child_holding(mutex).kill
        child = fork_child do |parent|
          Thread.new do
            Fiber.set_scheduler(Scheduler.new)
            Fiber.schedule { mutex.lock }
            Fiber.schedule { parent.say }
          end.join
        end
        child.hear
        mutex.lock
        child.kill
        expect([mutex.abandoned?, runs.read_int]).to eq [true, 2]
      end

      it "and has waited there for a repair by another process, it holds the lock in order again" do
        mutex = klass.new(on_abandoned: lambda do |given|
          runs.write_int(runs.read_int + 1)
          given.sleep if runs.read_int == 1
        end)
        child_holding(mutex).kill
        child = fork_child { mutex.lock && [mutex.owned?, mutex.abandoned?] }
        wait_until { runs.read_int == 1 && !mutex.locked? }
        mutex.synchronize { nil } # repairs
        mutex.wakeup_first
        expect(child.value).to eq [true, false]
        expect([mutex.synchronize { mutex.abandoned? }, runs.read_int]).to eq [true, 3] # the child has ended with the lock
      end
    end

    describe "with on_abandoned that closes the mutex" do
      { "lock" => :lock, "try_lock" => :try_lock, "try_lock with a timeout" => ->(mutex) { mutex.try_lock(10) },
        "synchronize" => ->(mutex) { mutex.synchronize { :never } } }.each do |name, take|
        it "raises ClosedError out of #{name}, and leaves the lock abandoned for others" do
          mutex = klass.new(on_abandoned: ->(given) { given.close if Process.pid == @closing })
          child_holding(mutex).kill
          other = fork_child { |parent| parent.listen && mutex.lock && mutex.abandoned? }
          @closing = Process.pid
          expect { take.to_proc.call(mutex) }.to raise_error(ProcessShared::ClosedError)
          other.tell(:go)
          expect(other.value).to be true
        end
      end
    end

    describe "with on_abandoned that raises" do
      let!(:tries) { ProcessShared::SharedMemory.new(:int) }
      let!(:mutex) do
        klass.new(on_abandoned: lambda do |_|
          tries.write_int(tries.read_int + 1)
          raise KeyError, "broken" if tries.read_int < 3
        end)
      end

      it "gives the exception to the caller, frees the lock, and leaves it abandoned for the next" do
        holder.kill
        expect { mutex.lock }.to raise_error(KeyError, "broken")
        expect([mutex.owned?, mutex.owner_pid]).to eq [false, nil]
        expect { in_child { mutex.lock } }.to raise_error(Child::Failed, /KeyError: broken/)
        expect(mutex.synchronize { mutex.abandoned? }).to be true
        expect(tries.read_int).to be 3
        expect(mutex.synchronize { mutex.abandoned? }).to be false
      end

      it "leaves it so only until somebody has repaired it" do
        condition = ProcessShared::ConditionVariable.new
        mutex.synchronize { nil }
        thread = in_thread do
          mutex.lock
          condition.wait(mutex) rescue nil # and ends with the lock
        end
        wait_until { condition.waiters == 1 }
        fork_child { mutex.lock && condition.signal && sleep }.then { |child| wait_until { mutex.waiters == 1 } && child.kill }
        thread.join
        tries.write_int(3)
        in_child { mutex.lock.unlock && nil }
        mutex.lock.unlock
        expect(in_child { mutex.lock.abandoned? }).to be false
      end

      it "runs no block of synchronize" do
        holder.kill
        ran = false
        expect { mutex.synchronize { ran = true } }.to raise_error(KeyError)
        expect(ran).to be false
      end

      it "wakes the next waiter" do
        child = holder
        waiters = Array.new(3) do
          waiter = fork_child do |parent|
            parent.say
            mutex.synchronize { :in }
          rescue KeyError
            :refused
          end
          waiter.hear
          waiter
        end
        wait_until_blocked(waiters)
        child.kill
        expect(waiters.map(&:value)).to match_array %i[refused refused in]
      end
    end

    describe "as a thread" do
      it "that ended is taken over at once, with abandoned? true" do
        in_thread { mutex.lock }.join
        expect(mutex.try_lock).to be true
        expect([mutex.abandoned?, mutex.owned?]).to eq [true, true]
        mutex.unlock
      end

      it "that ends wakes a waiting thread" do
        go = Thread::Queue.new
        thread = in_thread { mutex.lock && go.pop }
        wait_until { mutex.locked? }
        waiter = in_thread { mutex.synchronize { mutex.abandoned? } }
        wait_until_blocked(waiter)
        go << :end
        expect(waiter.value).to be true
        thread.join
      end

      it "that ends wakes a waiting process" do
        go = Thread::Queue.new
        in_thread { mutex.lock && go.pop }
        wait_until { mutex.locked? }
        waiter = fork_child { |parent| parent.say && mutex.synchronize { mutex.abandoned? } }
        waiter.hear
        wait_until_blocked(waiter)
        go << :end
        expect(waiter.value).to be true
      end

      {
        "is killed" => ->(_) { sleep },
        "ends by an exception" => ->(_) { raise "over" },
        "ends by Thread.exit" => ->(_) { Thread.exit },
        "kills itself" => ->(_) { Thread.current.kill },
        "ends by throw" => ->(_) { throw :nowhere },
        "is killed while it sleeps on the mutex" => ->(mutex) { mutex.sleep }
      }.each do |way, ending|
        it "that #{way} hands it on at once" do
          thread = in_thread { mutex.lock && ending.call(mutex) }
          wait_until { !thread.alive? || thread.status == "sleep" }
          thread.kill
          thread.join rescue nil
          expect(mutex.try_lock).to be true
          expect(mutex).to be_abandoned
        end

        it "that #{way} wakes a waiting process at once" do
          go = Thread::Queue.new
          thread = in_thread { mutex.lock && go.pop && ending.call(mutex) }
          wait_until { mutex.locked? }
          waiter = fork_child { |parent| parent.say && mutex.synchronize { mutex.abandoned? } }
          waiter.hear
          wait_until_blocked(waiter)
          go << :go
          wait_until { !thread.alive? || thread.status == "sleep" }
          thread.kill
          expect([true, false]).to include waiter.value # it gets the lock; a thread that slept had given it back
        end
      end

      it "that calls Process.exec while others hold locks hands on those of all" do
        locks = Array.new(3) { klass.new }
        child = fork_child do |parent|
          others = locks.map { |lock| Thread.new { lock.lock && sleep } }
          Thread.new { mutex.lock && others.each { |other| sleep 0.001 until other.status == "sleep" } && parent.say && Process.exec("sleep", "60") }
          sleep
        end
        child.hear
        expect([mutex, *locks].map { |lock| lock.synchronize { lock.abandoned? } }).to all be true
      end

      it "that ended after another thread of its kind was started is taken over" do
        20.times do
          in_thread { mutex.lock }.join
          expect(in_thread { mutex.synchronize { mutex.abandoned? } }.value).to be true
        end
      end
    end
  end
end

RSpec.describe "A thread that began before process_shared was loaded" do
  it "hands its lock on when it ends, at the latest with its native thread" do
    expect(ruby_after(<<~RUBY, <<~'SCRIPT')).to eq "[true, true]\n"
      $early = Thread.new do
        sleep 0.001 until $mutex
        $mutex.lock
        sleep
      end
    RUBY
      $mutex = ProcessShared::Mutex.new
      Thread.pass until $mutex.locked?
      $early.kill.join
      Thread.new { sleep 0.001 }.join # which may be the next on that native thread
      p [$mutex.try_lock(10), $mutex.abandoned?]
    SCRIPT
  end
end
