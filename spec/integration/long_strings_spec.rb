# frozen_string_literal: true

# Strings that the extension holds while Ruby runs, longer than any that Ruby keeps inside the object (640 bytes): when such
# a String is collected too early, its bytes are freed, and what is written into shared memory is no longer what it said.
RSpec.describe "Strings too long to be embedded, with the collector at work at every allocation" do
  shared = ProcessShared::SharedMemory
  length = 1500

  # An object that makes a new String whenever it is asked.
  def fresh(name, length, byte)
    Object.new.tap { |object| object.define_singleton_method(name) { |*| byte * length } }
  end

  def stressed
    Stress.lifted do
      GC.stress = 1 # young objects only: a hundred times faster
      yield
    ensure
      GC.stress = false
    end
  end

  let(:memory) { shared.new(1 << 16) }
  let(:io) { ProcessShared::SharedMemoryIO.new(memory) }
  let(:texts) { %w[p q r].map { |byte| fresh(:to_s, length, byte) } }
  let(:joined) { %w[p q r].map { |byte| byte * length }.join }

  it "are written whole by SharedMemoryIO#write, several at once" do
    5.times do
      io.rewind
      stressed { io.write("a", *texts) }
      expect(memory.get_bytes(0, 1 + 3 * length)).to eq "a#{joined}"
    end
  end

  it "are written whole by SharedMemoryIO's other writers" do
    stressed { io.write(texts[0]) && io.print(texts[1]) }
    stressed { io << texts[2] }
    expect(memory.get_bytes(0, 3 * length)).to eq joined
    stressed { io.pwrite(texts[0], 9) && io.seek(9 + length) && io.puts(texts[1]) || io.printf("%s", texts[2]) }
    expect(memory.get_bytes(9, 3 * length + 1)).to eq "#{"p" * length}#{"q" * length}\n#{"r" * length}"
  end

  it "are written whole through a memory that is none of ours" do
    strange = Object.new
    written = +""
    strange.define_singleton_method(:size) { 1 << 16 }
    strange.define_singleton_method(:get_bytes) { |_offset, count| "x" * count }
    strange.define_singleton_method(:put_bytes) { |_offset, text, *| written << text }
    other = ProcessShared::SharedMemoryIO.new(strange)
    stressed { other.write("a", *texts) && other.write(texts[0]) }
    expect(written).to eq "a#{joined}#{"p" * length}"
    expect(stressed { other.read(length) }).to eq "x" * length
    stressed { memory.__copy_from__(strange, length) }
    expect(memory.get_bytes(0, length + 1)).to eq "#{"x" * length}\0"
  end

  it "are written whole where an argument that is converted collects" do
    five = converting(:to_int) { GC.start || 5 }
    stressed { memory.put_bytes(five, "p" * length, five, five) }
    expect(memory.get_bytes(0, 11)).to eq "#{"\0" * 5}ppppp\0"
    stressed { memory.put_string(five, "q" * length) && memory.write_string_length("r" * length, five) }
    expect(memory.get_string(0)).to eq "rrrrr#{"q" * length}"
    expect(stressed { shared.from_string("s" * length) }.get_string(0)).to eq "s" * length
  end

  # A class whose objects Marshal asks for a String of so many bytes.
  def dumping
    stub_const("LongStringsSpec", Class.new do
      def marshal_dump = "d" * 1500
      def marshal_load(text) = @text = text
      attr_reader :text

      def ==(other) = other.is_a?(self.class)
    end)
  end

  it "are written whole by Marshal, and read" do
    object = dumping.new
    object.marshal_load(["e" * length, :e] => 1)
    expect(stressed { memory.write_object([object, "f" * length]) }).to be > 2 * length
    read = stressed { memory.read_object }
    expect([read[0].text, read[1]]).to eq ["d" * 1500, "f" * length]
  end

  it "come whole out of a Queue and a Map, as items, keys and values" do
    object = dumping
    items = -> { ["q" * length, :"s#{"y" * length}", ["r" * length, :e], object.new] }
    queue = ProcessShared::Queue.new
    stressed { queue.concat(items.call) && items.call.each { |item| queue.push(item) } }
    popped = stressed { Array.new(4) { queue.pop } + queue.pop_all }
    expect(popped).to eq items.call * 2
    expect(popped.grep(object).map(&:text)).to eq ["d" * 1500] * 2

    map = ProcessShared::Map.new(1 << 20)
    stressed { items.call.each { |item| map[item] = ["v" * length, item] } }
    stressed { items.call.each { |item| map.replace_pair(item, ["v" * length, item], "w" * length) } }
    found = stressed { items.call.map { |item| map[item] } }
    expect(found).to eq ["w" * length] * 4
    expect(stressed { map.keys }).to match_array items.call
  end

  # A collection takes the longer, the more specs ran before.
  it "hold the numbers and addresses that an Array is converted to", limit: 120 do
    numbers = Array.new(100) { |index| converting(:to_int) { ("x" * length).size + index } }
    stressed { memory.put_array_of_int64(0, numbers) }
    expect(memory.get_array_of_int64(0, 100)).to eq Array.new(100) { |index| length + index }
    views = memory
    pointers = Array.new(100) { |index| converting(:to_ptr) { views + index } }
    stressed { memory.put_array_of_pointer(0, pointers) }
    expect(memory.get_array_of_uint64(0, 100)).to eq Array.new(100) { |index| memory.address + index }
  end

  it "name a type in an error" do
    type = Object.new
    type.define_singleton_method(:inspect) { "t" * 1500 }
    type.define_singleton_method(:to_s) { "u" * 1500 }
    expect { stressed { shared.new(type) } }.to raise_error(TypeError, /'t{1500}'/)
    expect { stressed { memory.get(type, 0) } }.to raise_error(ArgumentError, /'u{1500}'/)
  end
end
