# frozen_string_literal: true

# Many processes and threads do mixed things with shared objects while some are killed and all are interrupted; after
# each round of a few seconds everything must add up. `ruby storm/storm.rb [SECONDS [SEED]]`, or `rake storm[SECONDS,SEED]`.
#
# The seed fixes what is tried, not how the threads are scheduled.
require "process_shared"
require "io/wait"

module Storm
  ROUND = 4 # seconds
end

scenes = %w[counters buffers chains churn strangers maps queues permits meetings].map { |name| "scenes/#{name}" }
["scene", *scenes, "worker", "board", "stall", "round"].each do |file|
  # Worker::THREADS is needed by scenes only when they run.
  require_relative file
end

$stdout.sync = true
seconds = Float(ARGV.fetch(0, 30))
seed = Integer(ARGV.fetch(1, rand(1 << 30)))
random = Random.new(seed)
totals = Hash.new(0)
finish = Process.clock_gettime(Process::CLOCK_MONOTONIC) + seconds
puts "storm of #{seconds.round} s, seed #{seed}"

begin
  while Process.clock_gettime(Process::CLOCK_MONOTONIC) < finish
    round = Storm::Round.new(random)
    round.run([Storm::ROUND, seconds].min)
    totals[:rounds] += 1
    %i[kills signals operations interrupts].each { |name| totals[name] += round.public_send(name) }
    round = nil
    GC.start
  end
rescue Storm::Broken => error
  abort "FAILED after #{totals.inspect} (seed #{seed}): #{error.message}"
end

maps = File.exist?("/proc/self/maps") ? File.readlines("/proc/self/maps").size : "unknown"
puts totals.map { |name, count| "#{count} #{name}" }.join(", ") + " survived; #{maps} mappings in the end"
