# frozen_string_literal: true

# The collector at work all the time: with SPEC_STRESS=minor (`rake spec:stress`) or SPEC_STRESS=compact
# (`rake spec:compact`), each example begins with a collection at every allocation, in its children and in the Rubies it
# starts too.
#
#   minor    young objects only, which is cheap: what is not marked, or has no write barrier, is gone soon
#   compact  all objects, and they are moved
#
# What an example does after its first BUDGET seconds, or in `seconds`, runs at the usual pace: thousands of comparisons
# with other classes would take hours, and bounds on time would mean nothing. `unstressed: "why"` leaves an example out.
module Stress
  MODE = ENV["SPEC_STRESS"]
  LEVEL = MODE && { "minor" => 0x01, "compact" => true }.fetch(MODE)
  BUDGET = 0.25 # seconds; 2000 examples that all use it up take eight minutes

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
      level = GC.stress
      GC.stress = false
      yield
    ensure
      GC.stress = level
    end

    # In a forked child, where the thread that lifts the stress is not.
    def begin_anew
      start if GC.stress
    end

    # What has a script in a Ruby of its own begin with the same.
    def options
      MODE ? ["-e", "#{"GC.auto_compact = true; " if MODE == "compact"}GC.stress = #{LEVEL}"] : []
    end

    private

    def start
      @end = Thread.new do
        sleep BUDGET
        GC.stress = false
      end
      GC.auto_compact = true if MODE == "compact"
      GC.stress = LEVEL
    end

    def stop
      GC.stress = false
      GC.auto_compact = false if MODE == "compact"
      @end.kill.join
    end
  end
end
