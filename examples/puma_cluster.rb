# frozen_string_literal: true

# What the workers of a Puma cluster can share when it is made before they are forked (with preload_app!, at
# the top of config/puma.rb or in an initializer): a rate limit for all of them together, and a job that runs
# in exactly one of them. Here plain forked processes stand for the workers.

require "process_shared"

# Allows `rate` events a second on average, and `burst` at once, over all processes.
class RateLimit
  def initialize(rate:, burst:)
    @rate = rate
    @burst = burst
    @lock = ProcessShared::Mutex.new
    @state = ProcessShared::SharedMemory.new(:double, 2) # tokens left, and when they were counted
    @state.write_array_of_double([burst, now])
  end

  def allow?
    @lock.synchronize do
      tokens, counted = @state.read_array_of_double(2)
      time = now
      tokens = [tokens + (time - counted) * @rate, @burst].min
      allowed = tokens >= 1
      @state.write_array_of_double([allowed ? tokens - 1 : tokens, time])
      allowed
    end
  end

  private

  def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)
end

LIMIT = RateLimit.new(rate: 1, burst: 5)
LEADER = ProcessShared::Mutex.new
RUNS = ProcessShared::Semaphore.new(0)    # posted for each run of the job, for this demonstration
SERVED = ProcessShared::SharedArray.new(:int, 4)

# Puma: on_worker_boot { Thread.new { ... } }. Who has the lock runs the job; when that worker is gone, however
# it went, the next one has the lock and goes on.
def run_job_in_one_worker
  Thread.new do
    LEADER.synchronize do
      loop do
        RUNS.post
        sleep 0.01
      end
    end
  end
end

workers = Array.new(4) do |index|
  fork do
    run_job_in_one_worker
    10.times { SERVED[index] += 1 if LIMIT.allow? }
    sleep # as a worker does until it is told to stop
  end
end

RUNS.try_wait(5)
first = LEADER.owner_pid
Process.kill(:KILL, first)
Process.wait(first)
puts "the job ran in worker #{workers.index(first)}, which was killed"

RUNS.try_wait(5) while LEADER.owner_pid.nil?
second = LEADER.owner_pid
puts "now it runs in worker #{workers.index(second)}"
abort "nobody else took the job over" if second == first || !workers.include?(second)

sleep 0.1
(workers - [first]).each { |pid| Process.kill(:TERM, pid) && Process.wait(pid) }
puts "#{SERVED.sum} of 40 requests were served at once, the limit is 5"
abort "the limit did not hold" unless SERVED.sum.between?(1, 6)
