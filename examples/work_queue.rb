# frozen_string_literal: true

# A bounded queue between processes: producers wait for room, workers wait for jobs. No job is lost, whoever is killed: a
# job is in flight while it is worked on, and when its worker is killed, the next worker gets it. So a job may be begun
# twice; one that three workers did not survive is poison, and is set aside.

require "process_shared"

class WorkQueue
  DELIVERIES = 3 # as often a job is tried

  # The jobs that were set aside.
  attr_reader :aside

  def initialize(places:)
    @jobs = ProcessShared::SizedQueue.new(places)
    @aside = ProcessShared::Queue.new
  end

  def push(job)
    @jobs.push(job)
    self
  end

  # Yields the oldest job that nobody works on. It is done once the block has returned.
  def pop
    @jobs.pop do |job, deliveries|
      next @aside.push(job) if deliveries > DELIVERIES

      yield job
    end
  end
end

return unless $PROGRAM_NAME == __FILE__

jobs = WorkQueue.new(places: 4)
results = ProcessShared::Queue.new

work = lambda do
  loop do
    jobs.pop do |job|
      Process.kill(:KILL, Process.pid) if job == :poison
      results.push([job, job * job])
    end
  end
end
workers = Array.new(3) { fork(&work) }
producer = fork { [*1..50, :poison, *51..100].each { |job| jobs.push(job) } }

squares = {}
killed = 0
until squares.size == 100 && !jobs.aside.empty?
  result = results.pop(timeout: 0.01)
  squares.store(*result) if result
  workers.reject! { |pid| Process.wait(pid, Process::WNOHANG) && killed += 1 }
  workers << fork(&work) while workers.size < 3
end
[*workers, producer].each { |pid| Process.kill(:KILL, pid) && Process.wait(pid) }

puts "100 jobs through 4 places, and #{killed} workers died of #{jobs.aside.pop.inspect}, which is set aside"
puts "sum of the squares: #{squares.values.sum}"
abort "a job was lost" unless squares.values.sum == (1..100).sum { |n| n * n }
