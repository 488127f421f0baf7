# frozen_string_literal: true

# A child process writes an object into shared memory, its parent reads it. Waiting for the child to end is
# what orders the two here; while both run, hold a Mutex around each.

require "process_shared"

$stdout.sync = true
mem = ProcessShared::SharedMemory.new(1024)

child = fork do
  bytes = mem.write_object(%w[a b])
  puts "process #{Process.pid} wrote an object of #{bytes} bytes"
end
Process.wait(child)

object = mem.read_object
puts "process #{Process.pid} read #{object.inspect}"
abort "not the object that was written" unless object == %w[a b]
