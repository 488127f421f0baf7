# frozen_string_literal: true

# Results come back through a second queue as they are ready, with the state of the work. A killed worker's job goes to the
# next worker, and another worker takes its place.

require "process_shared"

class Crew
  Progress = Struct.new(:done, :waiting, :working) do
    def to_s = "#{done} done, #{working.size} at work, #{waiting} to do"
  end

  # The block does a job, in one of the processes, and its value is the job's result.
  def initialize(processes, &work)
    @jobs, @results = ProcessShared::Queue.new, ProcessShared::Queue.new
    @processes, @work = processes, work
  end

  # Yields each result when it is ready, with the job and the Progress.
  def run(jobs)
    crew = Array.new(@processes) { Thread.new { nil until Process.wait2(fork { work }).last.success? } }
    Thread.new { @jobs.concat(jobs.each_with_index.to_a).close }
    done = {}
    until done.size == jobs.size
      number, result = @results.pop
      next if done[number] # by a worker that was killed between the result and the end of its job

      done[number] = true
      yield jobs[number], result, Progress.new(done.size, @jobs.size, @jobs.in_flight)
    end
    crew.each(&:join)
  end

  private

  def work
    nil while @jobs.pop { |(job, number), _deliveries| @results.push([number, @work.call(job)]) }
  end
end

return unless $PROGRAM_NAME == __FILE__

accident = ProcessShared::AtomicBoolean.new
crew = Crew.new(3) do |word|
  sleep 0.01
  Process.kill(:KILL, Process.pid) if word == "lambda" && accident.make_true # once
  word.upcase
end

words = %w[alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu]
results = []
crew.run(words) do |word, result, progress|
  results << result
  puts "#{word} is #{result}: #{progress}"
end
abort "a job was lost" unless results.sort == words.map(&:upcase).sort
