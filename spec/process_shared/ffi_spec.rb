# frozen_string_literal: true

require "spec_helper"

# Side by side with the ffi gem, where it is installed: the same calls, on memory of the same size.
RSpec.describe "SharedMemory beside FFI::MemoryPointer", if: MemorySupport::FFI_LOADED do
  let(:ours) { ProcessShared::SharedMemory.new(:int32, 4) }
  let(:theirs) { FFI::MemoryPointer.new(:int32, 4) }

  # What ffi does is what we do: same result, same exception, same message, same bytes afterwards.
  def expect_same(name, *arguments)
    [ours, theirs].each { |memory| memory.put_bytes(0, (1..16).to_a.pack("C*")) }
    mine = outcome(ours) { |memory| memory.public_send(name, *arguments) }
    other = outcome(theirs) { |memory| memory.public_send(name, *arguments) }
    return if mine == other # thousands of times: no message is made for nothing

    expect(mine).to eq(other), "#{name}(#{arguments.map(&:inspect).join(", ")})\n ours: #{mine}\nffi's: #{other}"
  end

  it "has every method of it" do
    missing = FFI::MemoryPointer.public_instance_methods - ProcessShared::SharedMemory.public_instance_methods
    expect(missing).to eq([])
  end

  bits = [7, 8, 15, 16, 31, 32, 62, 63, 64, 70].flat_map { |power| [-1, 0, 1].map { |more| (2**power) + more } }
  integers = ([0, 1, 100] + bits).flat_map { |number| [number, -number] }.uniq
  odd = [nil, true, false, "1", :a, [1], {}, 1.9, -1.9, 1e10, -1e10, 1e18, 1e19, -1e19, 1e30, Float::NAN, Float::INFINITY,
         -0.0, 5e-324, 1.72723e-77, 3/2r, -7/2r, Complex(3, 0), Complex(1, 1), Time.at(1), Object]
  offsets = [0, 1, 8, 9, 12, 13, 14, 15, 16, 17, -1, -8, 2**31, 2**62, -(2**62), 2**63, 2**64, -(2**64), nil, "0", 1.9, :a, [],
             Float::NAN, 3/2r]

  MemorySupport::NUMBERS.each do |name|
    it "converts and checks #{name} alike" do
      (integers + odd).each do |value|
        expect_same("put_#{name}", 0, value)
        expect_same("put_array_of_#{name}", 0, [value])
        next unless theirs.respond_to?("write_#{name}")

        expect_same("write_#{name}", value)
        expect_same("write_array_of_#{name}", [value])
      end
      offsets.each do |offset|
        expect_same("get_#{name}", offset)
        expect_same("put_#{name}", offset, 1)
        [0, 1, 2, 3, -1, 2**31, 2**62, 2**64, nil, "1", 1.5].each do |count|
          next if count == 2**62 # ffi has not enough memory for the array

          expect_same("get_array_of_#{name}", offset, count)
        end
        [[], [1], [1, 2], [1] * 17, nil, 1, "1"].each { |array| expect_same("put_array_of_#{name}", offset, array) }
      end
    end

    it "reads every bit pattern of #{name} alike" do
      random = Random.new(42)
      100.times do
        bytes = random.bytes(16)
        bytes = ["\0", "\xff"].sample(random: random) * 16 if random.rand < 0.1
        ours.put_bytes(0, bytes)
        theirs.put_bytes(0, bytes)
        (0..8).each do |offset|
          results = [ours, theirs].map do |memory|
            [memory.public_send("get_#{name}", offset), *memory.public_send("get_array_of_#{name}", offset, 1)]
          end
          mine, other = results.map { |numbers| plain(numbers, nil) }
          expect(mine).to eq(other)
        end
      end
    end
  end

  it "converts objects with to_int, to_i, to_f alike" do
    objects = [converting(:to_int) { 7 }, converting(:to_i) { 7 }, converting(:to_int) { "x" },
               converting(:to_int) { 2**31 }, converting(:to_int) { raise KeyError, "mine" },
               converting(:to_f) { 1.5 }, Class.new(Numeric) { def to_f = 2.5; def inspect = "number" }.new]
    MemorySupport::NUMBERS.each do |name|
      objects.each do |object|
        expect_same("put_#{name}", 0, object)
        expect_same("put_#{name}", object, 1)
        expect_same("get_#{name}", object)
      end
    end
  end

  it "treats bytes and strings alike" do
    strings = ["", "abc", "a\0b", "é", "x" * 15, "x" * 16, "x" * 17, nil, :a, 1, ["a"]]
    strings.each do |string|
      offsets.each do |offset|
        expect_same(:put_bytes, offset, string)
        expect_same(:put_string, offset, string)
        [0, 1, 3, 4, -1, "x"].each do |from|
          expect_same(:put_bytes, offset, string, from)
          [0, 1, 3, -1, 2**62, "x"].each { |length| expect_same(:put_bytes, offset, string, from, length) }
        end
      end
      expect_same(:write_bytes, string)
      expect_same(:write_bytes, string, 1)
      expect_same(:write_bytes, string, 1, 1)
      next unless string.is_a?(String)

      expect_same(:write_string, string)
      [0, 1, 3, 17, -1, nil, "x"].each { |length| expect_same(:write_string, string, length) }
      [0, 1, 3, 17, -1, "x"].each { |length| expect_same(:write_string_length, string, length) }
    end
    offsets.each do |offset|
      expect_same(:get_string, offset)
      [0, 1, 16, 17, -1, 2**62, nil, "x", 1.5].each do |length|
        expect_same(:get_string, offset, length)
        expect_same(:get_bytes, offset, length)
        expect_same(:read_bytes, length)
        expect_same(:read_string_length, length)
        expect_same(:read_string, length)
      end
    end
    expect_same(:read_string)
    expect_same(:read_string_to_null)
    expect_same(:clear)
  end

  it "has the same shape" do
    offsets.each do |offset|
      # in ffi, offsets before the start and huge ones wrap around; and its versions word their refusal of nil differently
      expect_same(:[], offset) unless offset.nil? || offset.is_a?(Integer) && (offset.negative? || offset >= 2**62)
      expect_same(:+, offset)
      [0, 1, 16, 17, -1, nil, "x", 2**63].each { |length| expect_same(:slice, offset, length) }
    end
    %i[size total type_size size_limit? null? order autorelease?].each { |name| expect_same(name) }
    [:big, :little, :network, :middle].each { |order| expect_same(:order, order) }
  end

  it "reads and writes by type alike" do
    types = FFI::TypeDefs.keys.grep(Symbol) + [:nonsense, nil, 3, "int"] +
            FFI::Type.constants.map { |name| FFI::Type.const_get(name) }.grep(FFI::Type)
    types -= [:varargs, :strptr, :void, :buffer_in, :buffer_out, :buffer_inout, :long_double, FFI::Type::LONGDOUBLE]
    types.each do |type|
      native = type.is_a?(FFI::Type) ? type : FFI.find_type(type) rescue nil
      next if [FFI::Type::STRING, FFI::Type::LONGDOUBLE].include?(native)

      [0, 8, 12, 15, 16, -1, nil].each do |offset|
        message = type.is_a?(FFI::Type) && [FFI::Type::VOID, FFI::Type::VARARGS, FFI::Type::BUFFER_IN,
                                            FFI::Type::BUFFER_OUT, FFI::Type::BUFFER_INOUT].include?(type)
        next if message # reading one of these means nothing

        expect_same(:get, type, offset) unless native == FFI::Type::BOOL # ffi looks at one bit of it only
        [1, -1, 2**40, nil, "x"].each { |value| expect_same(:put, type, offset, value) }
      end
    end
  end

  it "counts arguments alike" do
    (FFI::MemoryPointer.public_instance_methods - Object.public_instance_methods).grep(/\A(get|put|read|write)/).each do |name|
      arity = theirs.method(name).arity
      next if arity.negative? || name.match?(/_of_type|\Aread\z|\Awrite\z|read_string_length|write_string_length/)

      expect_same(name, *([0] * (arity + 1)))
      expect_same(name, *([0] * (arity - 1))) if arity.positive?
    end
  end

  describe "pointers in memory" do
    it "stores nil, numbers and whatever has an address" do
      expect(ours.put_pointer(0, theirs)).to equal(ours)
      expect(ours.get_pointer(0)).to eq(theirs)
      expect(ours.get_pointer(0)).to be_instance_of(FFI::Pointer)
      expect(ours.write_pointer(ours + 1).read_pointer.address).to eq(ours.address + 1)
      expect(ours.put_pointer(8, nil).get_pointer(8)).to be_null
      expect(ours.put_pointer(8, 2**63).get_pointer(8).address).to eq(2**63)
      expect(ours.put_pointer(8, converting(:to_ptr) { FFI::Pointer.new(5) }).get_pointer(8).address).to eq(5)
      expect(ours.put_array_of_pointer(0, [nil, theirs]).get_array_of_pointer(0, 2)).to eq([FFI::Pointer::NULL, theirs])
      expect(ours.write_array_of_pointer([3]).read_array_of_pointer(1).map(&:address)).to eq([3])
      expect(ours.get(:pointer, 0).address).to eq(3)
    end

    it "refuses the rest alike" do
      ["x", 1.5, true, :a, 2**64, -(2**63) - 1, Object.new].each do |value|
        mine = outcome(ours) { |memory| memory.put_pointer(0, value) }
        other = outcome(theirs) { |memory| memory.put_pointer(0, value) }
        expect(mine).to eq(other)
        expect { ours.put_array_of_pointer(0, [1, value]) }.to raise_error(StandardError)
        expect(ours.get_uint64(0)).to eq(0)
      end
      [-1, 9, 16, 2**62, nil].each do |offset|
        expect_same(:get_pointer, offset)
        expect_same(:put_pointer, offset, nil)
        expect_same(:get_array_of_pointer, offset, 1)
      end
      expect_same(:get_array_of_pointer, 0, 3)
      expect_same(:get_array_of_pointer, 0, -1)
      looped = Object.new.tap { |object| object.define_singleton_method(:to_ptr) { self } }
      expect { ours.put_pointer(0, looped) }.to raise_error(ArgumentError, "value is not a pointer")
    end

    it "reads the strings they point to" do
      string = FFI::MemoryPointer.from_string("hello")
      ours.put_array_of_pointer(0, [string, nil])
      expect(ours.get_array_of_string(0)).to eq(["hello"])
      expect(ours.get_array_of_string(0, 2)).to eq(["hello", nil])
      expect(ours.read_array_of_string(1)).to eq(["hello"])
      expect(ours.get(:string, 0)).to eq("hello")
      expect(ours.get(:string, 8)).to be_nil
      ours.put_array_of_pointer(0, [string, string])
      expect(ours.read_array_of_string).to eq(%w[hello hello])
      [[0, -1], [0, 3], [16, nil], [9, nil], [-1, nil]].each do |offset, count|
        mine = outcome(ours) { |memory| memory.get_array_of_string(offset, count) }
        theirs.put_array_of_pointer(0, [string, string])
        other = outcome(theirs) { |memory| memory.get_array_of_string(offset, count) }
        expect(mine.first).to eq(other.first)
      end
    end
  end

  describe "handing memory to foreign functions" do
    it "gives an FFI::Pointer of the right place, size and order" do
      pointer = ours.to_ptr
      expect(pointer).to be_instance_of(FFI::Pointer)
      expect([pointer.address, pointer.size, pointer.order]).to eq([ours.address, 16, :little])
      pointer.put_int32(4, 7)
      expect(ours.get_int32(4)).to eq(7)
      expect { pointer.get_int32(16) }.to raise_error(IndexError)
      expect((ours + 4).to_ptr.size).to eq(12)
      expect(ours.order(:big).to_ptr.order).to eq(:big)
      expect(ours == pointer).to be(true)
    end

    it "can be passed where a function wants a pointer" do
      library = Module.new do
        extend FFI::Library
        ffi_lib FFI::Library::LIBC
        attach_function :memset, [:pointer, :int, :size_t], :pointer
      end
      library.memset(ours, 7, 16)
      expect(ours.get_bytes(0, 16)).to eq("\a" * 16)
      library.memset(ours + 8, 1, 8)
      expect(ours.get_uint8(8)).to eq(1)
    end

    it "keeps the memory mapped while the FFI::Pointer lives" do
      pointer = ours.to_ptr + 4
      ours.put_int32(4, 9)
      ours.close
      GC.start
      expect(pointer.get_int32(0)).to eq(9)
      expect { ours.to_ptr }.to raise_error(ProcessShared::ClosedError)
    end
  end

  it "knows ffi's types, typedefs, structs and enums" do
    FFI.typedef(:int16, :process_shared_spec_type)
    struct = Class.new(FFI::Struct) { layout :a, :int32, :b, :double }
    {
      FFI::Type::DOUBLE => 8, FFI::Type::UINT8 => 1, :process_shared_spec_type => 2, struct => 16,
      FFI::Enum.new([:a, :b], :spec_enum) => 4, :string => 8, :long_double => FFI.type_size(:long_double), :pointer => 8,
    }.each do |type, size|
      memory = ProcessShared::SharedMemory.new(type, 3)
      expect([memory.size, memory.type_size, memory.count]).to eq([3 * size, size, 3])
      expect(memory.type).to equal(type)
    end
    expect(ProcessShared::SharedMemory.new(:int).put(:process_shared_spec_type, 0, -2).inspect).to eq("nil")
    FFI::TypeDefs.each_key do |type|
      next unless type.is_a?(Symbol)

      expect(ProcessShared::SharedMemory.new(type).size).to eq(FFI.type_size(type)), type.to_s
    end
  end

  it "lets exceptions go on that come while ffi is asked for a type" do
    answer = nil
    struct = Class.new(FFI::Struct) { layout :a, :int32 }
    struct.define_singleton_method(:size) { answer.call }
    memory = ProcessShared::SharedMemory.new(8)
    [-> { ProcessShared::SharedMemory.new(struct) }, -> { memory.get(struct, 0) }, -> { memory.put(struct, 0, 1) }].each do |call|
      answer = -> { throw :thrown, :caught }
      expect(catch(:thrown) { call.call }).to be :caught
      [Interrupt, Timeout::Error].each do |error|
        answer = -> { raise error }
        expect(&call).to raise_error(error)
      end
      answer = -> { raise TypeError }
      expect(&call).to raise_error(StandardError, /type '#<Class/)
    end
  end

  it "sizes every type as ffi does without ffi" do
    expected = FFI::TypeDefs.keys.grep(/\A[a-z]/).grep_v(/fast|least|fd_mask|pthread|loff|timer|daddr|register|process_shared/)
    expected = expected.to_h { |type| [type, FFI.type_size(type)] }
    script = <<~RUBY
      sizes = #{expected.inspect}
      bad = sizes.reject { |type, size| ProcessShared::SharedMemory.new(type).size == size rescue false }
      abort bad.inspect unless bad.empty? && !defined?(FFI)
    RUBY
    expect(system(RbConfig.ruby, "-Ilib", "-rprocess_shared", "-e", script)).to be(true)
  end
end

RSpec.describe "SharedMemory without the ffi gem" do
  it "works, and says what it needs ffi for" do
    script = <<~RUBY
      memory = ProcessShared::SharedMemory.new(16)
      memory.put_pointer(0, memory + 1)
      calls = [-> { memory.to_ptr }, -> { memory.get_pointer(0) }, -> { memory.read_array_of_pointer(1) },
               -> { memory.get(:string, 0) }, -> { memory.get_array_of_string(0) }]
      calls.each do |call|
        call.call
        abort "no error"
      rescue NotImplementedError => error
        abort error.message unless error.message.include?('require "ffi"')
      end
      abort "strings" unless memory.get_array_of_string(8) == [] && memory.get(:string, 8).nil?
      abort "equal" unless memory == memory + 0 && memory != 1
      abort "loaded" if defined?(FFI)
    RUBY
    expect(system(RbConfig.ruby, "-w", "-Ilib", "-rprocess_shared", "-e", script)).to be(true)
  end
end
