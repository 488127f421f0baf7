# frozen_string_literal: true

module Storm
  # A map that has room for all, and a cache that has not: counters, values of one letter each, and values that are
  # computed by one at a time.
  class Maps < Scene
    KEYS = 30
    COMPUTED = 4
    BYTES = 1 << 18

    def initialize(slots)
      super
      @map = ProcessShared::Map.new(BYTES)
      @cache = ProcessShared::Cache.new(BYTES / 8)
      @counted = cells(slots)
      @computing = cells(COMPUTED)
    end

    def step(me, random)
      case random.rand(12)
      when 0..3 then count(me)
      when 4..6 then read(random)
      when 7..9 then write(random)
      when 10 then compute(me, random)
      else each
      end
    end

    # An increment that has returned is never lost; one whose process was killed may count.
    def verdict(kills)
      count, returned = @map.fetch("count", 0), @counted.sum(0)
      check(count.between?(returned, returned + kills * Worker::THREADS), "#{count} counted, #{returned} returned, #{kills} kills")
      check(@map.waiters.zero?, "waiters left")
      [@map, @cache].each do |map|
        check(map.size == map.keys.size, "#{map.size} entries, #{map.keys.size} keys")
        map.clear
        check(map.stats.values_at(:entries, :bytes_used) == [0, 0], "not empty: #{map.stats}")
        large = "x" * (map.bytes * 9 / 10)
        map["large"] = large
        check(map["large"] == large, "memory is gone")
      end
    end

    def ring(random)
      check(whole?(@map[random.rand(KEYS)]), "half a value")
      @cache.increment("rung")
    end

    private

    def any(random) = random.rand(2).zero? ? @map : @cache

    def whole?(value) = value.nil? || value.squeeze.size == 1

    def count(me)
      hold do
        @map.increment("count")
        @counted[me] += 1
      end
    end

    def read(random)
      check(whole?(any(random)[random.rand(KEYS)]), "half a value")
    end

    def write(random)
      map, key = any(random), random.rand(KEYS)
      value = ("a".."z").to_a.sample(random:) * random.rand(1..1 << random.rand(1..13))
      case random.rand(6)
      when 0 then check(whole?(map.delete(key)), "half a value")
      when 1 then map.store(key, value, expires_in: random.rand * 0.02)
      when 2 then map.put_if_absent(key, value)
      when 3 then map.touch(key, expires_in: random.rand * 0.02)
      else map[key] = value
      end
    rescue ProcessShared::FullError
      check(map == @map, "a cache is full")
    end

    # Who computes is alone: nobody else writes that it does.
    def compute(me, random)
      index = random.rand(COMPUTED)
      value = @map.fetch([:computed, index]) do
        @computing[index] = me + 1
        sleep(random.rand * 0.001)
        check(@computing[index] == me + 1, "two compute the same")
        "computed"
      end
      check(value == "computed", "#{value.inspect} computed")
      @map.delete([:computed, index]) if random.rand(3).zero?
    end

    def each
      seen = @map.keys
      check(seen.uniq == seen, "seen twice: #{seen.tally.select { |_, times| times > 1 }}")
    end
  end
end
