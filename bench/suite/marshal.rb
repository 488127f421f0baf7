# frozen_string_literal: true

# Objects in shared memory, and an IO over it.

require "stringio"

small = { name: "process_shared", ids: [1, 2, 3], ratio: 0.5 }
huge = Bench.quick? ? 64 << 20 : 1 << 30

def compare_with_marshal(label, object, size, rounds: nil)
  memory = ProcessShared::SharedMemory.new(size)
  memory.write_object(object)
  Bench.compare("SharedMemory", "write_object, #{label}", rounds: rounds) do |c|
    c.code("write_object", "x.write_object(y)", x: memory, y: object)
    c.code("Marshal.dump to a String", "Marshal.dump(y)", y: object, goal: 1.15)
  end
  Bench.compare("SharedMemory", "read_object, #{label}", rounds: rounds) do |c|
    c.code("read_object", "x.read_object", x: memory)
    c.code("Marshal.load of a String", "Marshal.load(x)", x: Marshal.dump(object), goal: 1.1)
  end
  memory.close
end

compare_with_marshal("small", small, 4096)
compare_with_marshal("small, in a 1 GB region", small, huge)
compare_with_marshal(
  "10 MB", Array.new(Bench.quick? ? 1000 : 100_000) { |index| "string number #{index} ".ljust(92, "x") }, 16 << 20, rounds: 11
)

size = 1 << 20
io = ProcessShared::SharedMemoryIO.new(ProcessShared::SharedMemory.new(size))
string_io = StringIO.new("\0" * size)
{
  "write" => "x.rewind; 256.times { x.write(y) }",
  "read" => "x.rewind; 256.times { x.read(4096) }"
}.each do |work, code|
  Bench.compare("SharedMemoryIO", "#{work}, 1 MB in pieces of 4 KB") do |c|
    c.code("SharedMemoryIO", code, x: io, y: "x" * 4096)
    c.code("StringIO", code, x: string_io, y: "x" * 4096, goal: 1.5)
  end
end

Bench.grow(
  "region", "A small object", "bytes of the region", [1 << 12, 1 << 16, 1 << 20, 1 << 24, 1 << 28, 1 << 30],
  "read_object" => lambda do |bytes|
    ProcessShared::SharedMemory.open(bytes) do |memory|
      memory.write_object(small)
      Bench::Comparison.time("x.read_object", memory)
    end
  end,
  "write_object" => lambda do |bytes|
    ProcessShared::SharedMemory.open(bytes) do |memory|
      Bench::Comparison.time("x.write_object(y)", memory, small)
    end
  end
)
