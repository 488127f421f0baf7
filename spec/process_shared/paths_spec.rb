# frozen_string_literal: true

require "pathname"
require "socket"
require "tmpdir"
require_relative "../support/pid_namespaces"

# Objects with a path: what holds for every class that takes one.
RSpec.describe "An object with a path" do
  include PidNamespaces

  around { |example| Dir.mktmpdir { |folder| (@folder = folder) && example.run } }

  def path(name = "object") = File.join(@folder, name)

  # Runs the script in a process that is not related to this one, with `path` set.
  def elsewhere(script, **options)
    ruby("path = #{path.inspect}\n#{script}", **options)
  end

  # The same, killed by itself at the end.
  def killed_elsewhere(script)
    output, status = ruby_with_status("path = #{path.inspect}\n#{script}\nProcess.kill(:KILL, $$)")
    raise output unless status.termsig == 9
  end

  def error_of
    yield && nil
  rescue SystemCallError => error
    error.class.name
  end

  SharedClass.with_path.each do |entry|
    describe entry.klass do
      let(:object) { entry.at(path) }

      it "is made with exactly the mode that it is given, whatever the umask" do
        before = File.umask(0o777)
        entry.at(path)
        entry.at(path("open"), mode: 0o666)
        expect([path, path("open")].map { |file| File.stat(file).mode & 0o7777 }).to eq [0o600, 0o666]
      ensure
        File.umask(before)
      end

      it "tells where it is: nothing changes it" do
        expect(entry.make.path).to be_nil
        expect(entry.at(nil).path).to be_nil
        Dir.chdir(@folder) { expect(entry.at("object").path).to eq File.realpath(@folder) + "/object" }
        expect(entry.at(Pathname(path)).path).to eq path
        expect(object.path).to be_frozen
        entry.end_of(object)
        expect { object.path }.to raise_error(ProcessShared::ClosedError)
      end

      it "works, also frozen and shareable, and is inspected" do
        entry.in_use(object)
        expect(object.inspect).to start_with("#<#{entry.klass}")
        expect(Ractor.make_shareable(object).path).to eq path
      end

      it "takes no path that none can be" do
        expect { entry.at("") }.to raise_error(ArgumentError)
        expect { entry.at("a\0b") }.to raise_error(ArgumentError)
        expect { entry.at(@folder + "/x/") }.to raise_error(ArgumentError)
        expect { entry.at(7) }.to raise_error(TypeError)
        expect { entry.at(path("none/object")) }.to raise_error(Errno::ENOENT, /none/)
        expect { entry.at(path, mode: 0o200) }.to raise_error(ArgumentError, /mode 0200/)
        expect { entry.at(path, mode: "600") }.to raise_error(TypeError)
        expect(Dir.children(@folder)).to eq []
      end

      it "costs one descriptor, close-on-exec, however often it is opened, and gives it back" do
        # the fewest: another thread that looks whether a process lives has one for a moment, over the model of Mach
        descriptors = -> { Array.new(3) { Dir.children("/dev/fd").size }.min }
        entry.end_of(entry.make)
        before = descriptors.call
        kept = Array.new(20) { entry.at(path) }
        expect(descriptors.call).to eq before + 1
        opened = Dir.children("/dev/fd").filter_map do |number|
          IO.for_fd(number.to_i, autoclose: false)
        rescue SystemCallError, ArgumentError # that of the listing; Ruby's own
          nil
        end
        expect(opened.find { |io| io.stat.ino == File.stat(path).ino }).to be_close_on_exec
        kept.each { |handle| entry.end_of(handle) }
        kept.clear
        20.times { GC.start }
        expect(descriptors.call).to be <= before + 1 # the collector looks at old stacks too
      end

      it "takes little room" do
        object
        expect(File.size(path)).to be <= entry.file_size
      end

      it "can be deleted at any time: who has it goes on, who comes next makes another" do
        object
        File.delete(path)
        entry.in_use(object)
        other = entry.at(path)
        entry.in_use(other)
        expect(File.exist?(path)).to be true
        entry.in_use(object)
      end

      it "is refused where it cannot be trusted, and says why" do
        File.symlink("nowhere", path("link"))
        expect { entry.at(path("link")) }.to raise_error(ProcessShared::ProcessError, /link is a symbolic link/)
        Dir.mkdir(path("directory"))
        expect { entry.at(path("directory")) }.to raise_error(ProcessShared::ProcessError, /directory is a directory/)
        File.mkfifo(path("pipe"))
        expect { entry.at(path("pipe")) }.to raise_error(ProcessShared::ProcessError, /pipe is a named pipe/)
        entry.end_of(object)
        File.chmod(0o666, path)
        expect { elsewhere("#{entry.making_at(path)}") }.to raise_error(/can be written by its group and everybody/)
        File.write(path("other"), "x" * 10_000)
        File.chmod(0o600, path("other"))
        expect { entry.at(path("other")) }.to raise_error(ProcessShared::IncompatibleError, /no object of process_shared/)
        expect(File.size(path("other"))).to eq 10_000
      end

      it "is refused as another class, by a message that names both" do
        object
        (SharedClass.with_path - [entry]).each do |other|
          expect { other.at(path) }.to raise_error(ArgumentError, /is a #{entry.name}.*, not a #{other.name}/)
        end
      end

      it "is refused with another layout, which is named, and may be deleted" do
        entry.end_of(object)
        elsewhere("File.binwrite(path, [99].pack('L'), 20)")
        expected = /another layout version \(99, here it is 1\): .*delete.*IncompatibleError/m
        expect { elsewhere(entry.making_at(path)) }.to raise_error(expected)
      end

      it "is one for unrelated processes, and for children" do
        object
        expect(elsewhere("object = #{entry.making_at(path)}; #{entry.use}; p object.closed?")).to eq "false\n"
        in_child { [object, entry.at(path)].each { |handle| entry.in_use(handle) } }
        entry.in_use(object)
      end

      it "is one for two Ractors" do
        expect(elsewhere(<<~RUBY, options: ["-W0"])).to eq "[#{path.inspect}, #{path.inspect}]\n"
          ractors = Array.new(2) do
            Ractor.new(path) { |path| 50.times.map { object = #{entry.making_at("PATH").sub('"PATH"', "path")}; object.path }.uniq.first }
          end
          p ractors.map { |ractor| ractor.respond_to?(:value) ? ractor.value : ractor.take }
        RUBY
      end

      it "is made once by many at once" do
        makers = Array.new(25) { fork_child { |parent| parent.listen && entry.at(path) && File.stat(path).ino } }
        makers.each { |maker| maker.tell(:go) }
        expect(makers.map(&:value).uniq.size).to be <= 2 # all that had it may be gone before the last one comes
        expect(Dir.children(@folder)).to eq ["object"]
      end

      it "survives any bytes, found and under its users" do
        entry.end_of(object)
        map = "[object.store(1, 2), object[1], object.delete(1), object.size] rescue $!"
        use = { memory: entry.use, map:, queue: "[object.push(1, timeout: 0), object.pop(timeout: 0)] rescue p $!" }[entry.kind]
        use ||= { Presence: "(#{entry.use}) rescue p $!", CyclicBarrier: "[object.wait(0), object.reset]",
                  ReadWriteLock: "[(object.try_read_lock(0) && object.release_read_lock rescue 1), " \
                                 "(object.try_write_lock(0) && object.release_write_lock rescue 1)]" }[entry.name]
        elsewhere(<<~RUBY, within: 60)
          good = File.binread(path)
          random = Random.new(7)
          20.times do
            bytes = good.dup
            from = random.rand(2) == 0 ? 4096 : 0
            random.rand(1..500).times { bytes.setbyte(from + random.rand(bytes.size - from), random.rand(256)) }
            File.binwrite(path, bytes)
            object = #{entry.making_at(path)} rescue next
            object.inspect
            #{use}
            object.#{entry.ending.first}
          end
          File.delete(path)
          object = #{entry.making_at(path)}
          writer = fork do
            file = File.open(path, "r+b")
            loop { file.pwrite(random.bytes(8), 4096 + 8 * random.rand((file.size - 4096) / 8)) }
          end
          100.times { object.inspect }
          Process.kill(:KILL, writer)
          Process.wait(writer)
        RUBY
      end
    end
  end

  it "keeps the order of its arguments: a semaphore begins only once" do
    ProcessShared::Semaphore.new(3, path: path).wait
    expect(ProcessShared::Semaphore.new(9, path: path).value).to eq 2
    expect(elsewhere("p ProcessShared::Semaphore.new(5, path: path).value")).to eq "2\n"
  end

  it "keeps numbers, flags, events, latches and limits as they were left" do
    killed_elsewhere(<<~RUBY)
      ProcessShared::AtomicFixnum.new(3, path: path + ".number").increment
      ProcessShared::AtomicBoolean.new(path: path + ".flag").make_true
      ProcessShared::Event.new(path: path + ".event").set
      ProcessShared::CountDownLatch.new(3, path: path + ".latch").count_down
      ProcessShared::RateLimiter.new(1, per: 3600, path: path + ".limiter").acquire
    RUBY
    expect(ProcessShared::AtomicFixnum.new(9, path: path + ".number").value).to eq 4
    expect(ProcessShared::AtomicBoolean.new(path: path + ".flag")).to be_true
    expect(ProcessShared::Event.new(path: path + ".event")).to be_set
    expect(ProcessShared::CountDownLatch.new(9, path: path + ".latch").count).to eq 2
    expect(ProcessShared::RateLimiter.new(1, per: 3600, path: path + ".limiter").try_acquire).to be false
  end

  it "is one limiter only at one rate, however that is written" do
    limiter = ProcessShared::RateLimiter.new(600, per: 60, path: path)
    expect(ProcessShared::RateLimiter.new(10, burst: 600, path: path).inspect).to eq limiter.inspect
    expected = /is a RateLimiter \(10 in a second, burst 600\), not a RateLimiter \(0.5 in a second, burst 1\)/
    expect { ProcessShared::RateLimiter.new(1, per: 2, path: path) }.to raise_error(ArgumentError, expected)
    expect { ProcessShared::RateLimiter.new(path: path) }.to raise_error(ArgumentError, /given 0, expected 1/)
    expect { ProcessShared::RateLimiter.new(1, rate: 1, path: path) }.to raise_error(ArgumentError, /unknown keyword: :rate/)
  end

  it "is new after a restart of the machine" do
    killed_elsewhere(<<~RUBY)
      ProcessShared::AtomicFixnum.new(3, path: path + ".number")
      ProcessShared::SharedMemory.new(:int32, 2, path: path + ".memory").write_int32(7)
      ProcessShared::Mutex.new(path: path + ".lock").lock
      %w[number memory lock].each { |name| File.binwrite(path + "." + name, "another boot", 48) } # of the header
    RUBY
    expect(ProcessShared::AtomicFixnum.new(9, path: path + ".number").value).to eq 9
    expect(ProcessShared::SharedMemory.new(:int32, 2, path: path + ".memory").read_int32).to eq 0
    expect(ProcessShared::Mutex.new(path: path + ".lock").lock).not_to be_abandoned
    expect(ProcessShared::AtomicFixnum.new(5, path: path + ".number").value).to eq 9
  end

  it "is refused where another user could have prepared it", skip: Process.uid.zero? ? false : "needs root" do
    elsewhere("ProcessShared::Event.new(path: path, mode: 0o666)")
    File.chmod(0o755, @folder)
    expect(in_child { Process::UID.change_privilege(65_534) && ProcessShared::Event.new(path: path, mode: 0o666).set }).to be true
    File.chown(65_534, nil, path)
    expected = /belongs to user 65534, and this process runs as user 0.*Run as user 65534/
    expect { ProcessShared::Event.new(path: path) }.to raise_error(ProcessShared::ProcessError, expected)
  end

  it "is refused to a process of another PID namespace, while it is open, and not afterwards",
     skip: PidNamespaces.possible? ? false : "needs root" do
    event = ProcessShared::Event.new(path: path).tap(&:set)
    there = lambda do |script| # without a thread, which a process cannot have there
      script = "begin; p(#{script}); rescue ProcessShared::ProcessError => error; puts error.message; end"
      in_child { unshare_pids && IO.popen([RbConfig.ruby, *Rubies::LOAD, "-rprocess_shared", "-e", script], &:read) }
    end
    expect(there.call("ProcessShared::Event.new(path: #{path.inspect})")).to match(/is open in another PID namespace.*use another path/)
    left = path("left")
    elsewhere("ProcessShared::Event.new(path: #{left.inspect}).set")
    expect(there.call("ProcessShared::Event.new(path: #{left.inspect}).set?")).to eq "true\n"
    expect(event).to be_set
  end

  it "takes all its room at once, and leaves nothing where there is none" do
    limit = lambda do |bytes|
      in_child do
        Process.setrlimit(:FSIZE, bytes)
        error_of { ProcessShared::SharedMemory.new(100_000, path: path) }
      end
    end
    expect(limit.call(50_000)).to eq "Errno::EFBIG"
    expect(Dir.children(@folder)).to eq []
    expect(limit.call(110_000)).to be_nil
    expect(File.stat(path).blocks * 512).to be >= 100_000
  end

  describe "taken by unrelated processes" do
    it "hands a lock on when its holder is killed" do
      mutex = ProcessShared::Mutex.new(path: path)
      killed_elsewhere("ProcessShared::Mutex.new(path: path).lock")
      expect(mutex.lock).to be_abandoned
      mutex.unlock
    end

    it "tells the next one, after everybody is gone, that a holder was killed; and only that one" do
      killed_elsewhere("ProcessShared::Mutex.new(path: path).lock")
      repaired = "ProcessShared::Mutex.new(path: path, on_abandoned: ->(mutex) { puts :repaired }).synchronize { }"
      expect(elsewhere(repaired)).to eq "repaired\n"
      expect(elsewhere(repaired)).to eq ""
    end

    it "forgets waiters that were killed with everybody" do
      killed_elsewhere(<<~RUBY)
        condition = ProcessShared::ConditionVariable.new(path: path)
        5.times { Thread.new { ProcessShared::Mutex.new.synchronize { |*| } ; m = ProcessShared::Mutex.new; m.lock; condition.wait(m) } }
        sleep 0.001 until condition.waiters == 5
      RUBY
      expect(ProcessShared::ConditionVariable.new(path: path).waiters).to eq 0
    end

    it "keeps memory through a restart" do
      killed_elsewhere("ProcessShared::SharedMemory.new(:int32, 4, path: path).put(:int32, 8, 77)")
      expect(ProcessShared::SharedMemory.new(:int, 4, path: path).get(:int32, 8)).to eq 77
      expect { ProcessShared::SharedMemory.new(:int32, 5, path: path) }.to raise_error(ArgumentError, /4 int32.*5 int32/)
      expect { ProcessShared::SharedMemory.new(:float, 4, path: path) }.to raise_error(ArgumentError, /4 int32.*4 float32/)
    end

    it "counts right under contention" do
      counters = Array.new(3) do
        Thread.new do
          elsewhere(<<~RUBY)
            mutex = ProcessShared::Mutex.new(path: path)
            memory = ProcessShared::SharedMemory.new(:int64, path: path + ".count")
            500.times { mutex.synchronize { memory.put(:int64, 0, memory.get(:int64, 0) + 1) } }
          RUBY
        end
      end
      counters.each(&:value)
      expect(ProcessShared::SharedMemory.new(:int64, path: path + ".count").get(:int64, 0)).to eq 1500
    end

    it "wakes a waiter that is no relative" do
      mutex, condition = ProcessShared::Mutex.new(path: path), ProcessShared::ConditionVariable.new(path: path + ".condition")
      waiter = Thread.new do
        elsewhere(<<~RUBY)
          mutex, condition = ProcessShared::Mutex.new(path: path), ProcessShared::ConditionVariable.new(path: path + ".condition")
          mutex.synchronize { p condition.wait(mutex, 15).class }
        RUBY
      end
      sleep 0.001 until condition.waiters == 1
      mutex.synchronize { condition.signal }
      expect(waiter.value).to eq "Integer\n"
    end
  end

  describe "opened twice in a process" do
    let(:mutex) { ProcessShared::Mutex.new(path: path) }
    let(:other) { ProcessShared::Mutex.new(path: path) }

    it "is one Mutex: recursion is reported, either unlocks" do
      mutex.lock
      expect(other).to be_owned
      expect { other.lock }.to raise_error(ProcessShared::ProcessError, /recursive/)
      expect(other.try_lock).to be false
      other.unlock
      expect(mutex).not_to be_locked
      expect { mutex.unlock }.to raise_error(ProcessShared::ProcessError, /not held/)
    end

    it "is one Monitor, which is entered again and left as often" do
      one, two = Array.new(2) { ProcessShared::Monitor.new(path: path) }
      one.synchronize { two.synchronize { expect(one.try_enter).to be true and two.exit } and expect(two).to be_owned }
      expect(one).not_to be_locked
    end

    it "knows fibers apart" do
      mutex.lock
      Fiber.new { expect(other).not_to be_owned }.resume
      expect(other).to be_owned
      mutex.unlock
    end

    it "stays locked when another handle is closed, or collected" do
      mutex.synchronize do
        ProcessShared::Mutex.open(path: path) { |handle| expect(handle).to be_owned }
        50.times { ProcessShared::Mutex.new(path: path) }
        GC.start
        expect(mutex).to be_owned
      end
    end

    it "is given back with the last handle" do
      mutex.lock
      mutex.close
      expect(in_child { ProcessShared::Mutex.new(path: path).try_lock }).to be true
    end

    it "runs the on_abandoned of the handle that takes the lock" do
      calls = []
      handles = %i[a b].map { |name| ProcessShared::Mutex.new(path: path, on_abandoned: ->(_) { calls << name }) }
      handles.each do |handle|
        killed_elsewhere("ProcessShared::Mutex.new(path: path).lock")
        handle.synchronize { nil }
      end
      expect(calls).to eq %i[a b]
    end

    it "keeps the fiber of the holder alive, and lets it go" do
      expect(elsewhere(<<~RUBY, within: 60)).to eq "true\n"
        mutex = ProcessShared::Mutex.new(path: path)
        GC.stress = true
        fiber = Fiber.new { ProcessShared::Mutex.new(path: path).lock; Fiber.yield; ProcessShared::Mutex.new(path: path).unlock }
        fiber.resume
        5.times { Fiber.new { mutex.owned? && abort("another fiber") }.resume }
        fiber.resume
        GC.stress = false
        p !mutex.locked?
      RUBY
    end
  end

  describe "of a read-write lock, a barrier or a presence" do
    def lock(**options) = ProcessShared::ReadWriteLock.new(path: path("read_write"), **options)
    def barrier(parties = 2) = ProcessShared::CyclicBarrier.new(parties, path: path("barrier"))
    def presence(slots = 10) = ProcessShared::Presence.new(slots, bytes: 8, path: path("presence"))

    # A process that is not related, which has called `script` with `lock`, `barrier` and `presence`, until it is killed.
    def staying(script)
      text = <<~RUBY
        lock = ProcessShared::ReadWriteLock.new(path: #{path("read_write").inspect})
        barrier = ProcessShared::CyclicBarrier.new(2, path: #{path("barrier").inspect})
        presence = ProcessShared::Presence.new(10, bytes: 8, path: #{path("presence").inspect})
        #{script}
        sleep
      RUBY
      pid = spawn(RbConfig.ruby, "-I#{Rubies::LIB}", "-rprocess_shared", "-e", text)
      (@spawned ||= []) << pid
      pid
    end

    def kill(pid)
      Process.kill(:KILL, pid)
      Process.wait(@spawned.delete(pid))
    end

    after { @spawned&.dup&.each { |pid| kill(pid) } }

    it "is one for processes that are not related, and knows of their deaths" do
      mine = lock
      writer = staying("lock.acquire_write_lock")
      wait_until { mine.owner_pid == writer }
      expect([mine.try_read_lock, mine.try_write_lock(0.01)]).to eq [false, false]
      kill(writer)
      expect(mine.with_write_lock { mine.abandoned? }).to be true
      reader = staying("lock.acquire_read_lock")
      wait_until { mine.reader_pids == [reader] }
      expect([mine.with_read_lock { :read }, mine.try_write_lock]).to eq [:read, false]
      kill(reader)
      expect(mine.with_write_lock { mine.abandoned? }).to be false

      mine = barrier
      party = staying("barrier.wait")
      wait_until { mine.number_waiting == 1 }
      expect(mine.wait).to be true
      kill(party)
      party = staying("barrier.wait")
      wait_until { mine.number_waiting == 1 }
      kill(party)
      expect([mine.wait, mine.broken?]).to eq [false, true]

      mine = presence
      member = staying('presence.enter("there").memory.put_int64(0, 7)')
      wait_until { mine.any? { |one| one.memory.get_int64(0) == 7 } }
      expect(mine.map { |one| [one.pid, one.name] }).to eq [[member, "there"]]
      kill(member)
      expect(mine.to_a).to eq []
    end

    it "is in order when everybody is gone" do
      killed_elsewhere(<<~RUBY)
        lock = ProcessShared::ReadWriteLock.new(path: #{path("read_write").inspect})
        Thread.new { lock.with_upgradable_lock { lock.with_write_lock { sleep } } }
        Thread.pass until lock.write_locked?
        barrier = ProcessShared::CyclicBarrier.new(2, path: #{path("barrier").inspect})
        Thread.new { barrier.wait }
        Thread.pass until barrier.number_waiting == 1
        ProcessShared::Presence.new(10, bytes: 8, path: #{path("presence").inspect}).enter
      RUBY
      repairs = []
      expect(lock(on_abandoned: ->(_) { repairs << 1 }).with_read_lock { repairs.size }).to eq 1
      expect([lock.abandoned?, lock.waiters, barrier.number_waiting, barrier.broken?, presence.size]).to eq [false, 0, 0, false, 0]
    end

    it "is refused with other parties, slots or bytes, by a message that names both" do
      barrier && presence
      expect { barrier(3) }.to raise_error(ArgumentError, /2 parties.*3 parties/)
      expect { presence(11) }.to raise_error(ArgumentError, /10 slots of 8 bytes.*11 slots of 8 bytes/)
    end

    it "is one object for the handles of a process" do
      one, two = lock, lock
      one.with_write_lock { two.with_write_lock { expect([one, two].map(&:write_locked?)).to eq [true, true] } }
      expect(one).not_to be_write_locked
      one.acquire_read_lock
      two.acquire_read_lock
      one.close
      expect(in_child { lock.try_write_lock }).to be false
      expect([two.release_read_lock, two.release_read_lock]).to eq [true, true]
      expect { two.release_read_lock }.to raise_error(ProcessShared::ProcessError)
      two.with_upgradable_lock { lock.with_upgradable_lock { lock.with_write_lock { expect(two).to be_write_locked } } }
      two.acquire_write_lock
      expect { Fiber.new { lock.release_write_lock }.resume }.to raise_error(ProcessShared::ProcessError)
      lock.release_write_lock
      expect(in_child { lock.try_write_lock }).to be true
      presence.enter("me")
      expect(presence.map(&:name)).to eq ["me"]
      presence.leave
    end

    it "is given back with the last handle" do
      held = lock
      held.acquire_read_lock
      held.acquire_write_lock
      held.close
      expect(in_child { [lock.reader_pids, lock.try_write_lock] }).to eq [[], true]
    end

    it "keeps the fibers of holders alive, and lets them go" do
      expect(elsewhere(<<~RUBY, within: 60)).to eq "true\n"
        lock = -> { ProcessShared::ReadWriteLock.new(path: path) }
        kept = lock.call
        GC.stress = true
        fibers = %i[read write].map do |kind|
          fiber = Fiber.new do
            kind == :read ? lock.call.acquire_read_lock : kept.acquire_write_lock
            Fiber.yield
            kind == :read ? lock.call.release_read_lock : lock.call.release_write_lock
          end
          fiber.resume
          5.times { Fiber.new { kept.release_read_lock rescue next; abort("another fiber") }.resume }
          fiber.resume
        end
        GC.stress = false
        p kept.reader_pids.empty? && !kept.write_locked?
      RUBY
    end
  end

  it "is refused in another process by a holder's fork as ever" do
    mutex = ProcessShared::Mutex.new(path: path).lock
    expect(in_child { [mutex.owned?, ProcessShared::Mutex.new(path: path).owned?, mutex.try_lock] }).to eq [false, false, false]
    mutex.unlock
  end

  describe "SharedMemory.for_fd" do
    let(:memory) { ProcessShared::SharedMemory.new(:int32, 4) }

    it "maps what a spawned program gets" do
      output = IO.popen([RbConfig.ruby, *Rubies::LOAD, "-rprocess_shared", "-e", <<~RUBY, { 3 => memory.fd }], &:read)
        memory = ProcessShared::SharedMemory.for_fd(3, :int32)
        memory.put(:int32, 4, 7)
        p [memory.count, memory.size, memory.type]
      RUBY
      expect(output).to eq "[4, 16, :int32]\n"
      expect(memory.get(:int32, 4)).to eq 7
    end

    it "maps what comes over a UNIX socket, and owns a copy" do
      here, there = UNIXSocket.pair
      here.send_io(memory.to_io)
      received = there.recv_io
      array = ProcessShared::SharedArray.for_fd(received, :int32, 3)
      received.close
      array[2] = 5
      expect([memory.get(:int32, 8), array.length, array.class]).to eq [5, 3, ProcessShared::SharedArray]
      expect(array.path).to be_nil
      expect(array.fd).not_to eq memory.fd
    end

    it "keeps to what is there" do
      expect { ProcessShared::SharedMemory.for_fd(memory.fd, :int32, 5) }.to raise_error(ArgumentError, /16 bytes.*20/)
      expect { ProcessShared::SharedMemory.for_fd(memory.fd, :nope) }.to raise_error(TypeError)
      expect { ProcessShared::SharedMemory.for_fd("x") }.to raise_error(TypeError)
      expect { ProcessShared::SharedMemory.for_fd(1 << 20) }.to raise_error(Errno::EBADF)
      IO.pipe { |reader, _| expect { ProcessShared::SharedMemory.for_fd(reader) }.to raise_error(ArgumentError, /no memory/) }
      File.write(path, "")
      File.open(path, "r+") { |file| expect { ProcessShared::SharedMemory.for_fd(file) }.to raise_error(ArgumentError, /no bytes/) }
      File.write(path, "abc")
      File.open(path) { |file| expect { ProcessShared::SharedMemory.for_fd(file) }.to raise_error(Errno::EACCES) }
      File.open(path, "r+") { |file| expect(ProcessShared::SharedMemory.for_fd(file).get_bytes(0, 3)).to eq "abc" }
    end
  end
end
