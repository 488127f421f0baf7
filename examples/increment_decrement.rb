# frozen_string_literal: true

# Two processes share one counter. One adds, the other subtracts, each step under the Mutex, so none is lost.

require "process_shared"

mutex = ProcessShared::Mutex.new
mem = ProcessShared::SharedMemory.new(:int)

[1, -1].each do |step|
  fork do
    10.times do
      mutex.synchronize do
        value = mem.get_int(0)
        sleep 0.01 # without the Mutex the other process would change the counter here
        mem.put_int(0, value + step)
        puts "process #{Process.pid}: #{value} -> #{value + step}"
      end
    end
  end
end
Process.waitall

puts "value should be zero: #{mem.get_int(0)}"
abort "a step was lost" unless mem.get_int(0).zero?
