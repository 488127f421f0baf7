# frozen_string_literal: true

RSpec.describe ProcessShared::Semaphore do
  most = 2**31 - 1

  it_behaves_like "a semaphore"

  it "starts with any value up to the limit" do
    [0, 1, 7, most].each { |value| expect(described_class.new(value).value).to be value }
  end

  it "counts posts and waits" do
    semaphore = described_class.new(0)
    expect(Array.new(5) { semaphore.post.value }).to eq [1, 2, 3, 4, 5]
    expect(Array.new(5) { semaphore.wait.value }).to eq [4, 3, 2, 1, 0]
  end

  it "lets as many in as it has permits" do
    semaphore = described_class.new(3)
    children = Array.new(4) { fork_child { |parent| semaphore.synchronize { parent.say && parent.listen } } }
    wait_until { semaphore.waiters == 1 }
    expect(semaphore.value).to be 0
    children.each { |child| child.tell(:leave) }
    children.each(&:value)
    expect(semaphore.value).to be 3
  end

  it "wakes one for each post" do
    semaphore = described_class.new(0)
    threads = Array.new(3) { in_thread { semaphore.wait } }
    wait_until { semaphore.waiters == 3 }
    2.times { semaphore.post }
    wait_until { threads.count(&:alive?) == 1 }
    expect([semaphore.value, semaphore.waiters]).to eq [0, 1]
    semaphore.post
    threads.each(&:value)
  end

  it "loses and doubles no permit between processes" do
    semaphore = described_class.new(0)
    posters = Array.new(2) { fork_child { 2000.times { semaphore.post } } }
    takers = Array.new(2) { fork_child { 1500.times { semaphore.wait } } }
    (posters + takers).each(&:value)
    expect([semaphore.value, semaphore.waiters]).to eq [1000, 0]
  end

  describe "several permits at once" do
    let!(:semaphore) { described_class.new(3) }

    it "takes and gives them in one step, with the results of Concurrent::Semaphore" do
      expect([semaphore.acquire(2), semaphore.available_permits]).to eq [nil, 1]
      expect([semaphore.try_acquire(2), semaphore.try_acquire(2, 0.01), semaphore.try_acquire]).to eq [false, false, true]
      expect([semaphore.release(3), semaphore.value]).to eq [nil, 3]
      expect([semaphore.acquire(0), semaphore.try_acquire(0), semaphore.release(0), semaphore.value]).to eq [nil, true, nil, 3]
    end

    it "gives them back after a block, whatever happens, and returns its value" do
      expect(semaphore.acquire(2) { semaphore.value }).to be 1
      expect(semaphore.try_acquire(3, 1) { semaphore.value }).to be 0
      expect(semaphore.acquire { semaphore.try_acquire(3) { :never } }).to be_nil
      expect { semaphore.acquire(3) { raise KeyError } }.to raise_error(KeyError)
      catch(:out) { semaphore.try_acquire(2) { throw :out } }
      expect(semaphore.value).to be 3
    end

    it "gives nothing back in a child that was forked in the block" do
      semaphore.acquire(2) { in_child { nil } }
      child = nil
      semaphore.acquire(3) { child = fork || :inside }
      exit! if child == :inside
      Process.wait(child)
      expect(semaphore.value).to be 3
    end

    it "serves those who want many one after the other, and lets nobody who wants fewer overtake the first" do
      empty = described_class.new(0)
      children = [3, 2, 1].each_with_index.map do |count, place|
        fork_child { empty.acquire(count) }.tap { wait_until { empty.waiters == place + 1 } && place.zero? && wait_until_blocked(_1) }
      end
      gone = -> { children.map { |child| !child.alive? } }
      empty.release(2)
      expect([empty.value, empty.try_acquire, empty.try_acquire(2)]).to eq [2, false, false]
      empty.release
      wait_until { gone.call == [true, false, false] }
      empty.release(3)
      children.each(&:value)
      expect([empty.value, empty.waiters]).to eq [0, 0]
    end

    it_behaves_like "a line of those who want several permits", {}, ->(empty) { empty.release(3) }

    it "lets nobody who only tries take several while others stand in line" do
      waiter = fork_child { semaphore.acquire(4) && nil }
      wait_until { semaphore.waiters == 1 } && wait_until_blocked(waiter)
      expect([semaphore.try_acquire(2), semaphore.try_acquire(3, 0.01)]).to eq [false, false]
      semaphore.release
      expect([waiter.value, semaphore.value]).to eq [nil, 0]
    end

    it "gives what had come for a wait that ran out of time to the others" do
      child = fork_child { semaphore.try_acquire(5, 0.2) }
      wait_until { semaphore.waiters == 1 || !child.alive? }
      expect([semaphore.acquire, child.value]).to eq [nil, false]
      expect([semaphore.value, semaphore.waiters]).to eq [2, 0]
    end

    it "loses and doubles none, among processes that want different numbers" do
      children = [1, 2, 3, 1, 2].map { |count| fork_child { 300.times { semaphore.acquire(count) { Thread.pass } } } }
      children.each(&:value)
      expect([semaphore.value, semaphore.waiters]).to eq [3, 0]
    end

    it "leaves what a waiter had collected to others when it is killed" do
      child = fork_child { semaphore.acquire(5) }
      wait_until { semaphore.waiters == 1 }
      wait_until_blocked(child)
      child.kill
      expect([semaphore.try_acquire(2), semaphore.value]).to eq [true, 1]
    end

    it "drains, and reduces also what is not there" do
      expect([semaphore.drain_permits, semaphore.value, semaphore.drain_permits]).to eq [3, 0, 0]
      expect([semaphore.reduce_permits(2), semaphore.value]).to eq [nil, -2]
      expect([semaphore.try_acquire, semaphore.release(3), semaphore.value]).to eq [false, nil, 1]
      semaphore.reduce_permits(3)
      expect([semaphore.drain_permits, semaphore.value]).to eq [-2, 0]
    end

    it "lets those wait through a debt who had waited before" do
      empty = described_class.new(0)
      thread = in_thread { empty.wait }
      wait_until_blocked(thread)
      empty.reduce_permits(2)
      2.times { empty.post }
      expect([empty.value, empty.waiters]).to eq [0, 1]
      empty.post
      expect(thread.value).to be empty
    end

    it "raises ArgumentError for numbers that cannot be" do
      [-1, 2**30, 2**31, 2**64, 1.0, "1", nil].each do |count|
        expect { semaphore.acquire(count) }.to raise_error(ArgumentError)
        expect { semaphore.try_acquire(count) }.to raise_error(ArgumentError)
      end
      [-1, 2**31, 2**64, 1.0].each { |count| expect { semaphore.release(count) }.to raise_error(ArgumentError) }
      [-1, 2**31 - 1, 2**64, 1.0].each { |count| expect { semaphore.reduce_permits(count) }.to raise_error(ArgumentError) }
      expect { semaphore.try_acquire(timeout: 1) }.to raise_error(ArgumentError, /an Integer, not Hash .* without a keyword/)
      expect { semaphore.release(2**31 - 1) }.to raise_error(Errno::EOVERFLOW)
      expect(semaphore.value).to be 3
    end
  end

  it "raises EOVERFLOW when the value would pass the limit, and changes nothing" do
    semaphore = described_class.new(most)
    expect { semaphore.post }.to raise_error(Errno::EOVERFLOW)
    expect(semaphore.value).to be most
    expect(semaphore.wait.post.value).to be most
  end
end
