# frozen_string_literal: true

# The sender of a signal is killed at each of its lines. A waiter that looks at the data now and then goes on all the same.
RSpec.describe "A sender that is killed" do
  lines = ["before the lock", "with the lock", "with half of the data stored", "with the data stored", "before the signal",
           "after the signal", "after the unlock"]

  lines.each_with_index do |line, killed_at|
    it "#{line} leaves no waiter asleep that waits with a timeout" do
      mutex = ProcessShared::Mutex.new(on_abandoned: ->(_) { @repaired = true })
      condition = ProcessShared::ConditionVariable.new
      memory = ProcessShared::SharedMemory.new(:int, 3) # two numbers, and whether they are there
      send_numbers = lambda do |die|
        die.call(0)
        mutex.lock
        die.call(1)
        memory.put_int(0, 1)
        die.call(2)
        memory.put_int(4, 2)
        memory.put_int(8, 1)
        die.call(3)
        mutex.unlock
        die.call(4)
        condition.signal
        die.call(5)
        die.call(6)
      end
      waiter = fork_child do
        mutex.synchronize { condition.wait(mutex, 0.02) until memory.get_int(8) == 1 }
        memory.get_array_of_int(0, 2)
      end
      wait_until { condition.waiters == 1 }
      dying = fork_child { send_numbers.call(->(at) { Process.kill(:KILL, Process.pid) if at == killed_at }) }
      dying.wait
      in_child { send_numbers.call(->(_) {}) } if killed_at < 3 # somebody else sends, as after a crash
      expect(waiter.value).to eq [1, 2]
    end
  end
end
