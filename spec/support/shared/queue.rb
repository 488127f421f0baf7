# frozen_string_literal: true

# What core's queues do, and ours. The including group's `make` gives an empty queue without a limit.
RSpec.shared_examples "a queue of core's kind" do
  # Ours is as core's is in the newest Ruby, on all.
  ours = described_class.name.start_with?("ProcessShared")

  it "gives items in the order they came, whatever they are called by" do
    queue = make
    expect([queue.push(1), queue << 2, queue.enq(3)]).to all(be(queue))
    expect([queue.size, queue.length, queue.empty?]).to eq [3, 3, false]
    expect([queue.pop, queue.shift, queue.deq]).to eq [1, 2, 3]
    expect(queue).to be_empty
  end

  it "raises where it is not to wait" do
    expect { make.pop(true) }.to raise_error(ThreadError, "queue empty")
    expect { make.close.pop(true) }.to raise_error(ThreadError, "queue empty")
    expect(make.push(1).pop(true)).to be 1
  end

  it "gives what is left after close, then nil" do
    queue = make.push(1)
    expect(queue.closed?).to be false
    expect(queue.close).to be queue
    expect(queue.close.closed?).to be true
    expect { queue << 2 }.to raise_error(ClosedQueueError, "queue closed")
    expect([queue.pop, queue.pop]).to eq [1, nil]
  end

  it "wakes those that wait when it is closed" do
    queue = make
    thread = in_thread { queue.pop }
    wait_until { queue.num_waiting == 1 }
    queue.close
    expect(thread.value).to be_nil
  end

  it "can be cleared" do
    queue = make.push(1).push(2)
    expect(queue.clear).to be queue
    expect(queue.size).to be 0
  end

  it "can neither be frozen nor marshalled", if: ours || RUBY_VERSION >= "3.3" do
    expect { make.freeze }.to raise_error(TypeError, /cannot freeze/)
    expect { Marshal.dump(make) }.to raise_error(TypeError, /can't dump/)
  end

  it "has a timeout", if: ours || RUBY_VERSION >= "3.2" do
    expect(make.pop(timeout: 0)).to be_nil
    expect(make.pop(timeout: 0.001)).to be_nil
    expect(make.push(1).pop(timeout: 1)).to be 1
    expect(make.push(1).pop(timeout: nil)).to be 1
    expect(make.close.pop(timeout: 60)).to be_nil
    expect { make.pop(true, timeout: 1) }.to raise_error(ArgumentError, "can't set a timeout if non_block is enabled")
  end
end
