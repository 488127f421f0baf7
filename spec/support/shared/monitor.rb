# frozen_string_literal: true

# What a monitor does. Ruby's own ::Monitor runs these examples too.
#
# The including group defines `monitor`, which nobody holds.
RSpec.shared_examples "a monitor" do
  it "can be entered again by its holder, and is free after as many exits" do
    3.times { monitor.enter }
    others = Array.new(4) do
      seen = in_thread { monitor.try_enter && monitor.exit.inspect }.value
      monitor.exit if monitor.mon_owned?
      seen
    end
    expect(others).to eq [false, false, false, "nil"]
  end

  it "returns nil from enter and exit, and a Boolean from try_enter" do
    expect([monitor.enter, monitor.try_enter, monitor.exit, monitor.exit]).to eq [nil, true, nil, nil]
    monitor.enter
    expect(in_thread { monitor.try_enter }.value).to be false
  end

  it "has the mon_ names, and try_mon_enter" do
    monitor.mon_enter
    expect(monitor.mon_try_enter).to be true
    expect(monitor.try_mon_enter).to be true
    3.times { monitor.mon_exit }
    expect(monitor.mon_synchronize { monitor.synchronize { :inside } }).to be :inside
    expect(monitor).not_to be_mon_locked
  end

  it "waits until the holder has left for the last time" do
    2.times { monitor.enter }
    waiter = in_thread { monitor.synchronize { :entered } }
    wait_until_blocked(waiter)
    monitor.exit
    wait_until_blocked(waiter)
    monitor.exit
    expect(waiter.value).to be :entered
  end

  it "leaves when the block of synchronize raises or throws" do
    expect { monitor.synchronize { raise KeyError } }.to raise_error(KeyError)
    catch(:out) { monitor.synchronize { throw :out } }
    expect(monitor).not_to be_mon_locked
  end

  it "raises ThreadError when a stranger exits" do
    expect { monitor.exit }.to raise_error(ThreadError)
    monitor.enter
    expect { in_thread { monitor.exit }.value }.to raise_error(ThreadError)
    expect(monitor).to be_mon_owned
  end

  it "tells whether it is locked, and by whom" do
    expect([monitor.mon_locked?, monitor.mon_owned?]).to eq [false, false]
    monitor.enter
    expect([monitor.mon_locked?, monitor.mon_owned?]).to eq [true, true]
    expect(in_thread { [monitor.mon_locked?, monitor.mon_owned?] }.value).to eq [true, false]
  end

  it "checks the owner" do
    expect { monitor.mon_check_owner }.to raise_error(ThreadError)
    monitor.enter
    expect(monitor.mon_check_owner).to be_nil
    expect { in_thread { monitor.mon_check_owner }.value }.to raise_error(ThreadError)
  end
end

# What a condition variable of a monitor does.
#
# The including group defines `monitor`: anything with mon_enter, mon_exit, mon_locked?, synchronize and new_cond.
RSpec.shared_examples "a monitor's condition variable" do
  let!(:condition) { monitor.new_cond }

  # A thread that runs the block with the monitor held once; returns when it sleeps in there.
  def waiting_thread
    held = false
    thread = in_thread do
      monitor.synchronize do
        held = true
        yield
      end
    end
    wait_until { held && thread.status == "sleep" }
    thread
  end

  it "is true when woken, with the monitor held" do
    thread = waiting_thread { [condition.wait, monitor.mon_owned?] }
    monitor.synchronize { condition.signal }
    expect(thread.value).to eq [true, true]
  end

  it "is true when woken before the time is up" do
    thread = waiting_thread { condition.wait(100) }
    monitor.synchronize { condition.signal }
    expect(thread.value).to be true
  end

  it "frees and takes again all levels" do
    thread = waiting_thread do
      monitor.mon_enter
      condition.wait
      levels = 0
      levels += 1 while monitor.mon_owned? && monitor.mon_exit.nil?
      2.times { monitor.mon_enter }
      monitor.mon_exit
      levels
    end
    monitor.synchronize { condition.signal }
    expect(thread.value).to be 2
  end

  it "wakes one with signal, all with broadcast" do
    threads = Array.new(4) { waiting_thread { condition.wait } }
    monitor.synchronize { condition.signal }
    wait_until { threads.count(&:alive?) == 3 }
    monitor.synchronize { condition.broadcast }
    expect(threads.map(&:value)).to eq([true] * 4)
  end

  it "waits while, and until, a block says so" do
    n = 0
    threads = [waiting_thread { condition.wait_while { n < 2 } }, waiting_thread { condition.wait_until { n >= 2 } }]
    2.times do
      monitor.synchronize { n += 1; condition.broadcast }
      Thread.pass
    end
    expect(threads.map(&:value)).to eq [nil, nil]
  end

  it "does not wait where the block is content at once" do
    monitor.synchronize do
      expect([condition.wait_while { false }, condition.wait_until { true }]).to eq [nil, nil]
    end
  end

  it "raises ThreadError where the monitor is not held" do
    expect { condition.wait }.to raise_error(ThreadError)
    expect { condition.wait_while { true } }.to raise_error(ThreadError)
    expect { condition.wait_until { false } }.to raise_error(ThreadError)
    expect { condition.signal }.to raise_error(ThreadError)
    expect { condition.broadcast }.to raise_error(ThreadError)
  end

  it "holds the monitor again before an exception comes out" do
    thread = waiting_thread do
      condition.wait
    rescue KeyError
      monitor.mon_owned?
    end
    thread.raise(KeyError)
    expect(thread.value).to be true
  end
end

# What makes an object a monitor.
#
# The including group defines `object`, which has the mixin.
RSpec.shared_examples "a monitor mixin" do
  it "enters, exits and tries by the mon_ names" do
    object.mon_enter
    expect([object.mon_try_enter, object.try_mon_enter]).to eq [true, true]
    expect([object.mon_locked?, object.mon_owned?]).to eq [true, true]
    expect(in_thread { [object.mon_try_enter, object.mon_owned?] }.value).to eq [false, false]
    3.times { object.mon_exit }
    expect(object).not_to be_mon_locked
  end

  it "synchronizes by both names, also one inside the other" do
    expect(object.synchronize { object.mon_synchronize { object.mon_owned? } }).to be true
    expect(object).not_to be_mon_owned
  end

  it "keeps others out" do
    object.mon_enter
    waiter = in_thread { object.synchronize { :in } }
    wait_until_blocked(waiter)
    object.mon_exit
    expect(waiter.value).to be :in
  end

  it "raises ThreadError when a stranger exits" do
    expect { object.mon_exit }.to raise_error(ThreadError)
    object.mon_enter
    expect { in_thread { object.mon_exit }.value }.to raise_error(ThreadError)
  end

  it "keeps mon_initialize and mon_check_owner to itself" do
    expect { object.mon_initialize }.to raise_error(NoMethodError)
    expect { object.mon_check_owner }.to raise_error(NoMethodError)
  end

  it "raises ThreadError when initialized twice" do
    expect { object.send(:mon_initialize) }.to raise_error(ThreadError, /already initialized/)
  end
end
