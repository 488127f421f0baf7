# frozen_string_literal: true

# A map over several processes that goes on when a worker is killed, by the out-of-memory killer for example: its item goes
# to the next worker, and another worker takes its place. An item that killed three workers has no value but `otherwise`.

require "process_shared"

module ParallelMap
  def self.map(items, processes: 4, tries: 3, otherwise: nil)
    jobs, results = ProcessShared::Queue.new, ProcessShared::Queue.new
    work = lambda do |(item, index), deliveries|
      results.push([index, deliveries > tries ? otherwise : yield(item)])
    end
    worker = -> { nil while jobs.pop(&work) }
    workers = Array.new(processes) { Thread.new { nil until Process.wait2(fork(&worker)).last.success? } }
    Thread.new { jobs.concat(items.each_with_index.to_a).close }
    found = {} # by the index, because a worker may die between its result and the end of its job
    found.store(*results.pop) until found.size == items.size
    workers.each(&:join)
    found.values_at(*items.each_index)
  end
end

return unless $PROGRAM_NAME == __FILE__

killed = ProcessShared::AtomicFixnum.new
squares = ParallelMap.map((1..100).to_a, otherwise: :killed) do |number|
  if (number % 25).zero? && killed.increment <= 2 || number == 66
    Process.kill(:KILL, Process.pid) # as the out-of-memory killer does
  end
  number * number
end
puts "99 squares, whose sum is #{squares.grep(Integer).sum}; number 66 killed its workers: #{squares[65].inspect}"
abort "a result is missing" unless squares.grep(Integer).sum == (1..100).sum { |n| n * n } - 66 * 66
