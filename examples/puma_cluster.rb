# frozen_string_literal: true

# What the workers of a Puma cluster can share when it is made before they are forked (in config/puma.rb, or with
# preload_app! in an initializer): a rate limit for all of them together, and a job that runs in one of them. Here plain
# forked processes stand for the workers.

require "process_shared"

# Runs the block again and again in one of the processes that call this. When that process is gone, however it went,
# another one takes over at once. A job that raises is reported, and runs again in its turn.
class Leader
  def initialize(every:)
    @every = every
    @lock = ProcessShared::Mutex.new
  end

  def start(&job)
    Thread.new do
      @lock.synchronize do # held for as long as this process lives
        loop do
          run(&job)
          sleep @every
        end
      end
    end
  end

  def pid = @lock.owner_pid

  private

  def run
    yield
  rescue StandardError, ScriptError => error
    warn error.full_message
  end
end

return unless $PROGRAM_NAME == __FILE__

limit = ProcessShared::RateLimiter.new(1, burst: 5)
leader = Leader.new(every: 0.01)
runs = ProcessShared::SharedArray.new(:int, 4)
served = ProcessShared::SharedArray.new(:int, 4)

workers = Array.new(4) do |index|
  fork do
    $stderr = File.open(File::NULL, "w") # the job below raises every other time
    leader.start do # in Puma: before_worker_boot { leader.start { SendNewsletter.call } }
      runs[index] += 1
      raise "the job failed" if runs[index].odd?
    end
    10.times { served[index] += 1 if limit.try_acquire }
    sleep # as a worker does until it is told to stop
  end
end

living = workers.dup
2.times do
  pid = nil
  sleep 0.01 until living.include?(pid = leader.pid) && runs[workers.index(pid)] > 2
  puts "the job runs in worker #{workers.index(pid)}, which is killed now"
  Process.kill(:KILL, living.delete(pid)) # one of our children: no other process has this number
  Process.wait(pid)
end
sleep 0.01 until living.include?(leader.pid)
puts "now it runs in worker #{workers.index(leader.pid)}"

living.each { |pid| Process.kill(:TERM, pid) && Process.wait(pid) }
puts "#{served.sum} of up to 40 requests were served, the limit is 5 at once and 1 a second"
abort "the limit did not hold" unless served.sum.between?(5, 6)
