# frozen_string_literal: true

# One process waits for two numbers, another sends them. The receiver waits for the numbers to be there, not only for
# a signal, so it does not matter which of the two runs first. It looks again every second, also without a signal: the
# sender may be killed after it has stored the numbers and before it signals.

require "process_shared"

mutex = ProcessShared::Mutex.new
cond = ProcessShared::ConditionVariable.new
mem = ProcessShared::SharedMemory.new(:int32, 3) # two numbers, and 1 once they are there

receiver = fork do
  numbers = mutex.synchronize do
    cond.wait(mutex, 1) while mem.get_int32(8).zero?
    mem.get_array_of_int32(0, 2)
  end
  puts "process #{Process.pid} received #{numbers}"
  exit numbers == [12_345, 67_890]
end

while mem.get_int32(8).zero? # a sender that was killed before it stored them is followed by another one
  sender = fork do
    mutex.synchronize do
      mem.put_array_of_int32(0, [12_345, 67_890])
      mem.put_int32(8, 1)
      cond.signal
    end
  end
  Process.wait(sender)
end

Process.wait(receiver)
abort "the numbers did not arrive" unless $?.success?
