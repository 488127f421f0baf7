# frozen_string_literal: true

# A bounded queue between processes: producers wait for free places, workers wait for jobs. No job is lost, whoever is
# killed: a job stays in its place, locked, while it is worked on, and is taken out when the work is done. When a worker
# is killed its lock is free again, and the next worker gets the job; so a job may be begun twice.

require "process_shared"

class WorkQueue
  POLL = 1 # seconds until those who wait look again: a process may be killed before it wakes them

  def initialize(places:, place_size: 256)
    memory = ProcessShared::SharedMemory.new(places * place_size)
    @places = Array.new(places) { |place| memory.slice(place * place_size, place_size) }
    @numbers = ProcessShared::SharedArray.new(:int64, places) # which job is in a place: the first, the second ...; 0 if none
    @hands = Array.new(places) { ProcessShared::Mutex.new }   # held by whoever works on the job
    @lock = ProcessShared::Mutex.new                          # guards the numbers
    @filled = ProcessShared::ConditionVariable.new
    @freed = ProcessShared::ConditionVariable.new
  end

  def push(job)
    @lock.synchronize do
      @freed.wait(@lock, POLL) until (place = @numbers.find_index(0))
      @places[place].write_object(job)
      @numbers[place] = @numbers.max + 1 # from here on it is in the queue
      @filled.signal
    end
    self
  end

  # Yields the oldest job that nobody works on, and takes it out of the queue once the block has returned.
  def pop
    place = @lock.synchronize do
      @filled.wait(@lock, POLL) until (place = take)
      place
    end
    result = yield @places[place].read_object
    done = true
    result
  ensure
    give_back(place, done) if place
  end

  private

  def take
    filled = @numbers.each_with_index.reject { |number, _| number.zero? }
    filled.sort.map(&:last).find { |place| @hands[place].try_lock }
  end

  def give_back(place, done)
    @lock.synchronize do
      @numbers[place] = 0 if done
      @hands[place].unlock
      (done ? @freed : @filled).signal
    end
  end
end

return unless $PROGRAM_NAME == __FILE__

jobs = WorkQueue.new(places: 4)
results = WorkQueue.new(places: 4)

work = lambda do
  loop do
    jobs.pop { |job| results.push([job, job * job, Process.pid]) }
  end
end
workers = Array.new(3) { fork(&work) }
producer = fork { 1.upto(100) { |job| jobs.push(job) } }

squares = {}
killed = 0
until squares.size == 100
  results.pop { |job, square, _worker| squares[job] = square }
  next unless squares.size / 10 > killed # now and then a worker is killed, and another one started

  Process.kill(:KILL, workers[0])
  Process.wait(workers.shift)
  workers << fork(&work)
  killed += 1
end
(workers << producer).each { |pid| Process.kill(:KILL, pid) && Process.wait(pid) }

puts "100 jobs through 4 places, and #{killed} workers were killed over it"
puts "sum of the squares: #{squares.values.sum}"
abort "a job was lost" unless squares.values.sum == (1..100).sum { |n| n * n }
