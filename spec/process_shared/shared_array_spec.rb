# frozen_string_literal: true

require "spec_helper"

RSpec.describe ProcessShared::SharedArray do
  let!(:array) { described_class.new(:int32, 4) }

  it "is a SharedMemory of elements, zeroed" do
    expect(array).to be_a(ProcessShared::SharedMemory)
    expect([array.length, array.size, array.type, array.type_size]).to eq([4, 16, :int32, 4])
    expect(array.to_a).to eq([0, 0, 0, 0])
    expect(described_class.new(3).to_a).to eq([0, 0, 0])
    expect(described_class.new.length).to eq(1)
    expect(described_class.new(:int8, 2, reserve: true).length).to eq(2)
  end

  {
    int8: [-128, 127], uint8: [0, 255], int16: [-32_768, 32_767], uint16: [0, 65_535], int32: [-(2**31), (2**31) - 1],
    uint32: [0, (2**32) - 1], int64: [-(2**63), (2**63) - 1], uint64: [0, (2**64) - 1], char: [-1, 1], uchar: [1, 2],
    short: [-1, 1], ushort: [1, 2], int: [-1, 1], uint: [1, 2], long: [-1, 1], ulong: [1, 2], long_long: [-1, 1],
    ulong_long: [1, 2], float: [0.5, -0.5], double: [1e300, -1e-300], float32: [0.5, -0.5], float64: [0.1, -0.1],
    bool: [true, false], size_t: [0, 2**40], pid_t: [-1, 1]
  }.each do |type, values|
    it "holds #{type}" do
      numbers = described_class.new(type, 2)
      values.each_with_index { |value, index| numbers[index] = value }
      expect(numbers.to_a).to eq(values)
      expect(numbers[-2]).to eq(values[0])
    end
  end

  it "refuses types whose elements nobody can read" do
    expect { described_class.new(:string, 2) }.to raise_error(ArgumentError)
    expect { described_class.new(:nonsense, 2) }.to raise_error(TypeError)
    expect { described_class.new(:int32, 0) }.to raise_error(ArgumentError)
  end

  it "counts negative positions from the end, and has nothing outside" do
    array[-1] = 7
    expect(array[3]).to eq(7)
    expect(array[-1]).to eq(7)
    expect(array[1.9]).to eq(0)
    [4, 5, -5, 2**62, -(2**62), 2**61].each do |outside|
      expect { array[outside] }
        .to raise_error(IndexError, "index #{outside} outside of array bounds: -4...4")
      expect { array[outside] = 1 }.to raise_error(IndexError)
    end
    [nil, "1", :a, "a".."b", Object.new].each do |bad|
      expect { array[bad] }.to raise_error(TypeError)
      expect { array[bad] = 1 }.to raise_error(TypeError)
    end
    expect { array[0..1] = 1 }.to raise_error(TypeError)
    [[], [1, 2, 3]].each { |bad| expect { array[*bad] }.to raise_error(ArgumentError, /expected 1\.\.2/) }
    expect { array[2**64] }.to raise_error(RangeError)
    expect { array[0] = "x" }.to raise_error(TypeError)
    expect { array[0] = 2**31 }.to raise_error(RangeError)
    expect(array.to_a).to eq([0, 0, 0, 7])
  end

  it "gives slices as an Array does" do
    array.put_array_of_int32(0, [4, 3, 2, 1])
    model = [4, 3, 2, 1]
    starts = [-6, -5, -4, -1, 0, 1, 3, 4, 5, 2**40, -(2**40)]
    starts.product([-1, 0, 1, 3, 4, 9, 2**62]) { |given| expect(array[*given]).to eq(model[*given]), given.inspect }
    ends = [*starts, nil]
    ends.product(ends, [true, false]) do |from, to, exclusive|
      range = Range.new(from, to, exclusive)
      expect(array[range]).to eq(model[range]), range.inspect
    end
    expect(array[1.9, 1.9]).to eq [3]
    expect(described_class.new(:bool, 3)[0, 2]).to eq [false, false]
    [[nil, 1], [1, nil], ["1", 1], [0..1, 1]].each { |bad| expect { array[*bad] }.to raise_error(TypeError) }
    closed = array
    expect { array[converting(:to_int) { closed.close || 0 }, 2] }.to raise_error(ProcessShared::ClosedError)
    expect { array[0, 1] }.to raise_error(ProcessShared::ClosedError)
    expect { array[0..] }.to raise_error(ProcessShared::ClosedError)
    expect { described_class.allocate[0, 1] }.to raise_error(TypeError, /not initialized/)
  end

  it "is filled as an Array is, but does not grow" do
    places = [[], [1], [1, 2], [-2], [nil], [nil, 2], [1, nil], [1, 0], [4], [4, 0], [2, -1], [-9], [-9, 2], [1.9, 1.9], [9],
              [1..2], [1...3], [-3..-2], [1..], [..1], [...3], [3..1], [0...-1], [4..]]
    places.each do |place|
      expect(array.fill(0).fill(7, *place)).to equal array
      expect(array.to_a).to eq([0, 0, 0, 0].fill(7, *place).first(4)), place.inspect
      model = [0, 0, 0, 0].fill(*place) { |index| index * 10 }
      expect(array.fill(0).fill(*place) { |index| index * 10 }.to_a).to eq(model.first(4)), place.inspect
    end
    array.fill(0)
    [[3, 2], [0, 5], [9, 1], [2..4], [-9..2], [0, 2**62]].each do |place|
      expect { array.fill(1, *place) }.to raise_error(IndexError, /outside of array bounds: -4\.\.\.4/), place.inspect
    end
    expect { array.fill(2**31) }.to raise_error(RangeError)
    expect { array.fill("x") }.to raise_error(TypeError)
    expect { array.fill(1, 0..1, 1) }.to raise_error(TypeError)
    expect { array.fill }.to raise_error(ArgumentError)
    expect { array.fill(1, 2, 3, 4) }.to raise_error(ArgumentError)
    expect(array.to_a).to eq [0, 0, 0, 0]
    expect { array.freeze.fill(1) }.to raise_error(FrozenError)
    array.close
    expect { array.fill(1) }.to raise_error(ProcessShared::ClosedError)
  end

  it "is filled whole, however large" do
    { int8: 7, int16: -2, float: 0.5, double: 1e-300, bool: true, uint64: 2**63 }.each do |type, value|
      numbers = described_class.new(type, 10_001).fill(value, 1)
      expect(numbers.tally).to eq({ numbers[0] => 1, value => 10_000 })
    end
  end

  it "shows what it holds, but not all of it" do
    array.put_array_of_int32(0, [4, 3, 2, 1])
    expect(array.inspect).to eq "#<ProcessShared::SharedArray :int32 [4, 3, 2, 1] length=4>"
    expect(array.to_s).to eq array.inspect
    expect(described_class.new(:bool, 10_000).inspect)
      .to eq "#<ProcessShared::SharedArray :bool [#{"false, " * 16}...] length=10000>"
    expect(described_class.new(3).inspect).to eq "#<ProcessShared::SharedArray :uchar [0, 0, 0] length=3>"
    expect(Class.new(described_class).allocate.inspect).to include "(not initialized)"
    array.close
    expect(array.inspect).to eq "#<ProcessShared::SharedArray (closed)>"
    output = ruby("print ProcessShared::SharedArray.new(:pointer, 2).inspect")
    expect(output).to match(/\A#<ProcessShared::SharedArray address=0x\h+ size=16>\z/)
  end

  it "makes Enumerators that count elements" do
    model = (0...7).each
    numbers = described_class.new(:int32, 7)
    numbers.put_array_of_int32(0, [*0...7])
    names = Enumerable.public_instance_methods.sort.map { |name| [name, []] }
    names += %i[each_slice each_cons cycle each_with_object max_by].map { |name| [name, [2]] }
    made = names.select do |name, arguments|
      expected = model.public_send(name, *arguments) rescue next
      next unless expected.is_a?(Enumerator)

      found = numbers.public_send(name, *arguments)
      expect(found).to be_a(Enumerator), name.inspect
      expect(found.size).to eq(expected.size), "#{name}#{arguments}"
      expect(found.first(3)).to eq(expected.first(3)), "#{name}#{arguments}" unless name == :chunk
    end
    expect(made.map(&:first)).to include(:map, :select, :each_slice, :each_cons, :cycle, :lazy, :each_with_index)
    expect(numbers.map.with_index { |number, index| number * index }).to eq [0, 1, 4, 9, 16, 25, 36]
  end

  it "yields its elements, alone and with their index" do
    array.put_array_of_int32(0, [4, 3, 2, 1])
    expect { |block| array.each(&block) }.to yield_successive_args(4, 3, 2, 1)
    expect { |block| array.each_with_index(&block) }.to yield_successive_args([4, 0], [3, 1], [2, 2], [1, 3])
    expect(array.each {}).to equal(array)
    expect(array.each_with_index {}).to equal(array)
    expect(array.each.next).to eq(4)
    expect([array.each.size, array.each_with_index.size]).to eq([4, 4])
    expect([array.each.map.size, array.each.each_slice(3).size]).to eq([4, 2])
    expect(array.each_with_index.to_a).to eq([[4, 0], [3, 1], [2, 2], [1, 3]])
    expect(array.each.with_index(1).to_a.first).to eq([4, 1])
  end

  it "has all of Enumerable" do
    array.put_array_of_int32(0, [4, 3, 2, 1])
    expect(array.map { |i| i * 2 }).to eq([8, 6, 4, 2])
    expect(array.sort).to eq([1, 2, 3, 4])
    expect(array.to_a).to eq([4, 3, 2, 1])
    expect([array.sum, array.min, array.max, array.include?(3), array.first, array.first(2)])
      .to eq([10, 1, 4, true, 4, [4, 3]])
    expect(array.each_slice(2).to_a).to eq([[4, 3], [2, 1]])
    expect(array.lazy.select(&:even?).to_a).to eq([4, 2])
    expect([array.count, array.count(3), array.count(&:even?)]).to eq([4, 1, 2])
    expect(array.inject(:+)).to eq(10)
  end

  it "has the accessors and views of memory" do
    array[1] = 5
    expect(array.get_int32(4)).to eq(5)
    expect((array + 4).get_int32(0)).to eq(5)
    expect((array + 4)[1]).to be_instance_of(ProcessShared::Pointer)
  end

  it "is shared with children" do
    in_child { 4.times { |index| array[index] = index * index } }
    expect(array.to_a).to eq([0, 1, 4, 9])
  end

  it "refuses everything once it is closed, also in the middle of a loop" do
    seen = []
    expect do
      array.each do |element|
        seen << element
        array.close
      end
    end.to raise_error(ProcessShared::ClosedError)
    expect(seen).to eq([0])
    [-> { array[0] }, -> { array[0] = 1 }, -> { array[9] }, -> { array.length }, -> { array.to_a }].each do |call|
      expect(&call).to raise_error(ProcessShared::ClosedError)
    end
    other = described_class.new(:int32, 2)
    expect { other[0] = converting(:to_int) { other.close || 1 } }.to raise_error(ProcessShared::ClosedError)
    expect { described_class.allocate[0] }.to raise_error(TypeError, /not initialized/)
    expect { described_class.allocate.length }.to raise_error(TypeError, /not initialized/)
  end

  it "refuses writes when it is frozen" do
    array.freeze
    expect { array[0] = 1 }.to raise_error(FrozenError)
    expect(array[0]).to eq(0)
  end

  it "opens and closes around a block" do
    expect(described_class.open(:int32, 3, &:length)).to eq(3)
    kept = nil
    described_class.new(:int32, 3) { |yielded| (kept = yielded)[0] = 1 }
    expect(kept).to be_closed
  end
end
