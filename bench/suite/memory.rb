# frozen_string_literal: true

# Accessors of SharedMemory and SharedArray.

SMALL = 64
LARGE = Bench.quick? ? 1 << 20 : 64 << 20
LONG = Bench.quick? ? 10_000 : 1_000_000

# Compares the same code on our memory and on the ffi gem's, or `theirs` where ffi says it otherwise. Both are written to
# first: pages that never were cost neither memory nor time to read.
def compare_with_ffi(work, size, code, goal:, theirs: code, y: nil, ours: nil, rounds: nil)
  Bench.compare("SharedMemory", work, rounds: rounds) do |c|
    memory = ours || ProcessShared::SharedMemory.new(size)
    content = "\1\0\2\0" * (size / 4)
    memory.put_bytes(0, content)
    c.code(memory.class.name.split("::").last, code, x: memory, y: y)
    if (rival = Bench::Rivals.ffi_memory(size))
      rival.put_bytes(0, content)
      c.code("FFI::MemoryPointer", theirs, x: rival, y: y, goal: goal)
    else
      c.leave_out("FFI::MemoryPointer", "the ffi gem is not installed")
    end
  end
end

compare_with_ffi("get_int32", SMALL, "x.get_int32(8)", goal: 1.0)
compare_with_ffi("put_int32", SMALL, "x.put_int32(8, 42)", goal: 1.0)
compare_with_ffi("get_double", SMALL, "x.get_double(8)", goal: 1.0)
compare_with_ffi("put_double", SMALL, "x.put_double(8, 4.2)", goal: 1.0)
integers = ProcessShared::SharedArray.new(:int32, 16)
compare_with_ffi("SharedArray#[], a number", SMALL, "x[3]", theirs: "x.get_int32(12)", goal: 1.0, ours: integers)
compare_with_ffi("SharedArray#[], a variable", SMALL, "x[y]", theirs: "x.get_int32(y * 4)", goal: 1.0, y: 3, ours: integers)

[1000, LONG].each do |length|
  label = Bench::Report.number(length)
  rounds = length > 1000 ? 7 : nil
  array = Array.new(length) { |index| index * 7 }
  compare_with_ffi("get_array_of_int32, #{label}", length * 4, "x.get_array_of_int32(0, #{length})", goal: 0.8, rounds: rounds)
  compare_with_ffi("put_array_of_int32, #{label}", length * 4, "x.put_array_of_int32(0, y)", goal: 0.8, y: array, rounds: rounds)
end

[["64 B", SMALL, nil], ["64 MB", LARGE, 3]].each do |label, size, rounds|
  bytes = "x" * size
  compare_with_ffi("get_bytes, #{label}", size, "x.get_bytes(0, #{size})", goal: 1.0, rounds: rounds)
  compare_with_ffi("put_bytes, #{label}", size, "x.put_bytes(0, y)", goal: 1.0, y: bytes, rounds: rounds)
end
