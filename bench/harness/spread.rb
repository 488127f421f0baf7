# frozen_string_literal: true

module Bench
  # The middle half of some samples, and the one in the middle.
  Spread = Struct.new(:low, :median, :high) do
    def self.of(samples)
      sorted = samples.sort
      new(sorted[sorted.size / 4], sorted[sorted.size / 2], sorted[sorted.size * 3 / 4])
    end
  end
end
