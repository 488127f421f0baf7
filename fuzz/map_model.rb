# frozen_string_literal: true

module Fuzz
  # Maps and caches, of tiny memories too, against a Hash. A map has what the Hash has, or said that it is full and then
  # has changed nothing. A cache has the Hash's value, or none.
  class MapModel
    KEYS = [0, 1, -1, 2**62, 2**64, 1.5, -0.0, nil, true, "", "a", :a, "ü", "a" * 300, "b".b, [], [1, "a"], [[:a], 2.0], { 1 => 2 }, 1..2,
            *"k0".."k9", *10..40].freeze

    # `log` is called with a description before each call.
    def initialize(seed, log)
      @random = Random.new(seed)
      @log = log
    end

    def run(count)
      begin_again
      count.times do |number|
        begin_again if @random.rand(150).zero?
        call = choose
        @log.call("#{@map.inspect} #{number}: #{call.first}(#{call.drop(1).inspect[0, 200]})")
        same(attempt(*call), call)
        compare if @random.rand(10).zero?
      end
      compare
    end

    private

    def begin_again
      @map = [ProcessShared::Map, ProcessShared::Cache].sample(random: @random).new([1, 300, 3000, 20_000, 300_000].sample(random: @random))
      @drops = @map.is_a?(ProcessShared::Cache)
      @hash = {}
    end

    def key = KEYS.sample(random: @random)

    def value
      case @random.rand(6)
      when 0 then nil
      when 1..2 then @random.rand(-100..100)
      when 3 then [@random.rand, :x, "y" * @random.rand(30)]
      else @random.bytes(@random.rand(1 << @random.rand(1..14)))
      end
    end

    def there = @hash.keys.sample(random: @random) || key

    def choose
      case @random.rand(24)
      when 0..7 then [:store, key, value]
      when 8 then [:expire, key, value]
      when 9..10 then [:delete, there]
      when 11 then [:put_if_absent, key, value]
      when 12 then [:replace_if_exists, there, value]
      when 13 then [:get_and_set, key, value]
      when 14 then [:replace_pair, there, @hash.values.sample(random: @random), value]
      when 15 then [:delete_pair, there, @hash.values.sample(random: @random)]
      when 16 then [:touch, there]
      when 17..18 then [:increment, [7, 8, there].sample(random: @random), @random.rand(-5..5)]
      when 19 then [:compute, there, value]
      when 20 then [:fetch, key, value]
      when 21 then [:clear] if @random.rand(20).zero?
      end || [:get, there]
    end

    # What the map says and what the Hash says.
    def attempt(name, *arguments)
      key = arguments.first
      forget(key) unless arguments.empty?
      before = @hash.dup
      [answer(name, arguments), send(:"expected_#{name}", *arguments)]
    rescue ProcessShared::FullError
      @hash = before
      forget(key)
      size = arguments.sum { |argument| Marshal.dump(argument).bytesize }
      raise Senseless, "a cache is full: #{@map.inspect}" if @drops && size < @map.bytes / 8

      [nil, nil]
    end

    # A cache may have dropped it. (What has just been looked at is not dropped before the call.)
    def forget(key)
      @hash.delete(key) if @drops && !@map.key?(key)
    end

    def answer(name, arguments)
      case name
      when :expire then @map.store(*arguments, expires_in: 0)
      when :touch then @map.touch(*arguments, expires_in: 1000)
      when :compute then @map.compute(arguments[0]) { arguments[1] }
      when :fetch then @map.fetch(arguments[0]) { arguments[1] }
      when :clear then @map.clear.size
      else @map.public_send(name, *arguments)
      end
    rescue TypeError
      :no_number
    end

    def expected_store(key, value) = @hash[key] = value
    def expected_get(key) = @hash[key]
    def expected_delete(key) = @hash.delete(key)
    def expected_touch(key) = @hash.key?(key)
    def expected_clear = @hash.clear.size
    def expected_fetch(key, value) = @hash.fetch(key) { @hash[key] = value }

    def expected_expire(key, value)
      @hash.delete(key)
      value
    end

    def expected_put_if_absent(key, value)
      return @hash[key] if @hash.key?(key)

      @hash[key] = value
      nil
    end

    def expected_replace_if_exists(key, value) = (expected_get_and_set(key, value) if @hash.key?(key))

    def expected_get_and_set(key, value)
      old = @hash[key]
      @hash[key] = value
      old
    end

    def expected_replace_pair(key, old, new)
      return false unless @hash.key?(key) && @hash[key] == old

      @hash[key] = new
      true
    end

    def expected_delete_pair(key, old)
      return false unless @hash.key?(key) && @hash[key] == old

      @hash.delete(key)
      true
    end

    def expected_increment(key, by)
      return :no_number if @hash.key?(key) && !@hash[key].is_a?(Numeric)

      @hash[key] = @hash.fetch(key, 0) + by
    end

    def expected_compute(key, value)
      value.nil? ? @hash.delete(key) : @hash[key] = value
      value
    end

    def same((actual, expected), call)
      raise Senseless, "#{call.inspect[0, 300]}: #{actual.inspect[0, 300]} instead of #{expected.inspect[0, 300]}" unless actual == expected
    end

    def compare
      entries = {}
      @map.each_pair { |key, value| entries[key] = value }
      differ = @drops ? entries.any? { |key, value| !@hash.key?(key) || @hash[key] != value } : entries != @hash
      raise Senseless, "#{entries.inspect[0, 500]} instead of #{@hash.inspect[0, 500]}" if differ
      raise Senseless, "#{@map.size} instead of #{entries.size}" if @map.size != entries.size
    end
  end
end
