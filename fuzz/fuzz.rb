# frozen_string_literal: true

# Calls every public method of every class with arguments right and wrong, on objects in every state. What it looks for:
# crashes, hangs, and messages that say nothing. `ruby fuzz/fuzz.rb [CALLS [SEED]]`, or `rake fuzz[CALLS,SEED]`.
#
# The calls are made in forked processes, some ten thousand in each, by a seed of their own: a failure names it, and
# `ruby fuzz/fuzz.rb 10000 SEED` makes the same calls again.
require "process_shared"
%w[subjects arguments calls model map_model queue_model states].each { |file| require_relative file }

# Runs one batch of calls in a child and reports how it ended.
class Batch
  SIZE = 10_000
  SILENCE = 10 # seconds without a call: a hang

  attr_reader :outcomes

  def initialize(count, seed)
    @count = count
    @seed = seed
    @last = ProcessShared::SharedMemory.new(2000) # the call in progress
  end

  # nil, or what went wrong.
  def failure
    @result, writer = IO.pipe
    pid = fork { work(writer) }
    writer.close
    last = nil
    until @result.wait_readable(SILENCE)
      now = call_in_progress
      next last = now if now != last

      Process.kill(:KILL, pid)
      Process.wait(pid)
      return "hangs"
    end
    said = @result.read
    Process.wait(pid)
    return "#{$?.inspect} #{said}" unless $?.success?

    @outcomes = Marshal.load(said)
    nil
  end

  def call_in_progress = @last.get_string(0).force_encoding("UTF-8").scrub("?")

  private

  # In the child.
  def work(writer)
    number = 0
    log = ->(text) { @last.put_string(0, "#{number += 1}: #{text.b[0, 1900].delete("\0")}") }
    $stdout.reopen(File::NULL)
    calls = Fuzz::Calls.new(@seed, inherited, log)
    calls.run(@count)
    log.call("model")
    Fuzz::Model.new(@seed).run(@count / 10)
    Fuzz::MapModel.new(@seed, log).run(@count / 10)
    log.call("queue's model")
    Fuzz::QueueModel.new(@seed).run(@count / 10)
    log.call("states")
    Fuzz::States.new(@seed).run(@count / 10)
    writer.write(Marshal.dump(calls.outcomes.to_h.transform_keys(&:to_s)))
    writer.close
    exit!(0)
  rescue Exception => error # rubocop:disable Lint/RescueException -- told to the parent
    writer.write("#{error.class} #{error.message} #{error.backtrace&.first(3)}")
    exit!(1)
  end

  # Made, and partly held, by the parent.
  def inherited
    @inherited ||= [ProcessShared::Mutex.new, ProcessShared::Monitor.new, ProcessShared::Semaphore.new(0), ProcessShared::SharedMemory.new(100),
                    ProcessShared::ReadWriteLock.new.tap(&:acquire_read_lock), ProcessShared::Presence.new.tap(&:enter),
                    ProcessShared::CyclicBarrier.new(2)]
  end
end

require "io/wait"
calls = Integer(ARGV.fetch(0, 100_000))
seed = Integer(ARGV.fetch(1, rand(1 << 30)))
$stdout.sync = true
puts "#{calls} calls, seed #{seed}"
outcomes = Hash.new(0)
(0...calls).step(Batch::SIZE).each_with_index do |done, index|
  batch = Batch.new([Batch::SIZE, calls - done].min, seed + index)
  failure = batch.failure
  abort "FAILED with seed #{seed + index}, call #{batch.call_in_progress}: #{failure}" if failure
  batch.outcomes.each { |outcome, count| outcomes[outcome] += count }
end
puts outcomes.sort_by { |_, count| -count }.map { |outcome, count| "#{count} #{outcome}" }.join(", ")
