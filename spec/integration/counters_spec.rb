# frozen_string_literal: true

# Two processes that increment one counter a million times each lose nothing, whatever guards it.
RSpec.describe "Two million increments by two processes" do
  {
    "Mutex" => -> { ProcessShared::Mutex.new },
    "Monitor" => -> { ProcessShared::Monitor.new },
    "Semaphore#to_mtx" => -> { ProcessShared::Semaphore.new.to_mtx },
    "BinarySemaphore" => -> { ProcessShared::BinarySemaphore.new }
  }.each do |name, make|
    it "under a #{name} make two million", limit: 100 do
      guard = make.call
      memory = ProcessShared::SharedMemory.new(:int64)
      children = Array.new(2) do
        fork_child do
          1_000_000.times { guard.synchronize { memory.write_int64(memory.read_int64 + 1) } }
        end
      end
      children.each { |child| child.value(within: 90) }
      expect(memory.read_int64).to be 2_000_000
    end
  end
end
