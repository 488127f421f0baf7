# frozen_string_literal: true

module Bench
  # What one side of a comparison was measured at: seconds for one operation, once per round.
  Series = Struct.new(:name, :samples) do
    def best = samples.min
    def median = middle.median

    # How far the middle half of the samples lies apart, as a part of the median.
    def spread = (middle.high - middle.low) / median

    private

    def middle = Spread.of(samples)
  end

  # One line of the table: ours against one rival.
  Row = Struct.new(:subject, :work, :ours, :rival, :goal) do
    # Our cost as a part of the rival's, the best of each: whatever disturbs a measurement makes it slower.
    def ratio = ours.best / rival.best

    # How many times as fast we are, round by round.
    def speed = Spread.of(ours.samples.zip(rival.samples).map { |mine, other| other / mine })

    def reached? = goal.nil? || ratio.round(2) <= goal
  end

  # The same work done by us and by rivals, in turns: A B C A B C ...
  #
  # A side is code in a loop (`code`) or a block that returns the seconds one operation took (`timed`). The first side
  # is ours; those after it are rivals, each with the ratio to reach, or nil where it is only shown.
  class Comparison
    Side = Struct.new(:name, :goal, :sample)

    REPEATED = 10 # copies of the code in one turn of its loop, so that the loop itself costs next to nothing

    def initialize(subject, work, rounds: nil)
      @subject = subject
      @work = work
      @rounds = Bench.quick? ? 1 : rounds || 41
      @sides = []
      @left_out = []
    end

    attr_reader :subject, :work, :left_out

    # A side that runs `code`, Ruby in which x and y are the two objects given.
    def code(name, code, x: nil, y: nil, goal: nil)
      run = self.class.compile(code)
      turns = nil
      timed(name, goal: goal) do
        turns ||= self.class.turns { |count| run.call(x, y, count) }
        run.call(x, y, turns) / (turns * REPEATED)
      end
    end

    def timed(name, goal: nil, &sample)
      @sides << Side.new(name, goal, sample)
    end

    # A rival that is not on this machine.
    def leave_out(name, reason)
      @left_out << "#{@work}: #{name} left out, #{reason}"
    end

    def rows
      series = @sides.map { |side| Series.new(side.name, []) }
      GC.start
      @rounds.times do
        @sides.zip(series) { |side, measured| measured.samples << side.sample.call }
      end
      ours, *rivals = series
      rivals.zip(@sides.drop(1)).map { |rival, side| Row.new(@subject, @work, ours, rival, side.goal) }
    end

    # A function of its own for each side, so that no inline cache is shared; returns the seconds of processor time it
    # took, which leaves out what other programs did meanwhile.
    def self.compile(code)
      eval(<<~RUBY, TOPLEVEL_BINDING.dup, __FILE__, __LINE__ + 1) # rubocop:disable Security/Eval
        lambda do |x, y, turns|
          start = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)
          turn = 0
          while turn < turns
            #{([code] * REPEATED).join("\n")}
            turn += 1
          end
          Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID) - start
        end
      RUBY
    end

    # Seconds that `code` takes once.
    def self.time(code, x = nil, y = nil)
      run = compile(code)
      turns = turns { |count| run.call(x, y, count) }
      run.call(x, y, turns) / (turns * REPEATED)
    end

    # How many turns make a sample long enough to be measured.
    def self.turns
      count = 1
      count *= 2 while (seconds = yield(count)) < Bench.sample_seconds / 10
      (count * Bench.sample_seconds / seconds).ceil
    end
  end
end
