# frozen_string_literal: true

module Storm
  # Permits that belong to processes, which are killed with them, while others change how many there are.
  class Permits < Scene
    FEWEST, MOST = 3, 6
    DYING = 5 # seconds that the end of a killed process may take

    def initialize(slots)
      super
      @permits = ProcessShared::Semaphore.new(MOST, robust: true)
      @held = cells(slots) # process and permits of each slot, from after it takes them until before it gives them back
    end

    def step(me, random)
      return @permits.resize(random.rand(FEWEST..MOST)) if random.rand(20).zero?

      count = random.rand(1..FEWEST)
      taken = random.rand(10).zero? ? @permits.try_acquire(count, random.rand * 0.01) : @permits.acquire(count) || true
      hold { work(me, count, random) } if taken
    end

    def ring(_random) = @permits.available_permits

    # Nobody is left, so nobody holds any.
    def verdict(_kills)
      @permits.resize(MOST)
      check(@permits.holders.empty? && @permits.available_permits == MOST, "permits lost, or left with the dead: #{@permits.holders}")
    end

    private

    def work(me, count, random)
      @held[me] = Process.pid << 8 | count
      expect_limit
      sleep(random.rand * 0.002) if random.rand(2).zero?
      @held[me] = 0
      random.rand(10).zero? ? Thread.new { @permits.release(count) }.join : @permits.release(count)
    end

    # The permits of a process that has been killed may be back before the last of its threads has ended.
    def expect_limit
      holders = @permits.holders
      check(holders.values.sum <= MOST, "holders: #{holders}")
      held = living
      (DYING * 100).times do
        return if held.values.sum <= MOST

        sleep 0.01
        held.select! { |pid, _| alive?(pid) }
      end
      check(false, "permits of living processes: #{held}")
    end

    # Who is alive and has permits, as they say themselves.
    def living
      held = Hash.new(0)
      slots.times { |slot| @held[slot].then { |value| held[value >> 8] += value & 0xff } }
      held.select { |pid, _| pid.positive? && alive?(pid) }
    end

    def alive?(pid)
      !File.read("/proc/#{pid}/stat").rpartition(")").last.start_with?(" Z", " X")
    rescue SystemCallError
      false
    end
  end
end
