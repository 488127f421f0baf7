# frozen_string_literal: true

require "monitor"

RSpec.describe Monitor, "the model" do
  let!(:monitor) { described_class.new }

  it_behaves_like "a monitor"
  it_behaves_like "a monitor's condition variable"
end

RSpec.describe ProcessShared::Monitor do
  subject!(:monitor) { described_class.new }
  let!(:lock) { monitor }

  it "is a Mutex" do
    expect(described_class.superclass).to be ProcessShared::Mutex
  end

  it_behaves_like "a monitor"
  it_behaves_like "a monitor's condition variable"
  it_behaves_like "a lock"
  it_behaves_like "an owned lock"

  it "can be locked again by its holder, with all names" do
    expect(monitor.lock).to be monitor
    expect(monitor.lock).to be monitor
    expect([monitor.try_lock, monitor.try_lock(0.1)]).to eq [true, true]
    expect(monitor.synchronize { monitor.owned? }).to be true
    3.times { expect(monitor.unlock).to be monitor }
    expect(monitor).to be_owned
    monitor.exit
    expect(monitor).not_to be_locked
    expect { monitor.exit }.to raise_error(ProcessShared::ProcessError)
  end

  it "can be entered very often" do
    70_000.times { monitor.enter }
    69_999.times { monitor.exit }
    expect(monitor).to be_mon_owned
    monitor.exit
    expect(monitor).not_to be_mon_locked
  end

  it "says so when another fiber of the thread would wait for ever" do
    monitor.enter
    expect { Fiber.new { monitor.enter }.resume }
      .to raise_error(ProcessShared::ProcessError, /already owned by another fiber belonging to the same thread/)
  end

  it "sleeps with all levels freed, and has them all again" do
    child = fork_child do |parent|
      3.times { monitor.enter }
      parent.say
      monitor.sleep(0.05)
      Array.new(3) { monitor.exit && nil } << monitor.mon_locked?
    end
    child.hear
    expect(monitor.synchronize { monitor.owner_pid }).to be Process.pid
    expect(child.value).to eq [nil, nil, nil, false]
  end

  describe "#wait_for_cond" do
    let!(:condition) { ProcessShared::ConditionVariable.new }

    it "is true when woken and false when the time is up" do
      thread = in_thread { monitor.synchronize { monitor.wait_for_cond(condition, nil) } }
      wait_until { condition.waiters == 1 }
      condition.signal
      expect(thread.value).to be true
      expect(monitor.synchronize { monitor.wait_for_cond(condition, 0.02) }).to be false
    end

    it "raises ThreadError where the monitor is not held" do
      expect { monitor.wait_for_cond(condition, 0.01) }.to raise_error(ThreadError)
    end
  end

  describe "#new_cond" do
    it "makes a condition variable that is false when the time is up" do
      monitor.synchronize { expect(monitor.new_cond.wait(0.02)).to be false }
    end

    it "makes one that wakes other processes" do
      condition = monitor.new_cond
      memory = ProcessShared::SharedMemory.new(:int)
      child = fork_child do |parent|
        monitor.synchronize do
          parent.say
          condition.wait_until { memory.read_int == 3 }
          memory.read_int
        end
      end
      child.hear
      3.times { monitor.synchronize { memory.write_int(memory.read_int + 1) && condition.signal } }
      expect(child.value).to be 3
    end
  end

  describe "across processes" do
    it "keeps other processes out until the last exit" do
      child = fork_child do |parent|
        2.times { monitor.enter }
        parent.say
        2.times { parent.listen && monitor.exit.inspect && parent.say }
      end
      child.hear
      expect([monitor.try_enter, monitor.mon_locked?, monitor.mon_owned?, monitor.owner_pid])
        .to eq [false, true, false, child.pid]
      child.tell(:exit)
      child.hear
      expect(monitor.try_enter).to be false
      child.tell(:exit)
      child.hear
      expect(monitor.try_enter).to be true
    end

    it "cannot be left by a stranger, who is told the holder's pid" do
      child = child_holding(monitor)
      [-> { monitor.exit }, -> { monitor.unlock }, -> { monitor.mon_check_owner }].each do |leave|
        expect(&leave).to raise_error(ProcessShared::ProcessError, /\b#{child.pid}\b/)
      end
    end

    it "does not take its levels into a child" do
      2.times { monitor.enter }
      seen = in_child do
        mine = [monitor.mon_owned?, monitor.try_enter]
        begin
          monitor.exit
        rescue ProcessShared::ProcessError => error
          mine << error.message
        end
      end
      expect(seen).to match [false, false, /\b#{Process.pid}\b/]
      monitor.exit
      expect(monitor).to be_mon_owned
    end

    it "is entered by a child with levels of its own" do
      2.times { monitor.enter }
      child = fork_child do |parent|
        parent.say
        monitor.enter
        monitor.exit
        monitor.mon_owned?
      end
      child.hear
      wait_until_blocked(child)
      2.times { monitor.exit }
      expect(child.value).to be false
    end
  end

  it "is handed on with no levels when its holder dies" do
    child = fork_child do |parent|
      5.times { monitor.enter }
      parent.say
      sleep
    end
    child.hear
    child.kill
    monitor.enter
    expect(monitor).to be_abandoned
    monitor.exit
    expect([monitor.mon_locked?, monitor.abandoned?]).to eq [false, false]
  end
end
