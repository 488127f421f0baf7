# frozen_string_literal: true

# A bounded queue between processes: a producer that is too fast waits for free places, workers wait for work.
# Every place in the ring holds one object, written with Marshal.

require "process_shared"

class WorkQueue
  HEADER = 16 # the index of the next place to read, and of the next to write

  def initialize(places:, place_size: 256)
    @places = places
    @place_size = place_size
    @memory = ProcessShared::SharedMemory.new(HEADER + places * place_size)
    @free = ProcessShared::Semaphore.new(places)
    @filled = ProcessShared::Semaphore.new(0)
    @lock = ProcessShared::Mutex.new
  end

  def push(object)
    @free.wait
    @lock.synchronize { @memory.put_object(advance(8), object) }
    @filled.post
    self
  end

  def pop
    @filled.wait
    object = @lock.synchronize { @memory.get_object(advance(0)) }
    @free.post
    object
  end

  private

  # Moves the index kept at `at` on, and returns the offset of the place it stood at.
  def advance(at)
    index = @memory.get_int64(at)
    @memory.put_int64(at, (index + 1) % @places)
    HEADER + index * @place_size
  end
end

queue = WorkQueue.new(places: 4)
results = WorkQueue.new(places: 4)

workers = Array.new(3) do
  fork do
    while (job = queue.pop) != :stop
      results.push({ job: job, square: job * job, by: Process.pid })
    end
  end
end

producer = fork do
  1.upto(100) { |job| queue.push(job) }
  workers.size.times { queue.push(:stop) }
end

squares = Array.new(100) { results.pop }
[producer, *workers].each { |pid| Process.wait(pid) }

by = squares.group_by { |result| result[:by] }.transform_values(&:size)
puts "100 jobs through 4 places, done by #{by.map { |pid, jobs| "#{pid}: #{jobs}" }.join(", ")}"
sum = squares.sum { |result| result[:square] }
puts "sum of the squares: #{sum}"
abort "a job was lost or done twice" unless sum == (1..100).sum { |n| n * n }
