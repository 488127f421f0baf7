# frozen_string_literal: true

RSpec.describe ProcessShared::CyclicBarrier do
  let!(:barrier) { described_class.new(3) }

  it "lets all pass when the last one comes, again and again" do
    children = Array.new(2) { fork_child { Array.new(100) { barrier.wait } } }
    expect(Array.new(100) { barrier.wait }).to eq [true] * 100
    expect(children.map(&:value)).to eq [[true] * 100] * 2
  end

  it "says what it is like" do
    expect([barrier.parties, barrier.number_waiting, barrier.broken?]).to eq [3, 0, false]
    child = fork_child { barrier.wait }
    wait_until { barrier.number_waiting == 1 }
    expect([barrier.waiters, barrier.inspect]).to eq [1, "#<ProcessShared::CyclicBarrier 3 parties, 1 waiting>"]
    expect([barrier.reset, child.value, barrier.broken?, barrier.number_waiting]).to eq [nil, false, false, 0]
  end

  it "counts threads and processes alike" do
    child = fork_child { barrier.wait }
    thread = in_thread { barrier.wait }
    expect([barrier.wait, thread.value, child.value]).to eq [true] * 3
  end

  it "has no effect with one party" do
    alone = described_class.new(1)
    expect(Array.new(3) { alone.wait(0) }).to eq [true] * 3
  end

  it "runs its action in the last one, before any goes on" do
    ran_in = ProcessShared::SharedArray.new(:int64, 2)
    barrier = described_class.new(2) { ran_in[0] = Process.pid }
    child = fork_child { [barrier.wait, ran_in[0]] }
    wait_until { barrier.number_waiting == 1 }
    expect([barrier.wait, child.value]).to eq [true, [true, Process.pid]]
  end

  it "makes those who wait wait for the action, whatever their timeout" do
    in_time = [0.3, 3, 12].any? do |timeout| # a slow machine may not get into the action within the first
      gate = ProcessShared::Event.new
      barrier = described_class.new(2) { gate.wait }
      child = fork_child { barrier.wait(timeout) }
      wait_until { barrier.number_waiting == 1 || barrier.broken? }
      last = in_thread { barrier.wait }
      wait_until { gate.waiters == 1 || barrier.broken? }
      next if barrier.broken?

      sleep timeout + 0.1 # until the timeout has passed
      gate.set
      expect([last.value, child.value]).to eq [true, true]
    end
    expect(in_time).to be true
  end

  it "is broken by an action that raises" do
    barrier = described_class.new(2) { raise IOError, "no" }
    child = fork_child { barrier.wait }
    wait_until { barrier.number_waiting == 1 }
    expect { barrier.wait }.to raise_error(IOError, "no")
    expect([child.value, barrier.broken?]).to eq [false, true]
  end

  describe "in its own action" do
    let(:refusal) { raise_error(ProcessShared::ProcessError, "deadlock; the barrier's action waits at the barrier") }

    it "refuses to wait" do
      barrier = described_class.new(1) { barrier.wait }
      expect { barrier.wait }.to refusal
      expect(barrier).to be_broken
    end

    it "refuses to wait by another handle" do
      Dir.mktmpdir do |dir|
        other = described_class.new(1, path: "#{dir}/barrier")
        expect { described_class.new(1, path: "#{dir}/barrier") { other.wait }.wait }.to refusal
      end
    end

    it "refuses to wait in the same fiber under a scheduler" do
      barrier = described_class.new(1) { barrier.wait }
      Scheduler.run { expect { barrier.wait }.to refusal }
    end

    it "waits as long as it is told" do
      barrier = described_class.new(1) { expect(barrier.wait(0.01)).to be false }
      expect(barrier.wait).to be true
    end
  end

  it "lets an action wait in vain for nobody: one too many comes in with the next ones" do
    gate = ProcessShared::Event.new
    barrier = described_class.new(2) { gate.wait }
    children = Array.new(2) { fork_child { barrier.wait } }
    wait_until { gate.waiters == 1 }
    early = fork_child { barrier.wait }
    wait_until_blocked([early])
    gate.set
    expect([children.map(&:value), barrier.wait, early.value]).to eq [[true, true], true, true]
  end

  it "is broken by the death of one that waits, for all others and until it is reset" do
    killed, *others = Array.new(2) { fork_child { barrier.wait } }
    wait_until { barrier.number_waiting == 2 }
    killed.kill
    expect(others.map(&:value)).to eq [false]
    expect([barrier.broken?, barrier.wait, barrier.inspect]).to eq [true, false, "#<ProcessShared::CyclicBarrier 3 parties, broken>"]
    barrier.reset
    children = Array.new(2) { fork_child { barrier.wait } }
    expect([barrier.wait, children.map(&:value)]).to eq [true, [true, true]]
  end

  it "is broken by the death of one that waited alone" do
    killed = fork_child { barrier.wait }
    wait_until { barrier.number_waiting == 1 }
    killed.kill
    expect([barrier.broken?, barrier.number_waiting, barrier.wait]).to eq [true, 0, false]
  end

  it "is broken by the death of the one that runs the action" do
    entered = ProcessShared::Event.new
    barrier = described_class.new(2) { entered.set && sleep }
    other = fork_child { barrier.wait }
    wait_until { barrier.number_waiting == 1 }
    last = fork_child { barrier.wait }
    entered.wait
    last.kill
    expect(other.value).to be false
  end

  it "is broken by the death of one that is in a signal handler" do
    entered = ProcessShared::Event.new
    killed = fork_child do |parent|
      trap(:USR1) { entered.set && sleep }
      parent.say(:ready)
      barrier.wait
    end
    killed.hear
    wait_until { barrier.number_waiting == 1 }
    other = fork_child { barrier.wait }
    wait_until { barrier.number_waiting == 2 }
    Process.kill(:USR1, killed.pid)
    entered.wait
    killed.kill
    expect(other.value).to be false
  end

  it "is broken by a timeout, and by an exception" do
    other = fork_child { barrier.wait }
    wait_until { barrier.number_waiting == 1 }
    expect([barrier.wait(0.01), other.value, barrier.broken?]).to eq [false, false, true]
    barrier.reset
    other = fork_child { barrier.wait }
    wait_until { barrier.number_waiting == 1 }
    expect { Timeout.timeout(0.01) { barrier.wait } }.to raise_error(Timeout::Error)
    expect([other.value, barrier.broken?]).to eq [false, true]
  end

  it "is broken at once by whoever does not wait" do
    expect([barrier.wait(0), barrier.broken?]).to eq [false, true]
  end

  it "goes on waiting after a signal handler" do
    child = fork_child do |parent|
      trap(:USR1) { parent.say(:handled) }
      parent.say(:ready)
      barrier.wait
    end
    child.hear
    wait_until { barrier.number_waiting == 1 }
    Process.kill(:USR1, child.pid)
    child.hear
    other = in_thread { barrier.wait }
    expect([barrier.wait, other.value, child.value]).to eq [true] * 3
  end

  it "can be passed, and not waited for, in a signal handler" do
    alone = described_class.new(1)
    said = in_child do
      said = nil
      trap(:USR1) { said = [alone.wait, (barrier.wait rescue $!.class)] }
      Process.kill(:USR1, Process.pid)
      Thread.pass until said
      said
    end
    expect(said).to eq [true, ThreadError]
    expect([barrier.broken?, barrier.number_waiting]).to eq [false, 0]
  end

  it "does not count a child that a signal handler forks in the middle of a wait" do
    child = fork_child do |parent|
      me = Process.pid
      trap(:USR1) { fork && parent.say(:forked) }
      parent.say(:ready)
      passed = barrier.wait
      exit!(!passed) unless Process.pid == me
      [passed, Process.wait2.last.success?]
    end
    child.hear
    wait_until { barrier.number_waiting == 1 }
    child.signal(:USR1)
    child.hear
    other = in_thread { barrier.wait }
    expect([barrier.wait, other.value, child.value]).to eq [true, true, [true, true]]
  end

  it "lets the other fibers of a thread go on, and counts them as parties" do
    log = []
    in_thread do
      Fiber.set_scheduler(Scheduler.new)
      3.times { Fiber.schedule { log << barrier.wait } }
    end.join
    expect(log).to eq [true] * 3
  end

  it "breaks for those who wait when the process of a fiber that waits is killed" do
    killed = fork_child do
      in_thread do
        Fiber.set_scheduler(Scheduler.new)
        Fiber.schedule { barrier.wait }
      end.join
    end
    other = fork_child { barrier.wait }
    wait_until { barrier.number_waiting == 2 }
    killed.kill
    expect(other.value).to be false
  end

  it "refuses numbers that are none" do
    [0, -1, 32_768].each { |parties| expect { described_class.new(parties) }.to raise_error(ArgumentError) }
    [nil, "1", 1.0].each { |parties| expect { described_class.new(parties) }.to raise_error(ArgumentError) }
    expect { barrier.wait(-1) }.to raise_error(ArgumentError)
    expect { barrier.wait("1") }.to raise_error(TypeError)
  end
end
