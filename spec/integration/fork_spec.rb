# frozen_string_literal: true

# Who holds what after a fork, of whatever kind: the parent holds what it held, the child holds nothing, and neither's
# end frees what the other holds.
RSpec.describe "After a fork" do
  # What a process that does not hold the mutex must see of it, while `holder` does.
  def view(mutex)
    refusal = begin
      mutex.unlock && "unlocked"
    rescue ProcessShared::ProcessError => error
      error.message
    end
    [mutex.locked?, mutex.owned?, mutex.owner_pid, mutex.try_lock, refusal]
  end

  def stranger(holder = Process.pid)
    match([true, false, holder, false, /\b#{holder}\b/])
  end

  # Child processes by different ways; each runs the block in the child and returns its value.
  ways = {
    "fork" => ->(&block) { Child.new { block.call }.value },
    "Process.fork" => lambda do |&block|
      reader, writer = IO.pipe.each(&:binmode)
      pid = Process.fork { writer.write(Marshal.dump(block.call)) && writer.flush && exit!(0) }
      writer.close
      Marshal.load(reader.read).tap { Process.wait(pid) }
    end,
    'IO.popen("-")' => lambda do |&block|
      pipe = IO.popen("-", "rb")
      pipe or ($stdout.binmode.write(Marshal.dump(block.call)) && $stdout.flush && exit!(0))
      Marshal.load(pipe.read).tap { pipe.close }
    end,
    "Process.daemon" => lambda do |&block|
      reader, writer = IO.pipe.each(&:binmode)
      pid = fork do
        Process.daemon(true, true)
        writer.write(Marshal.dump(block.call)) && writer.flush && exit!(0)
      end
      writer.close
      Process.wait(pid)
      Marshal.load(reader.read)
    end,
    "a fork of a fork" => ->(&block) { Child.new { Child.new { block.call }.value }.value }
  }
  # Ruby does not know that it has no other threads in such a child, so nothing there may give the GVL away. On macOS the
  # child has nothing of its parent's, and says so: spec/macos/fork_hook_spec.rb
  by_c_code = lambda do |way, &block|
    reader, writer = IO.pipe.each(&:binmode)
    pid = CFork.call(way)
    if pid.zero?
      writer.write_nonblock(Marshal.dump(block.call))
      exit!(0)
    end
    writer.close
    Marshal.load(reader.read).tap { Process.wait(pid) }
  end
  c_ways = { "a fork by C code" => :fork, "_Fork" => :_Fork, "a bare clone" => :clone }
  c_ways = c_ways.select { |_, way| CFork.possible?(way) && !ProcessShared.const_defined?(:Handover, false) }
  ways.merge!(c_ways.transform_values { |way| ->(&block) { by_c_code.call(way, &block) } })

  # There, Ruby would believe the thread that ends the stress to be in the child too.
  stress = c_ways.transform_values { { unstressed: "it needs another thread" } }
  stress.default = {}

  [ProcessShared::Mutex, ProcessShared::Monitor].each do |klass|
    ways.each do |name, way|
      describe "by #{name}, #{klass}", **stress[name] do
        let!(:mutex) { klass.new }

        it "held by the parent is a stranger's in the child, and stays the parent's" do
          mutex.lock
          expect(way.call { view(mutex) }).to stranger
          expect([mutex.owned?, mutex.owner_pid]).to eq [true, Process.pid]
          expect(mutex.unlock).not_to be_locked
        end

        it "is taken in the child for the child" do
          mine, pid, locked = way.call { [mutex.lock.owned?, mutex.owner_pid, mutex.unlock.locked?] }
          expect([mine, locked]).to eq [true, false]
          expect(pid).to be_an(Integer).and(satisfy { |child| child != Process.pid })
          expect(mutex.try_lock).to be true
        end

        it "is taken over by the parent when the child dies with it" do
          way.call { mutex.lock && :held }
          expect(mutex.synchronize { mutex.abandoned? }).to be true
        end

        it "taken before and after in the parent is still right there" do
          mutex.synchronize { way.call { mutex.owned? } }
          mutex.synchronize { expect(mutex.owner_pid).to be Process.pid }
          expect(mutex).not_to be_locked
        end
      end
    end

    describe klass do
      let!(:mutex) { klass.new }

      it "that the parent holds makes a child wait until the parent unlocks" do
        mutex.lock
        child = fork_child { |parent| parent.say && mutex.synchronize { mutex.owner_pid == Process.pid } }
        child.hear
        wait_until_blocked(child)
        mutex.unlock
        expect(child.value).to be true
      end

      it "that another thread holds is a stranger's in the child of this one" do
        holder = in_thread { mutex.synchronize { sleep } }
        wait_until { mutex.locked? }
        wait_until_blocked(holder)
        expect(in_child { view(mutex) }).to stranger
        holder.kill.join
        expect(mutex).not_to be_locked
      end

      it "that this thread holds is a stranger's in a child forked by another thread" do
        mutex.lock
        expect(in_thread { in_child { view(mutex) } }.value).to stranger
        expect(mutex).to be_owned
      end

      it "that a thread other than the main one holds and forks with stays that thread's" do
        result = in_thread { mutex.synchronize { [in_child { view(mutex) }, mutex.owned?] } }.value
        expect(result).to match [stranger, true]
      end

      it "that a fiber holds and forks with stays that fiber's" do
        result = Fiber.new { mutex.synchronize { [in_child { view(mutex) }, mutex.owned?] } }.resume
        expect(result).to match [stranger, true]
        expect(mutex).not_to be_locked
      end

      it "that was held in synchronize is left alone by a child that leaves the block" do
        result = mutex.synchronize do
          pid = fork do
            Process.setpgid(0, 0)
          ensure
            exit!(mutex.owned? ? 1 : 0)
          end
          Process.wait2(pid).last.exitstatus
        end
        expect(result).to be 0
      end

      it "raises in a child that falls out of the parent's synchronize, and stays the parent's" do
        reader, writer = IO.pipe
        parent = Process.pid
        begin
          mutex.synchronize do
            pid = fork
            if pid
              Process.wait(pid)
              writer.close
              expect(reader.read).to match(/ProcessShared::ProcessError.*#{parent}/)
              expect(mutex).to be_owned
            end
          end
        rescue ProcessShared::ProcessError => error
          raise if Process.pid == parent

          writer.write("#{error.class} #{error.message}") && writer.flush
        ensure
          exit!(0) unless Process.pid == parent
        end
      end

      it "is not freed by the exit, in whatever way, of a child" do
        mutex.lock
        [-> { exit!(0) }, -> { Process.kill(:KILL, Process.pid) }, -> { exec("true") }].each do |ending|
          pid = fork(&ending)
          Process.wait(pid)
          expect([mutex.owned?, mutex.owner_pid]).to eq [true, Process.pid]
          expect(in_child { mutex.try_lock }).to be false
        end
      end

      it "is not freed by a child that closes it or drops it" do
        mutex.lock
        in_child { mutex.close }
        expect([mutex.owned?, mutex.closed?]).to eq [true, false]
        in_child { GC.start && nil }
        expect(mutex.unlock).not_to be_locked
      end

      it "stays held over spawn, system and backticks" do
        mutex.lock
        Process.wait(spawn("true"))
        system("true")
        `true`
        expect([mutex.owned?, mutex.owner_pid]).to eq [true, Process.pid]
        expect(in_child { mutex.try_lock }).to be false
      end

      it "made by a child is shared with the grandchild, and not with the parent" do
        seen = in_child do
          inner = klass.new.lock
          in_child { [inner.owned?, inner.locked?, inner.owner_pid == Process.ppid] }
        end
        expect(seen).to eq [false, true, true]
      end

      it "shares no slot between objects made by parent and children after the fork" do
        children = Array.new(3) do
          fork_child do |parent|
            mine = Array.new(200) { klass.new }
            mine.each(&:lock)
            parent.say
            parent.listen
            mine.all?(&:owned?)
          end
        end
        mine = Array.new(200) { klass.new }
        children.each(&:hear)
        expect(mine.map(&:try_lock)).to all be true
        children.each { |child| child.tell(:go) }
        expect(children.map(&:value)).to eq [true, true, true]
      end

      it "that was dropped before the fork does not come back as another's in the child" do
        200.times { klass.new }
        GC.start
        before = Array.new(100) { klass.new }
        before.each(&:lock)
        made = in_child do
          fresh = Array.new(300) { klass.new }
          [fresh.none?(&:locked?), fresh.each(&:lock).all?(&:owned?), before.none?(&:owned?)]
        end
        expect(made).to eq [true, true, true]
        expect(before).to all be_owned
      end
    end
  end

  c_ways.each do |name, c_way|
    describe "by #{name}", **stress[name] do
      # What the child says that leaves the block in which it was forked.
      def leave(c_way, synchronized)
        reader, writer = IO.pipe
        pid = nil
        begin
          synchronized.call do
            pid = CFork.call(c_way)
            unless pid.zero?
              writer.close
              Process.wait(pid)
              yield
            end
          end
          outcome = "left"
        rescue ProcessShared::ProcessError => error
          outcome = error.message
        ensure
          pid&.zero? and (writer.write_nonblock(outcome || "left otherwise") && exit!(0))
        end
        reader.read
      end

      [ProcessShared::Mutex, ProcessShared::Monitor].each do |klass|
        it "a child that falls out of the parent's synchronize raises, and unlocks nothing, #{klass}" do
          mutex = klass.new
          said = leave(c_way, mutex.method(:synchronize)) { expect([mutex.owned?, mutex.owner_pid]).to eq [true, Process.pid] }
          expect(said).to match(/held by process #{Process.pid}/)
          expect(mutex).not_to be_locked
        end
      end

      it "a semaphore is shared" do
        semaphore = ProcessShared::Semaphore.new(2)
        expect(ways[name].call { semaphore.wait.value }).to be 1
        expect(ways[name].call { semaphore.post.synchronize { semaphore.value } }).to be 1
        expect(semaphore.value).to be 2
      end

      it "parent and child make objects of their own" do
        before = Array.new(100) { ProcessShared::Semaphore.new(1) }
        steps = ProcessShared::SharedMemory.new(2)
        pid = CFork.call(c_way)
        if pid.zero?
          mine = Array.new(5000) { ProcessShared::Semaphore.new(2) }
          steps.put_uint8(0, 1)
          # IO would give the GVL away, perhaps for ever: Ruby does not know that it has no other threads here.
          nil until steps.get_uint8(1) == 1
          exit!((mine.map(&:value) + before.map(&:value)).tally == { 2 => 5000, 1 => 100 })
        end
        mine = Array.new(5000) { ProcessShared::Semaphore.new(3) }
        wait_until("the child's objects") { steps.get_uint8(0) == 1 }
        expect((mine.map(&:value) + before.map(&:value)).tally).to eq(3 => 5000, 1 => 100)
        steps.put_uint8(1, 1)
        expect(Process.wait2(pid).last).to be_success
      end
    end
  end

  describe "the levels of a Monitor" do
    let!(:monitor) { ProcessShared::Monitor.new }

    it "stay with the parent" do
      3.times { monitor.enter }
      in_child { monitor.try_enter }
      3.times { monitor.exit }
      expect(monitor).not_to be_mon_locked
      expect(in_child { monitor.enter || monitor.exit || monitor.mon_locked? }).to be false
    end

    it "begin anew in a child that took over from the parent" do
      2.times { monitor.enter }
      child = fork_child { |parent| parent.say && monitor.enter || monitor.exit || monitor.mon_locked? }
      child.hear
      wait_until { monitor.waiters == 1 }
      2.times { monitor.exit }
      expect(child.value).to be false
    end
  end

  it "a semaphore is shared by all descendants" do
    semaphore = ProcessShared::Semaphore.new(0)
    in_child { semaphore.post && in_child { semaphore.post && semaphore.value } }
    expect(semaphore.value).to be 2
  end

  it "a condition wakes waiters in grandchildren" do
    mutex = ProcessShared::Mutex.new
    condition = ProcessShared::ConditionVariable.new
    child = fork_child { in_child { mutex.synchronize { condition.wait(mutex) } } }
    wait_until { condition.waiters == 1 }
    condition.signal
    expect(child.value).to be_an(Integer)
  end

  it "a thread that waited in the parent waits on there, and not in the child" do
    semaphore = ProcessShared::Semaphore.new(0)
    waiter = in_thread { semaphore.wait && :had }
    wait_until { semaphore.waiters == 1 }
    expect(in_child { semaphore.waiters }).to be 1
    in_child { semaphore.post && nil }
    expect(waiter.value).to be :had
  end

  it "exec passes nothing on" do
    ProcessShared::Mutex.new.lock
    memory = ProcessShared::SharedMemory.new(16)
    listing = in_child do
      reader, writer = IO.pipe
      pid = spawn("ls -l /proc/self/fd; cat /proc/self/maps", out: writer)
      writer.close
      reader.read.tap { Process.wait(pid) }
    end
    expect(listing).not_to match(/process_shared|memfd/)
    expect(memory.size).to be 16
  end
end
