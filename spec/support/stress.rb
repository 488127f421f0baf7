# frozen_string_literal: true

# The collector at work all the time: with SPEC_STRESS=minor (`rake spec:stress`) or SPEC_STRESS=compact
# (`rake spec:compact`), in the children of an example too.
#
#   minor    a collection of young objects at every allocation, in the Rubies it starts too: what is not marked, or has
#            no write barrier, is gone soon
#   compact  all objects that can be are moved when an example or a child of it begins, and again and again by a
#            thread, which has its turn when the example waits
#
# What an example does after its first BUDGET seconds, or in `seconds`, runs at the usual pace: thousands of comparisons
# with other classes would take hours, and bounds on time would mean nothing. `unstressed: "why"` leaves an example out.
#
# Objects are moved by GC.compact, as GC.auto_compact makes Ruby 3.1 itself crash where a thread begins.
module Stress
  MODE = ENV["SPEC_STRESS"]
  BUDGET = 0.25 # seconds; 2000 examples that all use it up take eight minutes
  PAUSE = 0.02 # seconds between two compactions, which take as long

  class << self
    # Runs the block with the collector stressed, for so long.
    def during
      return yield unless MODE

      start
      yield
    ensure
      stop if MODE
    end

    # Runs the block at the usual pace.
    def lifted
      was_active = @active
      rest if was_active
      yield
    ensure
      go if was_active
    end

    # In a forked child, where the thread that ends it is not.
    def begin_anew
      start if @active
    end

    # What has a script in a Ruby of its own begin with the same.
    def options
      MODE == "minor" ? ["-e", "GC.stress = 1"] : []
    end

    private

    def start
      GC.compact if MODE == "compact"
      go
      @end = Thread.new { keep_on }
    end

    def keep_on
      stop_at = Process.clock_gettime(Process::CLOCK_MONOTONIC) + BUDGET
      while (left = stop_at - Process.clock_gettime(Process::CLOCK_MONOTONIC)).positive?
        sleep(MODE == "compact" ? PAUSE : left)
        GC.compact if MODE == "compact" && @active
      end
      rest
    end

    def stop
      rest
      @end.kill.join
    end

    def go
      @active = true
      GC.stress = 1 if MODE == "minor"
    end

    def rest
      @active = false
      GC.stress = false
    end
  end
end
