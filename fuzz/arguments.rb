# frozen_string_literal: true

module Fuzz
  # Arguments that are right, nearly right, wrong and extreme.
  class Arguments
    INTEGERS = [0, 1, -1, 2, 3, 7, 8, 127, 128, 255, 256, 4095, 4096, 65_536, 2**31 - 1, 2**31, -2**31, 2**32, 2**53, 2**62 - 1, 2**62,
                2**63 - 1, 2**63, -2**63, 2**64 - 1, 2**64, -2**64, 10**30].freeze
    FLOATS = [0.0, -0.0, 0.001, -0.5, 1.5, 1e-300, 1e18, 1e300, Float::NAN, Float::INFINITY, -Float::INFINITY].freeze
    SYMBOLS = %i[int8 uint8 int int32 int64 uint64 long double float float32 bool pointer string char size_t big little network
                 nonsense get_int32 read_int to_s].freeze
    OTHERS = [nil, true, false, "", "abc", "x\0y", "\xff".b, "ü", [], [1], [1, nil, "x"], [2**70], {}, { timeout: 1 }, 1..2, 3r, 2i, Object, Kernel,
              Object.new.freeze, BasicObject.new, Struct.new(:to_int).new(5), Struct.new(:to_int).new("no"), Struct.new(:to_str).new("yes"),
              Struct.new(:to_ary).new([1, 2]), Struct.new(:to_ptr).new(nil), Struct.new(:sleep).new(1), [1] * 100, "long" * 2000].freeze

    def initialize(random, subjects)
      @random = random
      @subjects = subjects
    end

    # As many as the method takes, now and then too few or too many.
    def list(arity)
      count = arity.negative? ? ~arity + @random.rand(3) : arity
      count = @random.rand(5) if @random.rand(15).zero?
      Array.new(count) { any }
    end

    def any
      case @random.rand(12)
      when 0..3 then INTEGERS.sample(random: @random)
      when 4..5 then @random.rand(100)
      when 6 then FLOATS.sample(random: @random)
      when 7..8 then SYMBOLS.sample(random: @random)
      when 9 then @subjects.any
      else OTHERS.sample(random: @random)
      end
    end
  end
end
