# frozen_string_literal: true

# The hand-over of Mach ports to forked children: on macOS, and over the model of the Mach kernel (rake simulated).
RSpec.describe "Forks with Mach ports", if: ProcessShared.const_defined?(:Handover, false) do
  def status_of(pid)
    Process.wait(pid)
    $?.exitstatus
  end

  let(:semaphore) { ProcessShared::Semaphore.new(0) }

  it "hand the child what it needs to be woken" do
    semaphore
    pid = fork { exit!(semaphore.try_wait(10) ? 0 : 1) }
    semaphore.post
    expect(status_of(pid)).to eq 0
  end

  it "work within one another" do
    semaphore
    pid = fork { exit!(status_of(fork { exit!(semaphore.try_wait(10) ? 3 : 1) })) }
    semaphore.post
    expect(status_of(pid)).to eq 3
  end

  it "work from many threads at once" do
    semaphores = Array.new(4) { ProcessShared::Semaphore.new(0) }
    statuses = semaphores.map do |own|
      Thread.new do
        Array.new(5) do
          pid = fork { exit!(own.try_wait(10) ? 0 : 1) }
          own.post
          status_of(pid)
        end
      end
    end
    expect(statuses.flat_map(&:value).uniq).to eq [0]
  end

  it "work from a signal handler" do
    semaphore
    pid = nil
    previous = trap(:USR1) { pid = fork { exit!(semaphore.try_wait(10) ? 0 : 1) } }
    Process.kill(:USR1, Process.pid)
    Thread.pass until pid
    semaphore.post
    expect(status_of(pid)).to eq 0
  ensure
    trap(:USR1, previous)
  end

  it "work by IO.popen(\"-\")" do
    semaphore
    io = IO.popen("-") || (puts(semaphore.try_wait(10) ? "woken" : "not"); exit!)
    semaphore.post
    expect(io.read).to eq "woken\n"
    io.close
  end

  it "go on when the child ends at once" do
    semaphore
    expect(status_of(fork { exit!(7) })).to eq 7
  end

  it "go on as a daemon, with what was made before and after" do
    mutex = ProcessShared::Mutex.new
    semaphore
    reader, writer = IO.pipe
    child = fork do
      reader.close
      result = Process.daemon
      own = ProcessShared::Semaphore.new(1)
      streams = [STDIN, STDOUT, STDERR].map { |stream| File.identical?(stream, File::NULL) }
      seen = [result, Dir.pwd, Process.getsid == Process.pid, streams.uniq, mutex.try_lock, own.try_wait.equal?(own)]
      writer.puts seen.inspect
      writer.puts semaphore.try_wait(10).equal?(semaphore)
      exit!
    end
    writer.close
    expect(status_of(child)).to eq 0
    expect(reader.gets(chomp: true)).to eq [0, "/", true, [true], true, true].inspect
    semaphore.post
    expect(reader.gets(chomp: true)).to eq "true"
  end

  it "keep a daemon's directory and streams when it says so" do
    semaphore
    reader, writer = IO.pipe
    child = fork do
      here = Dir.pwd
      streams = [STDIN, STDOUT, STDERR].map { |stream| stream.stat.ino }
      Process.daemon(true, true)
      writer.puts [Dir.pwd == here, [STDIN, STDOUT, STDERR].map { |stream| stream.stat.ino } == streams].inspect
      exit!
    end
    writer.close
    expect(status_of(child)).to eq 0
    expect(reader.read).to eq "[true, true]\n"
  end

  it "say what is wrong where C code forked, past them", skip: !CFork.possible? && "C code cannot fork here" do
    objects = [semaphore, ProcessShared::Mutex.new, ProcessShared::ConditionVariable.new]
    reader, writer = IO.pipe
    pid = CFork.call
    if pid.zero? # Ruby does not know that it has no other threads here, so nothing may give the GVL away
      calls = [:value, :locked?, :signal].zip(objects).map do |name, object|
        object.public_send(name)
      rescue => error
        "#{error.class}: #{error.message}"
      end
      fresh = ProcessShared::Semaphore.new(1)
      writer.write_nonblock([*calls, fresh.try_wait.equal?(fresh)].join("\n"))
      exit!(0)
    end
    writer.close
    lines = reader.read.lines(chomp: true)
    of_the_parent = /\AProcessShared::ProcessError: .*(Semaphore|Mutex|ConditionVariable) cannot be used .* made before a fork by C code/
    expect(lines.first(3)).to all match(of_the_parent)
    expect(lines.last).to eq "true"
  ensure
    Process.wait(pid)
  end
end
