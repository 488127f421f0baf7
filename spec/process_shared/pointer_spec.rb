# frozen_string_literal: true

require "spec_helper"

RSpec.describe ProcessShared::Pointer do
  let(:memory) { ProcessShared::SharedMemory.new(:int32, 4) }

  describe "the number accessors" do
    sizes = Hash.new { |_, name| name.start_with?("u") ? sizes.fetch(name[1..]) : raise(KeyError, name) }
    sizes.merge!("int8" => 1, "char" => 1, "int16" => 2, "short" => 2, "int32" => 4, "int" => 4, "int64" => 8,
                 "long_long" => 8, "long" => [0].pack("l!").bytesize, "float32" => 4, "float" => 4, "float64" => 8,
                 "double" => 8)

    def sample(name)
      name.match?(/float|double/) ? -1.5 : 100
    end

    MemorySupport::NUMBERS.each do |name|
      size = sizes[name]

      it "reads and writes #{name}, #{size} bytes of it" do
        value = sample(name)
        expect(memory.public_send("put_#{name}", 16 - size, value)).to equal(memory)
        expect(memory.public_send("get_#{name}", 16 - size)).to eq(value)
        expect(memory.public_send("write_#{name}", value)).to equal(memory)
        expect(memory.public_send("read_#{name}")).to eq(value)
        expect(memory.public_send("put_array_of_#{name}", 16 - (2 * size), [0, value])).to equal(memory)
        expect(memory.public_send("get_array_of_#{name}", 16 - (2 * size), 2)).to eq([0, value])
        expect(memory.public_send("write_array_of_#{name}", [value, 0])).to equal(memory)
        expect(memory.public_send("read_array_of_#{name}", 2)).to eq([value, 0])
      end

      it "keeps #{name} inside the bounds" do
        [-1, -size, 17 - size, 16, 17, 2**40, -(2**40), 2**63 - 1, -(2**63)].each do |offset|
          message = "Memory access offset=#{offset} size=#{size} is out of bounds: the size of the memory is 16"
          expect { memory.public_send("get_#{name}", offset) }.to raise_error(IndexError, message)
          expect { memory.public_send("put_#{name}", offset, 1) }.to raise_error(IndexError, message)
          expect { memory.public_send("get_array_of_#{name}", offset, 1) }.to raise_error(IndexError, message)
          expect { memory.public_send("put_array_of_#{name}", offset, [1]) }.to raise_error(IndexError, message)
        end
        expect(memory.get_bytes(0, 16)).to eq("\0" * 16)
      end

      it "takes an empty array of #{name} anywhere inside, the end included" do
        [0, 1, 16].each do |offset|
          expect(memory.public_send("get_array_of_#{name}", offset, 0)).to eq([])
          expect(memory.public_send("put_array_of_#{name}", offset, [])).to equal(memory)
        end
        expect { memory.public_send("get_array_of_#{name}", 17, 0) }.to raise_error(IndexError)
        expect { memory.public_send("put_array_of_#{name}", 17, []) }.to raise_error(IndexError)
      end

      it "refuses counts of #{name} that cannot be" do
        expect { memory.public_send("get_array_of_#{name}", 0, -1) }
          .to raise_error(ArgumentError, "negative array size (or size too big)")
        expect { memory.public_send("get_array_of_#{name}", 0, 17) }.to raise_error(IndexError)
        expect { memory.public_send("get_array_of_#{name}", 0, 2**62) }.to raise_error(IndexError)
        expect { memory.public_send("read_array_of_#{name}", 2**64) }.to raise_error(RangeError)
        expect { memory.public_send("read_array_of_#{name}", nil) }.to raise_error(TypeError)
      end

      it "writes nothing of an array of #{name} that has one bad element" do
        [nil, "1", :a, Object.new].each do |bad|
          expect { memory.public_send("write_array_of_#{name}", [1, bad]) }.to raise_error(TypeError)
        end
        expect(memory.get_bytes(0, 16)).to eq("\0" * 16)
        [nil, 1, "1", :a, { 1 => 1 }].each do |bad|
          expect { memory.public_send("put_array_of_#{name}", 0, bad) }.to raise_error(TypeError, /expected Array/)
        end
      end

      it "refuses offsets and values of #{name} that are no numbers" do
        ["0", nil, :a, [], Object.new, true].each do |bad|
          expect { memory.public_send("get_#{name}", bad) }.to raise_error(TypeError)
          expect { memory.public_send("put_#{name}", bad, 1) }.to raise_error(TypeError)
          expect { memory.public_send("write_#{name}", bad) }.to raise_error(TypeError)
        end
        [2**64, -(2**64), Float::NAN, Float::INFINITY].each do |bad|
          expect { memory.public_send("get_#{name}", bad) }.to raise_error(RangeError)
        end
        expect(memory.get_bytes(0, 16)).to eq("\0" * 16)
      end

      it "counts the arguments of #{name}" do
        expect { memory.public_send("get_#{name}") }.to raise_error(ArgumentError, /given 0, expected 1/)
        expect { memory.public_send("put_#{name}", 0) }.to raise_error(ArgumentError, /given 1, expected 2/)
        expect { memory.public_send("read_#{name}", 0) }.to raise_error(ArgumentError, /given 1, expected 0/)
      end
    end

    it "cuts small signed integers to their width, out of what fits an int" do
      expect(memory.put_int8(0, 128).get_int8(0)).to eq(-128)
      expect(memory.put_int16(0, -32_769).get_int16(0)).to eq(32_767)
      expect(memory.put_int32(0, -(2**31)).get_int32(0)).to eq(-(2**31))
      expect { memory.put_int32(0, 2**31) }
        .to raise_error(RangeError, /\Ainteger 2147483648 too big to convert to [`']int'\z/)
      expect { memory.put_int8(0, -(2**31) - 1) }.to raise_error(RangeError)
    end

    it "wraps small unsigned integers, out of what fits an int or an unsigned int" do
      expect(memory.put_uint8(0, -1).get_uint8(0)).to eq(255)
      expect(memory.put_uint8(0, 256).get_uint8(0)).to eq(0)
      expect(memory.put_uint32(0, -(2**31)).get_uint32(0)).to eq(2**31)
      expect(memory.put_uint32(0, (2**32) - 1).get_uint32(0)).to eq((2**32) - 1)
      expect { memory.put_uint32(0, 2**32) }.to raise_error(RangeError)
      expect { memory.put_uint8(0, -(2**31) - 1) }.to raise_error(RangeError)
    end

    it "takes 64-bit integers whole" do
      [-(2**63), (2**63) - 1, -(2**62), 2**62, (2**62) - 1, -(2**62) - 1].each do |value|
        expect(memory.put_int64(0, value).get_int64(0)).to eq(value)
        expect(memory.write_array_of_int64([value, 1]).read_array_of_int64(2)).to eq([value, 1])
      end
      [0, 2**63, (2**64) - 1].each { |value| expect(memory.put_uint64(0, value).get_uint64(0)).to eq(value) }
      expect(memory.put_uint64(0, -1).get_uint64(0)).to eq((2**64) - 1)
      expect(memory.put_uint64(0, -(2**63)).get_uint64(0)).to eq(2**63)
      [2**63, -(2**63) - 1].each { |value| expect { memory.put_int64(0, value) }.to raise_error(RangeError) }
      [2**64, -(2**63) - 1].each { |value| expect { memory.put_uint64(0, value) }.to raise_error(RangeError) }
    end

    it "takes Float, Rational and to_int for integers, and cuts toward zero" do
      expect(memory.put_int32(0, -1.9).get_int32(0)).to eq(-1)
      expect(memory.put_uint8(0, 5/2r).get_uint8(0)).to eq(2)
      expect(memory.put_int64(0, converting(:to_int) { 7 }).get_int64(0)).to eq(7)
      expect { memory.put_int32(0, converting(:to_i) { 7 }) }.to raise_error(TypeError)
      expect { memory.put_int32(0, Float::NAN) }.to raise_error(RangeError)
      expect { memory.put_uint64(0, Float::INFINITY) }.to raise_error(RangeError)
      expect(memory.put_int8(1.9, 3).get_int8(1)).to eq(3)
    end

    it "keeps every float, and takes any real number for one" do
      [0.0, -0.0, Float::INFINITY, -Float::INFINITY, Float::MIN, Float::MAX, 5e-324, 1.72723e-77].each do |value|
        expect(plain(memory.put_float64(0, value).get_float64(0), memory)).to eq(plain(value, memory))
      end
      expect(memory.put_float64(0, Float::NAN).get_float64(0)).to be_nan
      expect(memory.put_float32(0, 1e300).get_float32(0)).to eq(Float::INFINITY)
      expect(memory.put_float64(0, 1/2r).get_float64(0)).to eq(0.5)
      expect(memory.put_float64(0, 2**70).get_float64(0)).to eq(2.0**70)
      expect { memory.put_float64(0, "1.5") }.to raise_error(TypeError)
      expect { memory.put_float64(0, Complex(1, 1)) }.to raise_error(RangeError)
    end

    it "converts the value first, then looks whether it may write, then at the bounds" do
      memory.freeze
      expect { memory.put_int32(99, "x") }.to raise_error(TypeError)
      expect { memory.put_int32(99, 2**31) }.to raise_error(RangeError)
      expect { memory.put_int32(99, 1) }.to raise_error(FrozenError)
    end
  end

  # What was taken for the elements would be given back a second time, and then belong to two.
  it "writes arrays whose elements come back a second time" do
    output = ruby(<<~RUBY, options: ["-W0", "-rcontinuation"])
      class Returning
        def to_int = [7, callcc { |continuation| $continuation = continuation }].first
        alias to_ptr to_int
      end

      memory = ProcessShared::SharedMemory.new(1 << 16)
      %i[put_array_of_int32 put_array_of_pointer].each do |name|
        $returns = 0
        memory.clear
        memory.public_send(name, 0, [Returning.new] + ([2**31 - 1] * 5000))
        $returns += 1
        texts = Array.new(100) { "x" * 40_000 }
        $continuation.call if $returns < 5
        print $returns, memory.get_int32(0), texts.all?("x" * 40_000)
      end
    RUBY
    expect(output).to eq("57true57true")
  end

  describe "access by type" do
    it "reads and writes what the Symbol names" do
      expect(memory.put(:int32, 4, -5)).to be_nil
      expect(memory.get(:int32, 4)).to eq(-5)
      expect(memory.write(:double, 0.5)).to be_nil
      expect(memory.read(:double)).to eq(0.5)
      %i[int8 uint8 int16 uint16 int32 uint32 int64 uint64 long ulong char uchar short ushort int uint long_long
         ulong_long size_t ssize_t off_t pid_t uid_t gid_t time_t mode_t uintptr_t intptr_t ptrdiff_t dev_t ino_t
         socklen_t int8_t uint64_t].each do |type|
        memory.put(type, 0, 100)
        expect(memory.get(type, 0)).to eq(100)
      end
    end

    it "knows which typedefs are signed" do
      expect { memory.put(:size_t, 0, -1) }.to change { memory.get(:size_t, 0) }.to((256**[0].pack("J").bytesize) - 1)
      expect(memory.get(:ssize_t, 0)).to eq(-1)
      expect(memory.get(:pid_t, 0)).to eq(-1)
    end

    it "stores :bool by truthiness, in one byte" do
      [[nil, false], [false, false], [0, true], ["", true]].each do |value, read|
        memory.put(:bool, 15, value)
        expect(memory.get(:bool, 15)).to be(read)
        expect(memory.get_uint8(15)).to eq(read ? 1 : 0)
      end
      expect { memory.get(:bool, 16) }.to raise_error(IndexError)
    end

    it "refuses types nobody knows" do
      [:nonsense, nil, 3, "int", Object.new].each do |type|
        expect { memory.get(type, 0) }.to raise_error(ArgumentError, /\Aundefined type '#{Regexp.escape(type.to_s)}'; known are :int8 .* :size_t/)
        expect { memory.put(type, 0, 1) }.to raise_error(ArgumentError, /\Aunsupported type '#{Regexp.escape(type.to_s)}'; known are :int8 /)
        expect { memory.read(type) }.to raise_error(ArgumentError)
        expect { memory.write(type, 1) }.to raise_error(ArgumentError)
      end
      ["\xFF".b, "\xFF".b.to_sym].each do |type|
        expect { memory.get(type, 0) }.to raise_error(ArgumentError, /undefined type '\u{FFFD}'/)
        expect { ProcessShared::SharedMemory.new(type) }.to raise_error(TypeError, /unable to resolve type/)
      end
      expect { memory.get(BasicObject.new, 0) }.to raise_error(ArgumentError, /\Aundefined type 'BasicObject'; /)
      expect { ProcessShared::SharedMemory.new(BasicObject.new) }.to raise_error(TypeError, /\Aunable to resolve type 'BasicObject'; /)
    end

    it "checks values and bounds as the named accessors do" do
      expect { memory.put(:int8, 0, "x") }.to raise_error(TypeError)
      expect { memory.get(:int8, 16) }.to raise_error(IndexError)
      expect { memory.get(:int8, nil) }.to raise_error(TypeError)
      expect { memory.get(:int8) }.to raise_error(ArgumentError)
    end

    it "reads arrays through a reader, and writes them through a writer" do
      expect(memory.write_array_of_type(:int16, :put_int16, [1, 2, 3])).to equal(memory)
      expect(memory.read_array_of_type(:int16, :read_int16, 3)).to eq([1, 2, 3])
      expect(memory.read_array_of_type(:int16, :read_int16, 0)).to eq([])
      expect { memory.read_array_of_type(:int16, :read_int16, 9) }.to raise_error(IndexError)
      expect { memory.write_array_of_type(:int16, :put_int16, [0] * 9) }.to raise_error(IndexError)
      expect(memory.get_int16(0)).to eq(1)
      expect { memory.read_array_of_type(:nonsense, :read_int16, 1) }.to raise_error(TypeError)
      expect { memory.read_array_of_type(:int16, :nonsense, 1) }.to raise_error(NoMethodError)
      named = Struct.new(:to_str).new("nonsense")
      expect { memory.read_array_of_type(:int16, named, 1) }.to raise_error(NoMethodError, /method .nonsense' for/)
      expect { memory.write_array_of_type(:int16, named, [1]) }.to raise_error(NoMethodError, /method .nonsense' for/)
    end
  end

  describe "bytes and strings" do
    before { memory.put_bytes(0, "hello\0world") }

    it "gives copies, in binary" do
      expect(memory.get_bytes(0, 5)).to eq("hello")
      expect(memory.get_bytes(0, 5).encoding).to eq(Encoding::BINARY)
      copy = memory.read_bytes(5)
      memory.put_bytes(0, "HELLO")
      expect(copy).to eq("hello")
      expect(memory.get_bytes(16, 0)).to eq("")
    end

    it "writes a part of a string" do
      expect(memory.put_bytes(0, "abcdef", 4)).to equal(memory)
      expect(memory.get_bytes(0, 3)).to eq("efl")
      memory.put_bytes(1, "abcdef", 1, 2)
      expect(memory.get_bytes(0, 4)).to eq("ebcl")
      expect(memory.write_bytes("xyz", 1, 1)).to equal(memory)
      expect(memory.read_bytes(2)).to eq("yb")
      expect(memory.put_bytes(0, "abc", 1, nil).read_bytes(2)).to eq("bc")
      expect(memory.put_bytes(16, "")).to equal(memory)
      memory.put_bytes(0, "é")
      expect(memory.read_bytes(2)).to eq("\xC3\xA9".b)
    end

    it "refuses parts that are none, and writes nothing then" do
      before = memory.get_bytes(0, 16)
      expect { memory.put_bytes(0, "abc", -1) }.to raise_error(RangeError, "index cannot be less than zero")
      expect { memory.put_bytes(0, "abc", 1, 3) }
        .to raise_error(RangeError, "index+length is greater than size of string")
      expect { memory.put_bytes(0, "abc", 2, 2**62) }.to raise_error(RangeError)
      expect { memory.put_bytes(0, "abc", 4) }.to raise_error(IndexError)
      expect { memory.put_bytes(0, "abc", 0, -1) }.to raise_error(IndexError)
      expect { memory.put_bytes(14, "abc") }
        .to raise_error(IndexError, /\AMemory access offset=14 size=3 is out of bounds: the size of the memory is \d+\z/)
      expect { memory.put_bytes(17, "") }.to raise_error(IndexError)
      expect { memory.put_bytes(-1, "a") }.to raise_error(IndexError)
      [nil, :a, 1, ["a"]].each { |bad| expect { memory.put_bytes(0, bad) }.to raise_error(TypeError, /expected String/) }
      expect { memory.put_bytes(0, "a", "x") }.to raise_error(TypeError)
      expect { memory.put_bytes(0) }.to raise_error(ArgumentError)
      expect { memory.put_bytes(0, "a", 0, 0, 0) }.to raise_error(ArgumentError)
      expect(memory.get_bytes(0, 16)).to eq(before)
    end

    it "refuses lengths that are none" do
      [[0, -1], [0, 17], [17, 0], [-1, 1], [2**62, 2**62]].each do |offset, length|
        expect { memory.get_bytes(offset, length) }
          .to raise_error(IndexError, /\AMemory access offset=#{offset} size=#{length} is out of bounds: the size of the memory is \d+\z/)
      end
      expect { memory.get_bytes(0, nil) }.to raise_error(TypeError)
      expect { memory.get_bytes(0, 2**64) }.to raise_error(RangeError)
    end

    it "reads strings up to a NUL, a length or the end" do
      expect(memory.get_string(0)).to eq("hello")
      expect(memory.get_string(6)).to eq("world")
      expect(memory.get_string(0, 3)).to eq("hel")
      expect(memory.get_string(0, 8)).to eq("hello")
      expect(memory.get_string(0, nil)).to eq("hello")
      expect(memory.get_string(16)).to eq("")
      expect(memory.put_bytes(0, "x" * 16).get_string(4)).to eq("x" * 12)
      expect(memory.get_string(0).encoding).to eq(Encoding::BINARY)
      expect { memory.get_string(17) }.to raise_error(IndexError)
      expect { memory.get_string(0, 17) }.to raise_error(IndexError)
      expect { memory.get_string(-1) }.to raise_error(IndexError)
    end

    it "writes strings with a NUL behind, which needs its place" do
      memory.put_bytes(0, "x" * 16)
      expect(memory.put_string(0, "ab")).to equal(memory)
      expect(memory.get_bytes(0, 4)).to eq("ab\0x")
      expect(memory.put_string(1, "q" * 14).get_bytes(15, 1)).to eq("\0")
      expect { memory.put_string(0, "a" * 16) }
        .to raise_error(IndexError, /\AMemory access offset=0 size=17 is out of bounds: the size of the memory is \d+\z/)
      expect { memory.put_string(16, "") }.to raise_error(IndexError)
      [nil, :a, 3].each { |bad| expect { memory.put_string(0, bad) }.to raise_error(TypeError) }
    end

    it "has ffi's other names for it" do
      expect(memory.read_string).to eq("hello")
      expect(memory.read_string(7)).to eq("hello\0w")
      expect(memory.read_string(0)).to eq("")
      expect(memory.read_string_length(7)).to eq("hello\0w")
      expect(memory.read_string_to_null).to eq("hello")
      expect(memory.write_string("HE")).to equal(memory)
      expect(memory.write_string("LLOX", 3)).to equal(memory)
      expect(memory.read_string).to eq("LLOlo")
      expect(memory.write_string_length("abcd", 1).read_string).to eq("aLOlo")
      expect { memory.write_string("ab", 3) }.to raise_error(RangeError)
      expect { memory.write_string(nil) }.to raise_error(TypeError)
      expect { memory.read_string(17) }.to raise_error(IndexError)
    end

    it "copies from other memory, within both" do
      other = ProcessShared::SharedMemory.new(4).put_bytes(0, "abcd")
      expect(memory.__copy_from__(other, 3)).to equal(memory)
      expect(memory.read_bytes(5)).to eq("abclo")
      expect(memory.__copy_from__(memory + 1, 4).read_bytes(5)).to eq("bcloo")
      expect { memory.__copy_from__(other, 5) }.to raise_error(IndexError)
      expect { other.__copy_from__(memory, 5) }.to raise_error(IndexError)
      expect { memory.__copy_from__(other, -1) }.to raise_error(IndexError)
      [nil, 3, "abc"].each { |bad| expect { memory.__copy_from__(bad, 1) }.to raise_error(ArgumentError) }
    end

    it "clears everything" do
      expect(memory.clear).to equal(memory)
      expect(memory.get_bytes(0, 16)).to eq("\0" * 16)
    end
  end

  describe "its shape" do
    it "tells size, place and type" do
      expect(memory.size).to eq(16)
      expect(memory.total).to eq(16)
      expect(memory.type_size).to eq(4)
      expect(memory.size_limit?).to be(true)
      expect(memory.address).to be > 0
      expect(memory.to_i).to eq(memory.address)
      expect(memory.null?).to be(false)
      expect(memory.autorelease?).to be(true)
      expect(memory.inspect).to match(/\A#<ProcessShared::SharedMemory address=0x\h{16} size=16>\z/)
      expect(memory.to_s).to eq(memory.inspect)
    end

    it "gives views by element, by offset and by range" do
      [memory[1], memory + 4, memory.slice(4, 12)].each do |view|
        expect(view).to be_instance_of(described_class)
        expect(view.address).to eq(memory.address + 4)
        expect(view.size).to eq(12)
        expect(view.type_size).to eq(4)
        view.put_int32(8, view.object_id & 0xffff)
        expect(memory.get_int32(12)).to eq(view.object_id & 0xffff)
        expect { view.get_int8(12) }.to raise_error(IndexError)
        expect { view.get_int8(-1) }.to raise_error(IndexError)
      end
      expect((memory + 16).size).to eq(0)
      expect { (memory + 16).get_bytes(0, 1) }.to raise_error(IndexError)
      expect((memory + 16).get_bytes(0, 0)).to eq("")
    end

    it "gives no view beyond its bounds" do
      expect { memory[5] }.to raise_error(IndexError, /\AMemory access offset=20 size=-4 is out of bounds: the size of the memory is \d+\z/)
      expect { memory[-1] }.to raise_error(IndexError)
      expect { memory[2**61] }.to raise_error(IndexError)
      expect { memory[2**62] }.to raise_error(IndexError)
      expect { memory + 17 }.to raise_error(IndexError, /\AMemory access offset=17 size=-1 is out of bounds: the size of the memory is \d+\z/)
      expect { memory + -1 }.to raise_error(IndexError)
      expect { memory.slice(4, 16) }.to raise_error(IndexError)
      expect { memory.slice(0, -1) }.to raise_error(IndexError)
      expect { memory.slice(-4, 1) }.to raise_error(IndexError)
      [nil, "1", :a].each do |bad|
        expect { memory[bad] }.to raise_error(TypeError)
        expect { memory + bad }.to raise_error(TypeError)
        expect { memory.slice(0, bad) }.to raise_error(TypeError)
      end
    end

    it "swaps bytes in the order asked for" do
      skip "for machines of little order" if [1].pack("S") == [1].pack("n")
      big = memory.order(:big)
      expect(memory.order).to eq(:little)
      expect(memory.order(:little)).to equal(memory)
      expect(big.order).to eq(:big)
      expect(big.order(:network)).to equal(big)
      expect(big.order(:little).order).to eq(:little)
      expect(big.slice(0, 4).order).to eq(:big)
      expect(big.put_uint32(0, 0x01020304).get_bytes(0, 4)).to eq("\1\2\3\4")
      expect(big.put_array_of_int16(0, [1, 2]).get_bytes(0, 4)).to eq("\0\1\0\2")
      expect(big.get_array_of_int16(0, 2)).to eq([1, 2])
      expect(big.put_double(0, 1.5).get_bytes(0, 8)).to eq([1.5].pack("G"))
      expect(big.get_double(0)).to eq(1.5)
      expect(big.put(:float, 0, 1.5).inspect + big.get_bytes(0, 4)).to eq("nil#{[1.5].pack("g")}")
      expect { memory.order(:middle) }.to raise_error(ArgumentError, "unknown byte order")
      expect { memory.order(:big, :big) }.to raise_error(ArgumentError)
      [nil, "big", 1].each { |bad| expect { memory.order(bad) }.to raise_error(TypeError) }
    end

    it "is equal to what points to the same place" do
      expect(memory).to eq(memory + 0)
      expect(memory).not_to eq(memory + 1)
      expect(memory).not_to eq(ProcessShared::SharedMemory.new(16))
      [nil, 0, memory.address, "x"].each { |other| expect(memory == other).to be(false) }
    end

    it "cannot be made out of nothing" do
      expect { described_class.new(0) }.to raise_error(TypeError, /view of a SharedMemory/)
      expect { described_class.allocate.get_int8(0) }.to raise_error(TypeError, /not initialized/)
      expect { (memory + 0).dup }.to raise_error(TypeError, /\Acan't copy Pointer: .* slice/)
      expect { (memory + 0).clone }.to raise_error(TypeError, /\Acan't copy Pointer: .* slice/)
      expect { Marshal.dump(memory + 0) }.to raise_error(TypeError)
      expect { (memory + 0).send(:initialize) }.to raise_error(TypeError)
    end

    it "always belongs to its objects" do
      memory.autorelease = true
      expect { memory.autorelease = false }.to raise_error(ArgumentError)
      expect(memory.free).to equal(memory)
      expect(memory).to be_closed
    end
  end

  describe "a frozen one" do
    it "reads, and refuses every kind of write" do
      memory.put_int32(0, 5)
      memory.freeze
      expect(memory.get_int32(0)).to eq(5)
      writes = memory.public_methods.grep(/\A(put|write)_(?!object)/).map do |name|
        value = name.match?(/array_of_pointer/) ? [nil] : [1]
        value = name.match?(/array/) ? value : 1
        value = "a" if name.match?(/string|bytes/)
        arguments = name.start_with?("put") ? [0, value] : [value]
        arguments << 1 if name == :write_string_length
        arguments = [:int8, :put_int8, [1]] if name == :write_array_of_type
        [name, arguments]
      end
      writes += [[:put, [:int8, 0, 1]], [:write, [:int8, 1]], [:clear, []], [:put_object, [0, 1]],
                 [:write_object, [1]], [:__copy_from__, [ProcessShared::SharedMemory.new(1), 1]]]
      expect(writes.size).to be > 90
      writes.each do |name, arguments|
        expect { memory.public_send(name, *arguments) }.to raise_error(FrozenError), name.to_s
      end
      expect(memory.get_int32(0)).to eq(5)
    end

    it "gives frozen views, and can be closed" do
      memory.freeze
      [memory + 1, memory[1], memory.slice(0, 1), memory.order(:big)].each do |view|
        expect(view).to be_frozen
        expect { view.put_int8(0, 1) }.to raise_error(FrozenError)
      end
      memory.close
      expect(memory).to be_closed
      expect { memory.get_int8(0) }.to raise_error(ProcessShared::ClosedError)
      expect { memory.put_int8(0, 1) }.to raise_error(ProcessShared::ClosedError)
    end
  end
end
