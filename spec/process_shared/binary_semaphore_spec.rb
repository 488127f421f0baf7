# frozen_string_literal: true

RSpec.describe ProcessShared::BinarySemaphore do
  it_behaves_like "a semaphore"

  it "has never more than one permit, and never fewer than none" do
    binary = described_class.new
    expect { binary.acquire(2) }.to raise_error(ArgumentError)
    expect { binary.reduce_permits(2) }.to raise_error(ArgumentError)
    expect { binary.release }.to raise_error(ProcessShared::ProcessError)
    expect([binary.value, binary.reduce_permits(1), binary.value]).to eq [1, nil, 0]
    expect([binary.release, binary.acquire { :inside }, binary.drain_permits]).to eq [nil, :inside, 1]
  end

  it "starts with 0 or 1 only" do
    expect { described_class.new(2) }.to raise_error(ArgumentError, /0 (or|to) 1/)
  end

  it "raises ProcessError when the value would pass 1, and changes nothing" do
    semaphore = described_class.new(1)
    2.times { expect { semaphore.post }.to raise_error(ProcessShared::ProcessError) }
    expect(semaphore.value).to be 1
    expect(semaphore.wait.value).to be 0
  end

  it "takes exactly one of many posts at a time" do
    100.times do
      semaphore = described_class.new(0)
      posts = Array.new(3) do
        in_thread do
          semaphore.post && :posted
        rescue ProcessShared::ProcessError
          :refused
        end
      end
      expect(posts.map(&:value).tally).to eq(posted: 1, refused: 2)
      expect(semaphore.value).to be 1
    end
  end

  it "takes exactly one of many posts at a time over all processes" do
    semaphore = described_class.new(0)
    start = ProcessShared::Semaphore.new(0)
    children = Array.new(2) do
      fork_child do
        Array.new(500) do
          start.wait
          semaphore.post && 1
        rescue ProcessShared::ProcessError
          0
        end.sum
      end
    end
    taken = 0
    1000.times do
      start.post
      taken += 1 if semaphore.try_wait rescue Errno::EAGAIN
    end
    posted = children.sum(&:value)
    expect(taken + semaphore.value).to be posted
  end
end
