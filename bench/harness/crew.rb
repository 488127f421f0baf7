# frozen_string_literal: true

require "timeout"

module Bench
  # Forked processes that begin together. What goes wrong in one of them, or takes too long, ends the measurement with
  # an exception; none of them outlives it.
  class Crew
    PATIENCE = 120 # seconds

    # Seconds from the start until the last of `count` processes has run the block, which gets the process's number.
    def self.time(count, &work)
      with(count, work) do |crew|
        start = Bench.now
        crew.go
        crew.await_all
        Bench.now - start
      end
    end

    # Forks `count` processes that will run `work`, and kills what is left of them after the block.
    def self.with(count, work)
      crew = new(count, work)
      Timeout.timeout(PATIENCE) { yield crew }
    ensure
      crew&.disband
    end

    attr_reader :pids

    def initialize(count, work)
      ready, ready_in = IO.pipe
      gate, @gate_in = IO.pipe
      @done, done_in = IO.pipe
      @pids = Array.new(count) do |number|
        fork do
          @gate_in.close
          ready_in.syswrite(".")
          gate.read # until it closes
          work.call(number)
          done_in.syswrite(".")
        ensure
          $stderr.puts $!.full_message if $!
          exit!
        end
      end
      [ready_in, gate, done_in].each(&:close)
      read_all(ready)
      ready.close
    end

    def go
      @gate_in.close
    end

    def await_all
      read_all(@done)
    end

    def disband
      @pids.each { |pid| Process.kill(:KILL, pid) }
      @pids.each { |pid| Process.wait(pid) }
      [@gate_in, @done].each(&:close)
    end

    private

    def read_all(pipe)
      @pids.size.times { pipe.readpartial(1) }
    rescue EOFError
      raise "a process of the benchmark failed"
    end
  end
end
