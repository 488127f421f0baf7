# frozen_string_literal: true

RSpec.describe ProcessShared::Event do
  let!(:event) { described_class.new }

  it "is set, tried and reset, and says so" do
    expect([event.set?, event.reset, event.set, event.set?, event.set]).to eq [false, true, true, true, true]
    expect([event.reset, event.set?, event.try?, event.try?, event.set?]).to eq [true, false, true, false, true]
  end

  it "is waited for at once when it is set, and not without time when it is not" do
    expect([event.wait(0), event.wait(0.001)]).to eq [false, false]
    event.set
    expect([event.wait, event.wait(nil), event.wait(0)]).to eq [true, true, true]
  end

  it "shows its state to other processes" do
    in_child { event.set }
    expect(event).to be_set
    in_child { event.reset }
    expect(event).not_to be_set
  end

  it "wakes all processes and threads that wait" do
    children = Array.new(3) { fork_child { event.wait } }
    threads = Array.new(2) { in_thread { event.wait(60) } }
    wait_until { event.waiters == 5 }
    expect(event.inspect).to eq "#<ProcessShared::Event not set, 5 waiting>"
    event.set
    expect(children.map(&:value) + threads.map(&:value)).to eq [true] * 5
    expect([event.waiters, event.inspect]).to eq [0, "#<ProcessShared::Event set>"]
  end

  it "wakes all who wait, also when it is reset at once, and none who come later" do
    children = Array.new(3) { fork_child { |parent| [event.wait, parent.listen, event.wait(0)] } }
    wait_until { event.waiters == 3 }
    wait_until_blocked(children)
    event.set
    event.reset
    children.each { |child| child.tell(:reset) }
    expect(children.map(&:value)).to eq [[true, :reset, false]] * 3
  end

  it "tells one of many that it has set it" do
    tried = Array.new(4) { fork_child { |parent| parent.listen && event.try? } }
    tried.each { |child| child.tell(:go) }
    expect(tried.map(&:value).count(true)).to be 1
  end

  it "loses nobody's wake-up in many rounds of set and reset" do
    rounds = 500
    ready = ProcessShared::Semaphore.new(0)
    gates = [event, described_class.new]
    children = Array.new(3) do
      fork_child { rounds.times { |round| ready.post && gates[round % 2].wait } && :done }
    end
    rounds.times do |round|
      3.times { ready.wait }
      gates[(round + 1) % 2].reset
      gates[round % 2].set
    end
    expect(children.map(&:value)).to eq [:done] * 3
  end

  it "is no matter for others when a waiter is killed" do
    killed, other = Array.new(2) { fork_child { event.wait } }
    wait_until { event.waiters == 2 }
    killed.kill
    wait_until { event.waiters == 1 }
    event.set
    expect(other.value).to be true
  end

  it "ends the wait of a signal handler's own setting" do
    child = fork_child do |parent|
      trap(:USR1) { event.set && event.reset }
      parent.say(:ready)
      event.wait
    end
    child.hear
    wait_until { event.waiters == 1 }
    Process.kill(:USR1, child.pid)
    expect(child.value).to be true
  end

  it "lets the other fibers of a thread go on" do
    log = []
    in_thread do
      Fiber.set_scheduler(Scheduler.new)
      Fiber.schedule { log << event.wait }
      Fiber.schedule { log << :other && event.set }
    end.join
    expect(log).to eq [:other, true]
  end

  it "wakes a fiber also if it is set and reset before the thread that watches for the fiber begins" do
    pulse = -> { event.set && event.reset }
    event.define_singleton_method(:watch) { |*arguments| pulse.call && super(*arguments) }
    woken = nil
    in_thread do
      Fiber.set_scheduler(Scheduler.new)
      Fiber.schedule { woken = event.wait }
    end.join
    expect(woken).to be true
  end

  it "refuses timeouts that are none" do
    expect { event.wait(-1) }.to raise_error(ArgumentError)
    expect { event.wait("1") }.to raise_error(TypeError)
    expect { event.wait(0, 0) }.to raise_error(ArgumentError)
  end
end
