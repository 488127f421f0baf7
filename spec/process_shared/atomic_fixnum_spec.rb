# frozen_string_literal: true

RSpec.describe ProcessShared::AtomicFixnum do
  most, least = 2**63 - 1, -2**63

  it "holds any number of 64 bits" do
    expect(described_class.new.value).to be 0
    [0, 5, -5, 2**62, most, least].each { |value| expect(described_class.new(value).value).to eq value }
  end

  it "counts up and down, and tells the result" do
    number = described_class.new(10)
    expect([number.increment, number.up, number.increment(5), number.up(-7)]).to eq [11, 12, 17, 10]
    expect([number.decrement, number.down, number.decrement(5), number.down(-7)]).to eq [9, 8, 3, 10]
    number.value = -3
    expect([number.value, number.inspect, number.to_s]).to eq [-3, *["#<ProcessShared::AtomicFixnum value -3>"] * 2]
  end

  it "makes the value what a block makes of it" do
    number = described_class.new(20)
    expect([number.update { |value| value * 2 + 2 }, number.value]).to eq [42, 42]
    calls = 0
    number.update { |value| (calls += 1) == 1 ? number.increment && 0 : value } # somebody came in between
    expect([calls, number.value]).to eq [2, 43]
    expect { number.update { raise KeyError } }.to raise_error(KeyError)
    expect([number.update { break :out }, number.value]).to eq [:out, 43]
    expect { number.update }.to raise_error(ThreadError)
  end

  it "compares and sets" do
    number = described_class.new(1)
    expect([number.compare_and_set(1, 2), number.compare_and_set(1, 3), number.value]).to eq [true, false, 2]
  end

  it "raises RangeError at the ends, and changes nothing" do
    top, bottom = described_class.new(most), described_class.new(least)
    [-> { top.increment }, -> { top.up(most) }, -> { top.down(-1) }, -> { top.down(least) }, -> { top.value = 2**63 },
     -> { top.update { |value| value + 1 } }, -> { top.compare_and_set(most, 2**63) }, -> { top.increment(2**64) },
     -> { bottom.decrement }, -> { bottom.up(least) }, -> { bottom.up(-1) }, -> { described_class.new(2**63) }].each do |call|
      expect { call.call }.to raise_error(RangeError, /is outside the numbers of 64 bits/)
    end
    expect([top.value, bottom.value]).to eq [most, least]
    expect([top.decrement, top.increment, bottom.up(most)]).to eq [most - 1, most, -1]
  end

  it "takes Integers only" do
    number = described_class.new(1)
    [nil, 1.0, "1", :one].each do |argument|
      [-> { described_class.new(argument) }, -> { number.value = argument }, -> { number.increment(argument) },
       -> { number.down(argument) }, -> { number.update { argument } }, -> { number.compare_and_set(1, argument) },
       -> { number.compare_and_set(argument, 1) }].each do |call|
        expect { call.call }.to raise_error(ArgumentError, /must be an Integer, not #{argument.class}/)
      end
    end
    expect(number.value).to be 1
  end

  it "loses no increment of any process, whatever way it is made" do
    number = described_class.new
    ways = [-> { number.increment }, -> { number.update(&:succ) }, lambda {
      value = number.value until value && number.compare_and_set(value, value + 1)
    }, -> { number.down(-1) }]
    ways.map { |way| fork_child { 3000.times { way.call } } }.each(&:value)
    expect(number.value).to be 12_000
  end

  it "never goes round while many push against the end" do
    number = described_class.new(most - 1000)
    seen = fork_child { Array.new(20_000) { number.value }.min }
    refused = Array.new(3) { fork_child { 1000.times.count { number.increment rescue true and $! } } }
    refused.each(&:value)
    expect([number.value, seen.value >= most - 1000]).to eq [most, true]
  end

  it "can be used in a signal handler" do
    number = described_class.new
    expect(in_child do
      trap(:USR1) { number.update { |value| value + 2 } }
      Process.kill(:USR1, Process.pid)
      Thread.pass until number.value == 2
      number.increment
    end).to be 3
  end
end

RSpec.describe ProcessShared::SharedMemory, "#atomic" do
  let!(:memory) { described_class.new(64) }

  it "is a number over 8 bytes of the memory" do
    number = memory.atomic(8)
    expect(number).to be_a(ProcessShared::AtomicFixnum)
    number.value = -7
    expect([memory.get_int64(8), memory.atomic(8).increment, memory.atomic.value]).to eq [-7, -6, 0]
    in_child { memory.atomic(8).increment(10) }
    expect([number.value, memory.get_int64(8)]).to eq [4, 4]
  end

  it "keeps the memory mapped" do
    number = memory.atomic(56)
    memory.close
    GC.start
    expect([number.increment, number.increment]).to eq [1, 2]
    number.close
    expect { number.value }.to raise_error(ProcessShared::ClosedError)
  end

  it "refuses what is not aligned, outside, frozen or closed" do
    [1, 4, 55].each { |offset| expect { memory.atomic(offset) }.to raise_error(ArgumentError, /multiple of 8/) }
    [64, 57, -8, 2**40].each { |offset| expect { memory.atomic(offset) }.to raise_error(IndexError, /out of bounds/) }
    expect { memory.atomic("8") }.to raise_error(TypeError)
    expect { described_class.new(64).freeze.atomic }.to raise_error(FrozenError)
    expect { described_class.new(64).tap(&:close).atomic }.to raise_error(ProcessShared::ClosedError)
    expect { described_class.new(4).atomic }.to raise_error(IndexError)
  end

  it "gives thousands of counters, which other Ractors may use" do
    numbers = ProcessShared::SharedArray.new(:int64, 5000).then { |array| Array.new(5000) { |index| array.atomic(index * 8) } }
    Array.new(2) { fork_child { numbers.each(&:increment) } }.each(&:value)
    expect(numbers.map(&:value).uniq).to eq [2]
    expect(Ractor.shareable?(Ractor.make_shareable(numbers))).to be true
  end
end
