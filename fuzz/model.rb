# frozen_string_literal: true

module Fuzz
  # Accessors of memory against a String that should hold the same bytes: values, results, errors, and every byte after
  # every call.
  class Model
    TYPES = { int8: "c", uint8: "C", int16: "s", uint16: "S", int32: "l", uint32: "L", int64: "q", uint64: "Q", float32: "e", float64: "E" }.freeze
    WIDTHS = { "c" => 1, "C" => 1, "s" => 2, "S" => 2, "l" => 4, "L" => 4, "q" => 8, "Q" => 8, "e" => 4, "E" => 8 }.freeze

    def initialize(seed)
      @random = Random.new(seed)
      @size = @random.rand(1..200)
      @memory = ProcessShared::SharedMemory.new(@size)
      @bytes = "\0".b * @size
    end

    def run(count)
      count.times do
        description = send(%i[number array bytes string].sample(random: @random))
        actual = @memory.get_bytes(0, @size)
        raise Senseless, "#{description}: #{actual.inspect} instead of #{@bytes.inspect}" unless actual == @bytes
      end
    end

    private

    def offset = @random.rand(-2..@size + 2)

    # In big-endian order now and then, through a view.
    def order
      big = @random.rand(4).zero?
      [big ? @memory.order(:big) : @memory, big]
    end

    def directive(type, big)
      letter = TYPES[type]
      return letter if WIDTHS[letter] == 1
      return big ? letter.upcase == "E" && letter == "e" ? "g" : "G" : letter if "eE".include?(letter)

      "#{letter}#{big ? ">" : "<"}"
    end

    def value(type)
      case type
      when :float32, :float64 then [0.0, 1.5, -2.25, 1e30, @random.rand].sample(random: @random).then { |f| [f].pack("e").unpack1("e") }
      when /u/ then @random.rand(2**type[/\d+/].to_i)
      else @random.rand(2**type[/\d+/].to_i) - 2**(type[/\d+/].to_i - 1)
      end
    end

    def number
      type = TYPES.keys.sample(random: @random)
      view, big = order
      at = offset
      given = value(type)
      width = WIDTHS[TYPES[type]]
      expect_bounds(at, width) do
        view.public_send("put_#{type}", at, given)
        @bytes[at, width] = [given].pack(directive(type, big))
        same(view.public_send("get_#{type}", at), given, "get_#{type}")
      end
    end

    def array
      type = TYPES.keys.sample(random: @random)
      view, big = order
      at = offset
      given = Array.new(@random.rand(6)) { value(type) }
      width = WIDTHS[TYPES[type]] * given.size
      expect_bounds(at, width) do
        view.public_send("put_array_of_#{type}", at, given)
        @bytes[at, width] = given.pack(directive(type, big).sub(/\A./) { "#{_1}" } .then { |d| d * given.size })
        same(view.public_send("get_array_of_#{type}", at, given.size), given, "get_array_of_#{type}")
      end
    end

    def bytes
      at = offset
      given = @random.bytes(@random.rand(20))
      expect_bounds(at, given.size) do
        @memory.put_bytes(at, given)
        @bytes[at, given.size] = given
        same(@memory.get_bytes(at, given.size), given, "get_bytes")
      end
    end

    def string
      at = offset
      given = @random.bytes(@random.rand(20)).delete("\0")
      expect_bounds(at, given.size + 1) do
        @memory.put_string(at, given)
        @bytes[at, given.size + 1] = "#{given}\0"
        same(@memory.get_string(at), given, "get_string")
      end
    end

    def expect_bounds(at, length)
      inside = at >= 0 && at + length <= @size
      begin
        yield
        raised = false
      rescue IndexError
        raised = true
      end
      raise Senseless, "#{length} bytes at #{at} of #{@size}: #{raised ? "refused" : "allowed"}" if inside == raised

      "#{length} bytes at #{at}"
    end

    def same(actual, expected, what)
      raise Senseless, "#{what}: #{actual.inspect} instead of #{expected.inspect}" unless actual == expected
    end
  end
end
