# frozen_string_literal: true

# Results that every process reads, and one computes: the others that want the same one wait for it. The cache has a fixed
# size; when it is full it drops what has expired, and then what is least worth keeping. A process that is killed while it
# computes a result leaves that to the next, and one that is killed while it stores one spoils nothing.

require "process_shared"

cache = ProcessShared::Cache.new(64 << 10)
computed = ProcessShared::AtomicFixnum.new

answer = lambda do
  cache.fetch(:answer, expires_in: 60) do
    computed.increment
    sleep 0.02 # as long as the others wait
    42
  end
end

workers = Array.new(4) { fork { exit!(answer.call == 42 ? 0 : 1) } }
abort "a worker got something else" unless workers.map { |pid| Process.wait2(pid).last }.all?(&:success?)
puts "4 workers have the answer, computed #{computed.value} time"
abort "computed again" unless computed.value == 1

Process.wait(fork { cache.fetch(:other) { Process.kill(:KILL, Process.pid) } })
puts "after a process was killed in it: #{cache.fetch(:other) { 7 }}, and the answer is still #{answer.call}"
abort "lost" unless computed.value == 1 && cache[:other] == 7

2000.times { |page| cache.fetch(page) { "x" * 100 } }
puts "2000 pages later #{cache.size} entries are left"
abort "it did not make room" unless cache.stats[:evictions].positive? && cache[1999] == "x" * 100
