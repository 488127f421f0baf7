# frozen_string_literal: true

require_relative "svg"

module Bench
  # How many times as fast we are as each rival: a bar for each race, from 1 to the median of its rounds, with the middle
  # half of the rounds as a thin line, on a scale where each step is twice as fast.
  class BarChart
    ROW = 22
    LABELS = 500 # width of the left column
    PLOT = 400
    TOP = 122
    FASTER = "#2da44e"
    SLOWER = "#d4762c"
    SAME = "#afb8c1"
    KEY = {
      FASTER => "process_shared is faster", SLOWER => "the rival is faster",
      SAME => "no clear difference: the middle half of the rounds goes across 1"
    }.freeze

    def initialize(ruby, races)
      @ruby = ruby
      @groups = races.group_by(&:subject)
      values = races.flat_map { |race| race.speed.to_a }
      @first, *, @last = [[0.5, *values].min, [2, *values].max].map { |value| Math.log2(value) }
      @ticks = (@first.floor..@last.ceil).to_a
      @svg = SVG.new(LABELS + PLOT + 90, TOP + (races.size + @groups.size) * ROW + 30)
    end

    def svg
      @svg.text(16, 28, "How many times as fast as the rival? Longer is better (Ruby #{@ruby})", size: 16, weight: "bold")
      @svg.text(16, 48, "The same work in turns, in one run. Bar and number: the median of the rounds. Thin line: their middle half.", fill: SVG::GREY)
      key
      y = TOP
      bottom = TOP + (@groups.size + @groups.values.sum(&:size)) * ROW
      scale(bottom)
      @groups.each do |subject, races|
        @svg.text(16, y + 15, subject, weight: "bold")
        races.each { |race| draw(race, y += ROW) }
        y += ROW
      end
      @svg.to_s
    end

    private

    def x(speed) = LABELS + (Math.log2(speed) - @ticks.first) / (@ticks.last - @ticks.first) * PLOT

    def key
      x = 16
      KEY.each do |colour, meaning|
        @svg.bar(x, 62, 12, 12, fill: colour)
        @svg.text(x + 18, 72, meaning, size: 11)
        x += 40 + meaning.size * 6.4
      end
    end

    def scale(bottom)
      @ticks.each do |tick|
        speed = 2.0**tick
        name = tick.zero? ? "1 (as fast)" : "#{tick.negative? ? "1/#{2**-tick}" : 2**tick} x"
        @svg.line(x(speed), TOP - 6, x(speed), bottom, stroke: tick.zero? ? SVG::INK : SVG::FAINT)
        [TOP - 12, bottom + 18].each { |y| @svg.text(x(speed), y, name, size: 11, anchor: "middle", fill: SVG::GREY) }
      end
    end

    def draw(race, y)
      @svg.text(LABELS - 12, y + 15, "#{race.work}, against #{race.rival}", size: 11, anchor: "end")
      low, median, high = race.speed.to_a.map { |speed| x(speed) }
      @svg.bar([x(1), median].min, y + 4, (median - x(1)).abs, ROW - 8, fill: colour(race.speed))
      @svg.line(low, y + ROW / 2, high, y + ROW / 2, stroke: SVG::INK)
      [low, high].each { |end_x| @svg.line(end_x, y + ROW / 2 - 3, end_x, y + ROW / 2 + 3, stroke: SVG::INK) }
      @svg.text([x(1), high].max + 8, y + 15, number(race.speed.median), size: 11, weight: "bold")
    end

    def colour(speed)
      return FASTER if speed.low > 1

      speed.high < 1 ? SLOWER : SAME
    end

    def number(speed) = format(speed < 9.95 ? "%.2f x" : "%.0f x", speed)
  end
end
