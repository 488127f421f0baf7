# frozen_string_literal: true

# A child process writes an object into shared memory, its parent reads it. Waiting for the child to end is
# what orders the two here; while both run, hold a Mutex around each.

require "process_shared"

mem = ProcessShared::SharedMemory.new(1024)
Process.wait(fork { mem.write_object(["a", "b"]) })
p mem.read_object # => ["a", "b"]
