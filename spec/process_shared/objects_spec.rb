# frozen_string_literal: true

require "spec_helper"

# Objects in memory: what Marshal writes and reads, in both the native and the Ruby version.
RSpec.describe "Objects in shared memory" do
  # Kinds of objects that Marshal treats differently.
  module ObjectsSpec
    Pair = Struct.new(:left, :right)
    Keyword = Struct.new(:left, keyword_init: true)
    Text = Class.new(String)
    List = Class.new(Array)
    Plain = Class.new { attr_accessor :value }
    Mixed = Module.new
    Failing = Class.new { def marshal_dump = raise(KeyError, "mine") }

    class Dumped
      attr_reader :data

      def initialize(data) = @data = data
      def _dump(_level) = @data
      def self._load(data) = new(data)
    end

    class Loaded
      attr_accessor :data

      def marshal_dump = [@data]
      def marshal_load(data) = @data = data.first
    end

    def self.all
      plain = Plain.new.tap { |object| object.value = [1, "é"] }
      loop_array = [1].tap { |array| array << array }
      defaulted = Hash.new(5).merge(a: 1)
      marked = +"text"
      marked.instance_variable_set(:@mark, [1])
      [nil, true, false, 0, -1, 122, 123, -123, -124, 255, 256, -256, -257, 65_536, 2**30, -(2**30) - 1, 2**31, 2**62, -(2**62),
       2**64, -(2**100), 0.0, -0.0, 1.5, 1e300, Float::INFINITY, -Float::INFINITY, "", "text", "é", "\xFF".b, "a".encode("UTF-16LE"),
       "a".encode("US-ASCII"), "a".dup.force_encoding("EUC-JP"), "x" * 300, "y" * 70_000, "z".b * 5000, marked, :sym, :"é sym",
       [], [1, [2, [3]]], {}, { a: 1, "b" => [2] }, defaulted, {}.compare_by_identity, 1..2, ("a".."z"), /a.b/mi, /é/,
       3/4r, Complex(1, 2), Time.at(1, 5, :nsec), String, Kernel, Pair.new(1, 2), Keyword.new(left: 3), Text.new("sub"),
       Text.new("sub" * 5000), List.new([1]), plain, [plain, plain], "ext".dup.extend(Mixed), Dumped.new("data"),
       Loaded.new.tap { |object| object.data = "data" }, Object.new, RangeError.new("message"), loop_array]
    end
  end

  def same?(one, other)
    Marshal.dump(one) == Marshal.dump(other)
  end

  let!(:memory) { ProcessShared::SharedMemory.new(1 << 20) }

  it "are written as Marshal writes them, and read back" do
    ObjectsSpec.all.each do |object|
      dumped = Marshal.dump(object)
      memory.clear
      expect(memory.write_object(object)).to eq(dumped.bytesize)
      expect(memory.get_bytes(0, dumped.bytesize + 1)).to eq("#{dumped}\0".b), object.inspect
      expect(same?(memory.read_object, Marshal.load(dumped))).to be(true), object.inspect
      expect(memory.put_object(777, object)).to eq(dumped.bytesize)
      expect(same?(memory.get_object(777), Marshal.load(dumped))).to be(true), object.inspect
    end
  end

  it "fit exactly or not at all" do
    [["a", "b"], "x" * 5000, ("y" * 5000).b, 1].each do |object|
      length = Marshal.dump(object).bytesize
      exact = ProcessShared::SharedMemory.new(length)
      expect(exact.write_object(object)).to eq(length)
      expect(exact.read_object).to eq(object)
      small = ProcessShared::SharedMemory.new(length - 1)
      small.put_bytes(0, "\xAA".b * (length - 1))
      expect { small.write_object(object) }
        .to raise_error(IndexError, "Memory access offset=0 size=#{length} is out of bounds: " \
                                    "the object takes #{length} bytes, and there are #{length - 1}")
      expect(small.get_bytes(0, length - 1)).to eq("\xAA".b * (length - 1))
    end
    expect { memory.put_object(-1, 1) }.to raise_error(IndexError)
    expect { memory.put_object(1 << 20, 1) }.to raise_error(IndexError)
    expect { memory.put_object(nil, 1) }.to raise_error(TypeError)
    expect { memory.put_object("0", 1) }.to raise_error(TypeError)
  end

  it "are written by nobody when they cannot be dumped" do
    [proc {}, $stdout, Class.new.new, Object.new.tap { |object| object.singleton_class.define_method(:x) {} },
     Hash.new { 1 }, Thread::Mutex.new].each do |object|
      expect { memory.write_object(object) }.to raise_error(TypeError)
    end
    expect { memory.write_object(ObjectsSpec::Failing.new) }.to raise_error(KeyError, "mine")
    expect(memory.get_bytes(0, 100)).to eq("\0" * 100)
  end

  it "raise TypeError where there are none, as Marshal.load does" do
    memory.put_object(2, "string")
    expect { memory.read_object }.to raise_error(TypeError, "no object at offset 0: nothing has been written there")
    expect { memory.get_object(0) }.to raise_error(TypeError, "no object at offset 0: nothing has been written there")
    expect { memory.get_object(500) }.to raise_error(TypeError, /offset 500: nothing/)
    memory.put_bytes(0, "no")
    expect { memory.read_object }.to raise_error(TypeError, /incompatible marshal file format \(can't be read\)/)
    expect(memory.get_object(2)).to eq("string")
    expect { memory.get_object(1 << 20) }.to raise_error(ArgumentError, "marshal data too short")
    [(1 << 20) + 1, -1].each do |offset|
      message = /\AMemory access offset=#{offset} size=1 is out of bounds: the size of the memory is #{1 << 20}\z/
      expect { memory.get_object(offset) }.to raise_error(IndexError, message)
    end
    expect { memory.get_object(nil) }.to raise_error(TypeError)
  end

  it "that are cut off raise ArgumentError, at every place" do
    ObjectsSpec.all.each do |object|
      dumped = Marshal.dump(object)
      (0...[dumped.bytesize, 60].min).each do |length|
        cut = memory.slice((1 << 20) - length, length)
        cut.put_bytes(0, dumped, 0, length)
        expect { cut.read_object }.to raise_error(StandardError) { |error|
          expected = begin
            Marshal.load(dumped[0, length])
          rescue StandardError => theirs
            theirs
          end
          expect([error.class, error.message]).to eq([expected.class, expected.message])
        }
      end
    end
  end

  it "are read, whatever the bytes, as Marshal.load reads them" do
    random = Random.new(ENV.fetch("MODEL_SEED", 7).to_i)
    outcome = lambda do |&read|
      Marshal.dump(read.call)
    rescue Exception => error # rubocop:disable Lint/RescueException -- NoMemoryError and the like count too
      [error.class, error.message.gsub(/0x\h+/, "0x")]
    end
    harmless = ObjectsSpec.all.reject { |object| object.is_a?(Array) && object.include?(object) }
    1500.times do
      dumped = Marshal.dump(harmless.sample(random: random))
      next if dumped.bytesize > 1000

      random.rand(1..3).times { dumped.setbyte(random.rand(2...[dumped.bytesize, 3].max), random.rand(256)) }
      place = memory.slice((1 << 20) - dumped.bytesize, dumped.bytesize)
      place.put_bytes(0, dumped)
      mine = outcome.call { place.read_object }
      expect(mine).to eq(outcome.call { Marshal.load(dumped) }), dumped.inspect
    end
  end

  it "leave nothing behind that points into the memory" do
    memory.write_object(["one" * 100, :two, /three/, ObjectsSpec::Dumped.new("four" * 100)])
    object = memory.read_object
    memory.clear
    memory.close
    expect(object[0]).to eq("one" * 100)
    expect(object[3].data).to eq("four" * 100)
    require "objspace"
    GC.start
    expect(ObjectSpace.dump_all(output: :string).size).to be > 0
  end

  it "can be read by code that goes away and never comes back" do
    stub_const("ObjectsSpec::Yielding", Class.new do
      def marshal_dump = 1
      def marshal_load(_) = Fiber.yield(:gone)
    end)
    50.times do
      other = ProcessShared::SharedMemory.new(1 << 16)
      other.write_object([ObjectsSpec::Yielding.new, "rest"])
      expect(Fiber.new { other.read_object }.resume).to eq(:gone)
      other.close
    end
    GC.start
    expect(memory.write_object(1)).to eq(4)
  end

  it "can be read by code that comes back a second time" do
    output = ruby(<<~RUBY, options: ["-W0", "-rcontinuation"])
      class Returning
        def marshal_dump = 1
        def marshal_load(_) = callcc { |continuation| $continuation ||= continuation }
      end

      class Closing
        def marshal_dump = 1
        def marshal_load(_) = $memory.close
      end

      $memory = ProcessShared::SharedMemory.new(1 << 16)
      $memory.write_object(Returning.new)
      $returns = 0
      begin
        $memory.read_object
      rescue RuntimeError # Marshal does not let itself be entered again
        nil
      end
      $returns += 1
      $continuation.call if $returns == 1
      $memory.write_object([Closing.new, "rest" * 1000])
      print $returns, $memory.read_object.last.size
    RUBY
    expect(output).to eq("24000")
  end

  it "are read in place: only the pages they lie on are touched", if: File.exist?("/proc/self/smaps") do
    large = ProcessShared::SharedMemory.new(1 << 30)
    large.put_object(1 << 29, { a: 1 })
    resident = -> { File.stat("/proc/self/fd/#{large.fd}").blocks * 512 }
    before = resident.call
    expect(large.get_object(1 << 29)).to eq({ a: 1 })
    expect(resident.call).to eq(before)
    expect(before).to be <= 1 << 16
  end

  it "cross a fork" do
    in_child { memory.put_object(100, ObjectsSpec::Pair.new([1], "two")) }
    expect(memory.get_object(100)).to eq(ObjectsSpec::Pair.new([1], "two"))
  end

  it "may change under the reader" do
    memory.write_object((0...2000).map { |i| [i, i.to_s, i.to_f] })
    pid = fork do
      random = Random.new(1)
      loop { memory.put_uint8(2 + random.rand(40_000), random.rand(256)) }
    end
    200.times do
      memory.read_object
    rescue StandardError, NoMemoryError
      nil
    end
  ensure
    Process.kill(:KILL, pid)
    Process.wait(pid)
  end

  describe ProcessShared::ObjectBuffer do
    it "is part of SharedMemory" do
      expect(ProcessShared::SharedMemory).to include(described_class)
    end

    it "gives the same methods to any memory" do
      buffer = Class.new do
        include ProcessShared::ObjectBuffer

        def initialize(mem) = @mem = mem
        def size = @mem.size
        def get_bytes(...) = @mem.get_bytes(...)
        def put_bytes(...) = @mem.put_bytes(...)
        def get_uint8(...) = @mem.get_uint8(...)
      end.new(memory)
      ObjectsSpec.all.each do |object|
        length = Marshal.dump(object).bytesize
        expect(buffer.put_object(5, object)).to eq(length)
        expect(same?(buffer.get_object(5), memory.get_object(5))).to be(true), object.inspect
      end
      expect(buffer.write_object([1])).to eq(6)
      expect(buffer.read_object).to eq([1])
      expect { buffer.put_object((1 << 20) - 2, [1]) }.to raise_error(IndexError, /the object takes 6 bytes, and there are 2\z/)
      expect { buffer.get_object(500_000) }.to raise_error(TypeError, "no object at offset 500000: nothing has been written there")
      expect { buffer.get_object(7) }.to raise_error(TypeError, /incompatible marshal file format/)
    end
  end
end
