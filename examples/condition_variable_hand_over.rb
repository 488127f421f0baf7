# frozen_string_literal: true

# One process waits for two numbers, another sends them. The receiver waits for the numbers to be there, not
# only for a signal, so it does not matter which of the two runs first.

require "process_shared"

$stdout.sync = true
mutex = ProcessShared::Mutex.new
cond = ProcessShared::ConditionVariable.new
mem = ProcessShared::SharedMemory.new(:int32, 2)

receiver = fork do
  nums = mutex.synchronize do
    cond.wait(mutex) while mem.get_int32(0).zero?
    mem.get_array_of_int32(0, 2)
  end
  puts "process #{Process.pid} received #{nums}"
  exit nums == [12_345, 67_890]
end

sender = fork do
  nums = [12_345, 67_890]
  mutex.synchronize do
    puts "process #{Process.pid} sending #{nums}"
    mem.put_array_of_int32(0, nums)
    cond.signal
  end
end

statuses = [receiver, sender].map { |pid| Process.wait2(pid).last }
abort "the numbers did not arrive" unless statuses.all?(&:success?)
