# frozen_string_literal: true

# The collector at work all the time: with SPEC_STRESS=minor (`rake spec:stress`) or SPEC_STRESS=compact
# (`rake spec:compact`), in the children of an example too.
#
#   minor    a collection of young objects at every allocation, in the Rubies it starts too: what is not marked, or has
#            no write barrier, is gone soon. What an example does after its first BUDGET seconds, or in `seconds`, runs
#            at the usual pace: thousands of comparisons with other classes would take hours, and bounds on time would
#            mean nothing. `unstressed: "why"` leaves an example out
#   compact  all objects that can be are moved when an example or a child of it begins, and whenever it has waited for
#            something: for a thread or a child that sleeps, or for word from a child. Never while a thread may read or
#            write a file, which in Ruby 3.1 fails then with EFAULT; nor by GC.auto_compact, with which it crashes where
#            a thread begins
module Stress
  MODE = ENV["SPEC_STRESS"]
  BUDGET = 0.25 # seconds; 2000 examples that all use it up take eight minutes
  MOVES = 5 # in one process of an example; each takes some ten milliseconds

  class << self
    # Runs the block with the collector stressed.
    def during
      return yield unless MODE

      @on = true
      start
      yield
    ensure
      @on = false
      stop if MODE
    end

    # Runs the block at the usual pace.
    def lifted
      level = GC.stress
      GC.stress = false
      yield
    ensure
      GC.stress = level
    end

    # In a forked child, where the thread that lifts the stress is not.
    def begin_anew
      start if GC.stress || @moves
    end

    # Something was waited for.
    def waited
      return unless @moves&.positive?

      @moves -= 1
      GC.compact
    end

    # What has a script in a Ruby of its own begin with the same.
    def options
      MODE == "minor" && @on ? ["-e", "GC.stress = 1"] : []
    end

    private

    def start
      if MODE == "compact"
        @moves = MOVES
        waited
      else
        @end = Thread.new do
          sleep BUDGET
          GC.stress = false
        end
        GC.stress = 1
      end
    end

    def stop
      @moves = nil
      GC.stress = false
      @end&.kill&.join
    end
  end
end
