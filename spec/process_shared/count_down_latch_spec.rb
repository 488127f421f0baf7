# frozen_string_literal: true

RSpec.describe ProcessShared::CountDownLatch do
  it "counts down to 0, and stays there" do
    latch = described_class.new(2)
    expect(Array.new(4) { latch.count.tap { latch.count_down } }).to eq [2, 1, 0, 0]
    expect([latch.wait, latch.wait(0), described_class.new.count, described_class.new(0).wait]).to eq [true, true, 1, true]
  end

  it "is not waited for without time while it counts" do
    latch = described_class.new
    expect([latch.wait(0), latch.wait(0.001), latch.count_down, latch.wait(0)]).to eq [false, false, nil, true]
  end

  it "wakes all who wait when as many processes have counted down" do
    latch = described_class.new(3)
    waiting = Array.new(3) { fork_child { latch.wait } } + [in_thread { latch.wait(60) }]
    wait_until { latch.waiters == 4 }
    2.times { in_child { latch.count_down } }
    expect([latch.waiters, latch.inspect]).to eq [4, "#<ProcessShared::CountDownLatch count 1, 4 waiting>"]
    in_child { latch.count_down }
    expect(waiting.map(&:value)).to eq [true] * 4
    expect(latch.inspect).to eq "#<ProcessShared::CountDownLatch count 0>"
  end

  it "counts each of many at once" do
    200.times do
      latch = described_class.new(4)
      counting = Array.new(2) { in_thread { 2.times { latch.count_down } } }
      expect(latch.wait(60)).to be true
      counting.each(&:join)
    end
  end

  it "is no matter for others when a waiter is killed" do
    latch = described_class.new
    killed, other = Array.new(2) { fork_child { latch.wait } }
    wait_until { latch.waiters == 2 }
    killed.kill
    wait_until { latch.waiters == 1 }
    latch.count_down
    expect(other.value).to be true
  end

  it "refuses counts that are none" do
    [-1, 2**31, 2**64, 1.0, nil, "1"].each { |count| expect { described_class.new(count) }.to raise_error(ArgumentError, /count/) }
    expect { described_class.new.wait(-1) }.to raise_error(ArgumentError)
  end
end
