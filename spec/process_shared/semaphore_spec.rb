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

  it "raises EOVERFLOW when the value would pass the limit, and changes nothing" do
    semaphore = described_class.new(most)
    expect { semaphore.post }.to raise_error(Errno::EOVERFLOW)
    expect(semaphore.value).to be most
    expect(semaphore.wait.post.value).to be most
  end
end
