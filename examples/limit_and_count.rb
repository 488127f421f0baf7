# frozen_string_literal: true

# Four workers share the work. At most two of them do the expensive part at one time, and all count into one place.
# Uses the parallel gem where it is installed, else plain forked processes.
#
# A worker that is killed while it waits for the Semaphore costs nothing. One that is killed inside `synchronize` takes
# its permit with it: the limit is one less from then on, unless the Semaphore is made with `robust: true`.

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
done  = ProcessShared::SharedArray.new(:int, 1)
busy  = ProcessShared::SharedArray.new(:int, 2) # now, and the most ever: only to show that the limit holds

Parallel.each(1..12, in_processes: 4) do |_page|
  limit.synchronize do # at most two are here at a time
    lock.synchronize { busy[1] = [busy[1], busy[0] += 1].max }
    sleep 0.02
    lock.synchronize { busy[0] -= 1 }
  end
  lock.synchronize { done[0] += 1 }
end

puts "#{done[0]} pages done, at most #{busy[1]} at a time"
abort "expected 12 pages, 2 at a time" unless [done[0], *busy] == [12, 0, 2]
