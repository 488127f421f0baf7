# frozen_string_literal: true

# Four workers share the work. At most two of them do the expensive part at one time, and all count into one
# place. Uses the parallel gem where it is installed, else plain forked processes.

require "process_shared"

begin
  require "parallel"
rescue LoadError
  module Parallel
    def self.each(items, in_processes:, &work)
      share = (items.to_a.size / in_processes.to_f).ceil
      pids = items.each_slice(share).map { |slice| fork { slice.each(&work) } }
      abort "a worker failed" unless pids.map { |pid| Process.wait2(pid).last }.all?(&:success?)
    end
  end
end

limit = ProcessShared::Semaphore.new(2)
lock  = ProcessShared::Mutex.new
count = ProcessShared::SharedArray.new(:int, 3) # busy now, most ever busy, pages done

Parallel.each(1..12, in_processes: 4) do |_page|
  limit.synchronize do
    lock.synchronize do
      count[0] += 1
      count[1] = [count[1], count[0]].max
    end
    sleep 0.02 # the expensive part
    lock.synchronize do
      count[0] -= 1
      count[2] += 1
    end
  end
end

busy, most, done = count.to_a
puts "#{done} pages done, at most #{most} at a time, #{busy} still busy"
abort "expected 12 pages, 2 at a time" unless [busy, most, done] == [0, 2, 12]
