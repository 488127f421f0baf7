# frozen_string_literal: true

RSpec.describe ProcessShared::Presence do
  let!(:presence) { described_class.new(4) }

  # A child that has entered, with what the block does then; it stays until it is killed or told to leave.
  def member(name = nil)
    child = fork_child do |parent|
      me = presence.enter(name)
      yield me if block_given?
      parent.say(:entered)
      parent.listen
      presence.leave
    end
    child.hear
    child
  end

  it "is empty at first" do
    expect([presence.size, presence.pids, presence.to_a, presence.slots, described_class.new.slots]).to eq [0, [], [], 4, 256]
    expect(presence.inspect).to eq "#<ProcessShared::Presence 0 of at most 4>"
  end

  it "shows who is here, in the order in which they entered" do
    before = Time.now
    children = [member("first"), member]
    members = presence.to_a
    expect(members.map { |one| [one.pid, one.name] }).to eq [[children[0].pid, "first"], [children[1].pid, nil]]
    expect(members.map(&:tid)).to eq children.map(&:pid) if RUBY_PLATFORM.include?("linux") && !ProcessShared.const_defined?(:Handover, false)
    expect(members.map(&:since)).to all be_between(before, Time.now)
    expect([presence.size, presence.pids, presence.each.size]).to eq [2, children.map(&:pid), 2]
    children[0].tell(:go)
    children[0].value
    expect(presence.map(&:name)).to eq [nil]
  end

  it "lets members say something in their memory" do
    member { |me| me.memory.put_int64(0, 7) && me.memory.put_bytes(32, "worker") }
    memory = presence.first.memory
    expect([memory.size, memory.get_int64(0), memory.get_bytes(32, 6)]).to eq [64, 7, "worker"]
    expect(memory).to be_a(ProcessShared::Pointer)
    expect { memory.get_int8(64) }.to raise_error(IndexError)
  end

  it "gives a member zeroes, whoever had the slot before" do
    one = described_class.new(1, bytes: 100)
    found = Array.new(3) { one.enter { |me| me.memory.get_bytes(0, 100).tap { me.memory.put_bytes(0, "x" * 100) } } }
    expect(found).to eq ["\0" * 100] * 3
    in_child { one.enter.memory.put_bytes(0, "y" * 100) }
    expect(one.enter.memory.get_bytes(0, 100)).to eq "\0" * 100
    one.leave
  end

  it "has members of no memory" do
    described_class.new(1, bytes: 0).enter { |me| expect(me.memory.size).to be 0 }
  end

  it "loses whoever is killed, at once" do
    children = Array.new(4) { |number| member("worker #{number}") }
    children[1].kill
    expect(presence.map(&:name)).to eq ["worker 0", "worker 2", "worker 3"]
    children[0].kill
    expect([presence.size, presence.pids]).to eq [2, [children[2].pid, children[3].pid]]
    expect(member("another").pid).to eq presence.to_a.last.pid
  end

  it "loses whoever execs" do
    child = fork_child do |parent|
      presence.enter
      parent.say(:entered)
      parent.listen
      exec("sleep", "60")
    end
    child.hear
    expect(presence.size).to be 1
    child.tell(:go)
    wait_until { presence.size.zero? }
    child.kill
  end

  it "loses a thread that ends" do
    entered = in_thread { presence.enter("thread").pid }
    expect(entered.value).to be Process.pid
    wait_until { presence.size.zero? }
  end

  it "has each thread of a process" do
    gate = Thread::Queue.new
    threads = Array.new(2) { in_thread { presence.enter { gate.pop } } }
    wait_until { presence.size == 2 }
    expect([presence.pids, presence.map(&:tid).uniq.size]).to eq [[Process.pid], 2]
    gate.close
    threads.each(&:join)
    expect(presence.size).to be 0
  end

  it "ends with the block, however that ends" do
    expect(presence.enter("me") { |me| [me.name, presence.size] }).to eq ["me", 1]
    expect { presence.enter { raise IOError } }.to raise_error(IOError)
    catch(:out) { presence.enter { throw :out } }
    [1].each { presence.enter { break } }
    thread = in_thread { presence.enter { sleep } }
    wait_until { thread.status == "sleep" }
    thread.kill.join
    expect(presence.size).to be 0
  end

  it "is left in the block, and entered anew, without harm" do
    presence.enter("first") do
      presence.leave
      presence.enter("second")
    end
    expect(presence.map(&:name)).to eq ["second"]
    presence.leave
  end

  it "has no children that a member forked, and lets them leave the block" do
    presence.enter do
      expect { in_child { presence.leave } }.to raise_error(Child::Failed, /has not entered/)
      expect(in_child { presence.enter("child").pid == Process.pid && presence.size }).to be 2
    end
    pid = nil
    presence.enter { pid = fork }
    exit!(presence.size <= 1) unless pid
    expect(Process.wait2(pid).last).to be_success
    expect(presence.size).to be 0
  end

  it "refuses one too many, and one that has entered" do
    one = described_class.new(1)
    child = fork_child { |parent| one.enter && parent.say(:entered) && parent.listen }
    child.hear
    expect { one.enter }.to raise_error(ProcessShared::ProcessError, /all 1 slots are taken/)
    child.kill
    one.enter
    expect { one.enter }.to raise_error(ProcessShared::ProcessError, /entered already: call leave/)
    one.leave
    expect { one.leave }.to raise_error(ProcessShared::ProcessError, /has not entered/)
  end

  it "fills all its slots" do
    [1, 2, 3, 5, 64].each do |slots|
      presence = described_class.new(slots)
      gate = Thread::Queue.new
      threads = Array.new(slots) { in_thread { presence.enter { gate.pop } } }
      wait_until { presence.size == slots }
      expect { presence.enter }.to raise_error(ProcessShared::ProcessError)
      gate.close
      threads.each(&:join)
    end
  end

  it "never shows one that has half entered" do
    presence = described_class.new(2, bytes: 8)
    children = %w[a b].map do |letter|
      fork_child do
        loop do
          name = letter * rand(1..112)
          presence.enter(name) { |me| me.memory.put_int64(0, name.size) }
        end
      end
    end
    seen = 0
    until seen > 2000
      presence.each do |member|
        seen += 1
        expect(member.name).to match(/\A(a+|b+)\z/)
        expect(children.map(&:pid)).to include(member.pid)
      end
    end
    children.each(&:kill)
    expect(presence.size).to be 0
  end

  it "takes names in any encoding that UTF-8 can write, and no others" do
    presence.enter("Zoë".encode("ISO-8859-1")) { |me| expect([me.name, presence.first.name]).to eq %w[Zoë Zoë] }
    expect(presence.enter("é" * 56, &:name)).to eq "é" * 56
    expect { presence.enter("é" * 57) }.to raise_error(ArgumentError, /at most 112 bytes/)
    expect { presence.enter("\xff".b) }.to raise_error(EncodingError)
    expect { presence.enter(1) }.to raise_error(TypeError)
    expect(presence.size).to be 0
  end

  it "is left when a member closes it, and its memory stays readable" do
    memory = presence.enter.memory
    memory.put_int8(0, 5)
    expect(in_child { presence.size }).to be 1
    presence.close
    expect(memory.get_int8(0)).to be 5
    expect { presence.size }.to raise_error(ProcessShared::ClosedError)
  end

  it "keeps the memory of members when it is collected" do
    memory = described_class.new(1).enter(&:memory)
    5.times { GC.start && described_class.new(1) }
    memory.put_int64(0, 9)
    expect(memory.get_int64(0)).to be 9
  end

  it "is left when it is collected while a thread is in" do
    in_thread do
      100.times { described_class.new(2).enter && nil }
      GC.start
      ProcessShared::Mutex.new.lock.unlock
    end.join
  end

  it "takes no descriptor" do
    before = Dir["/dev/fd/*"].size
    presences = Array.new(10) { described_class.new }
    expect([Dir["/dev/fd/*"].size, presences.size]).to eq [before, 10]
  end

  it "can be entered and left in a signal handler" do
    seen = in_child do
      seen = nil
      trap(:USR1) { seen = [presence.enter("handler").name, presence.size, presence.leave.size] }
      Process.kill(:USR1, Process.pid)
      Thread.pass until seen
      seen
    end
    expect(seen).to eq ["handler", 1, 0]
  end

  it "refuses numbers that are none" do
    [0, -1, 32_769].each { |slots| expect { described_class.new(slots) }.to raise_error(ArgumentError) }
    [-1, (1 << 20) + 1, 1 << 70].each { |bytes| expect { described_class.new(1, bytes: bytes) }.to raise_error(ArgumentError) }
    expect { described_class.new("1") }.to raise_error(TypeError)
    expect { described_class.new(1, bites: 1) }.to raise_error(ArgumentError)
  end
end
