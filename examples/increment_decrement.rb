# frozen_string_literal: true

# Two processes share one counter. One adds, the other subtracts, each step under the Mutex, so none is lost.

require "process_shared"

$stdout.sync = true
mutex = ProcessShared::Mutex.new
counter = ProcessShared::SharedMemory.new(:int)

steps = { "incrementing" => 1, "decrementing" => -1 }
children = steps.map do |name, step|
  fork do
    10.times do
      mutex.synchronize do
        value = counter.get_int(0)
        sleep 0.01 # without the Mutex the other process would change the counter here
        counter.put_int(0, value + step)
        puts "process #{Process.pid} #{name}: #{value} -> #{value + step}"
      end
    end
  end
end
children.each { |pid| Process.wait(pid) }

puts "value should be zero: #{counter.get_int(0)}"
abort "a step was lost" unless counter.get_int(0).zero?
