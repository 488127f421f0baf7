# frozen_string_literal: true

require "tmpdir"

# What is short, is said by an error; what was taken, is given back, also when nobody is left to do it.
RSpec.describe "Memory", if: File.directory?("/proc/self/fd") do
  def descriptors = Dir.children("/proc/self/fd").size

  describe "that is short" do
    it "is refused by an error under ulimit -v, at creation, and can be had again after it" do
      output = ruby(<<~RUBY)
        shared = ProcessShared::SharedMemory
        kept = Array.new(10) { [shared.new(4096, reserve: true), ProcessShared::Mutex.new] }
        used = File.read("/proc/self/status")[/^VmSize:\\s+(\\d+)/, 1].to_i << 10
        Process.setrlimit(:AS, used + (64 << 20), Process.getrlimit(:AS).last)
        refused = [false, true].map { |reserve| shared.new(1 << 28, reserve: reserve) rescue $!.class }
        fits = shared.new(1 << 20, reserve: true).get_int8(-1 + (1 << 20))
        Process.setrlimit(:AS, Process.getrlimit(:AS).last)
        again = shared.new(1 << 28).size
        kept.each { |memory, mutex| mutex.synchronize { memory.put_int8(0, 1) } }
        print [refused, fits, again].inspect
      RUBY
      expect(output).to eq "[[Errno::ENOMEM, Errno::ENOMEM], 0, #{1 << 28}]"
    end

    it "is refused by an error under ulimit -f, not by a signal, and handlers of that signal stay as they were" do
      output = ruby(<<~RUBY)
        shared = ProcessShared::SharedMemory
        kept = shared.new(1 << 20)
        refuse = -> { [false, true].map { |reserve| shared.new(1 << 20, reserve: reserve) rescue $!.class } }
        Process.setrlimit(:FSIZE, 4096, Process.getrlimit(:FSIZE).last)
        refused = refuse.call
        seen = 0
        trap(:XFSZ) { seen += 1 }
        refused += refuse.call + [(shared.open(1 << 20) rescue $!.message[/ulimit -f/]), seen]
        Process.kill(:XFSZ, Process.pid)
        Thread.pass until seen == 1
        kept.put_bytes(0, "x" * (1 << 20))
        ProcessShared::Mutex.new.synchronize { print [refused, shared.new(4096, reserve: true).size].inspect }
      RUBY
      refused = (["Errno::EFBIG"] * 4).join(", ")
      expect(output).to eq "[[#{refused}, \"ulimit -f\", 0], 4096]"
    end

    [:Mutex, :Monitor, :Semaphore, :ConditionVariable].each do |name|
      it "is refused by an error under ulimit -v: a #{name}" do
        output = ruby(<<~RUBY)
          kept = Array.new(10) { ProcessShared::#{name}.new }
          GC.disable
          more = Array.new(20_000)
          used = File.read("/proc/self/status")[/^VmSize:\\s+(\\d+)/, 1].to_i << 10
          error = nil
          Process.setrlimit(:AS, used + (500 << 10), Process.getrlimit(:AS).last)
          begin
            more.each_index { |index| more[index] = ProcessShared::#{name}.new }
          rescue SystemCallError, NoMemoryError => error
            Process.setrlimit(:AS, Process.getrlimit(:AS).last)
          end
          print [error.class, ProcessShared::#{name}.new.class].inspect
        RUBY
        expect(output).to eq("[Errno::ENOMEM, ProcessShared::#{name}]").or eq("[NoMemoryError, ProcessShared::#{name}]")
      end
    end

    # Both versions of control groups; the kernel kills who goes beyond the limit of one.
    def within_limit(bytes)
      dir, limit = [["/sys/fs/cgroup/memory", "memory.limit_in_bytes"], ["/sys/fs/cgroup", "memory.max"]]
                   .map { |root, file| ["#{root}/process_shared_spec_#{Process.pid}", file] }
                   .find { |group, file| (Dir.mkdir(group) rescue next) && (File.write("#{group}/#{file}", bytes.to_s) rescue Dir.rmdir(group) && next) }
      skip "no control group can be made here" unless dir
      yield dir
    ensure
      wait_until("the group is empty") { Dir.rmdir(dir) rescue nil } if dir && limit
    end

    it "is refused by an error beyond the limit of a control group, with reserve: true" do
      within_limit(64 << 20) do |group|
        output = ruby(<<~RUBY)
          begin
            File.write("#{group}/cgroup.procs", Process.pid.to_s)
          rescue SystemCallError
            print "skip"
            exit
          end
          error = ProcessShared::SharedMemory.new(256 << 20, reserve: true) rescue $!.class
          print [error, ProcessShared::SharedMemory.new(8 << 20, reserve: true).size].inspect
        RUBY
        skip "no process can be put into a control group here" if output == "skip"
        expect(output).to eq "[Errno::ENOMEM, #{8 << 20}]"
      end
    end
  end

  describe "taken with reserve: true" do
    def reserving
      in_thread { loop { ProcessShared::SharedMemory.new(128 << 20, reserve: true).close } }
    end

    it "lets other threads run meanwhile" do
      thread = reserving
      wait_until { thread.status == "sleep" } # which it never is with the GVL held
    end

    it "is given up when an exception comes, and leaves no descriptor" do
      before = descriptors
      3.times do
        thread = reserving
        wait_until { thread.status == "sleep" }
        thread.raise(KeyError)
        expect { thread.join }.to raise_error(KeyError)
      end
      GC.start
      expect(descriptors).to be <= before
    end

    it "lets signal handlers run, and goes on" do
      count = 0
      previous = trap(:USR1) { count += 1 }
      sender = in_thread { loop { Process.kill(:USR1, Process.pid) && sleep(0.001) } }
      memory = ProcessShared::SharedMemory.new(128 << 20, reserve: true)
      wait_until { count.positive? }
      expect(memory.get_int8((128 << 20) - 1)).to be 0
    ensure
      sender.kill.join
      trap(:USR1, previous)
    end
  end

  describe "after kill -9 of everything" do
    # A command that runs the given one in namespaces of its own, where the system permits these: with empty System V
    # lists, /dev/shm and /tmp. At the end it prints what is left there.
    def alone(*command)
      run = 'setsid "$@" & wait'
      places = ["/dev/shm"]
      places << "/tmp" unless [RbConfig.ruby, Rubies::LIB].any? { |path| path.start_with?("/tmp/") }
      mount = places.map { |place| "mount -t tmpfs none #{place}" }.join(" && ")
      unshare = %w[unshare --mount --ipc sh -c]
      return ["sh", "-c", run, "sh", *command] unless system(*unshare, mount, out: File::NULL, err: File::NULL)

      [*unshare, "#{mount} && { #{run}; find #{places.join(" ")} -mindepth 1; tail -q -n +2 /proc/sysvipc/*; }", "sh", *command]
    end

    it "leaves nothing: no file, no object of the system's" do
      Dir.mktmpdir(nil, "/var/tmp") do |dir| # /tmp may be another one in the namespace
        script = <<~RUBY
          mutex, condition, semaphore = ProcessShared::Mutex.new, ProcessShared::ConditionVariable.new, ProcessShared::Semaphore.new(0)
          memory = ProcessShared::SharedMemory.new(1 << 20, reserve: true)
          io = ProcessShared::SharedMemoryIO.new(memory)
          2.times { fork { mutex.synchronize { condition.wait(mutex) } } }
          2.times { fork { semaphore.wait } }
          sleep 0.001 until condition.waiters == 2 && semaphore.waiters == 2
          fork { mutex.synchronize { io.write("x") && sleep } }
          sleep 0.001 until mutex.locked?
          fork { mutex.lock }
          sleep 0.001 until mutex.waiters == 1
          $stdout.syswrite("\#{$$}\n")
          sleep
        RUBY
        command = alone(RbConfig.ruby, "-I#{Rubies::LIB}", "-rprocess_shared", "-e", script)
        IO.popen([{ "TMPDIR" => dir }, *command]) do |output|
          leader = Integer(output.gets)
          group = Dir["/proc/[0-9]*/stat"].map { |stat| File.read(stat) rescue "" }.count { |stat| stat[/\) \S \d+ (\d+)/, 1].to_i == leader }
          expect(group).to be >= 7
          files = Dir["/proc/#{leader}/fd/*"].grep_v(%r{/[012]\z}).filter_map { |fd| File.readlink(fd) rescue nil }
          expect(files.grep(%r{\A(/tmp|/dev/shm|#{Regexp.escape(dir)})/})).to be_empty
          Process.kill(:KILL, -leader)
          expect(output.read).to eq "" # all have ended, and nothing is left
        ensure
          Process.kill(:KILL, -leader) rescue nil
        end
        expect(Dir.children(dir)).to be_empty
      end
    end

    it "leaves no descriptor and no mapping with the one that lives on" do
      count = -> { [descriptors, File.foreach("/proc/self/maps").grep(/memfd:process_shared/).size] }
      round = lambda do
        memory = ProcessShared::SharedMemory.new(4096)
        mutex = ProcessShared::Mutex.new
        children = Array.new(3) { fork_child { |parent| parent.say && mutex.lock && memory.put_int8(0, 1) && sleep } }
        children.each(&:hear).each(&:kill)
        memory.close
        mutex.close
      end
      round.call
      GC.start
      before = count.call
      5.times { round.call }
      expect(count.call).to eq before
    end
  end
end
