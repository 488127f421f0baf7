# frozen_string_literal: true

require_relative "svg"

module Bench
  # How cost grows: a line for each series through the medians, with the middle half of the rounds as a thin line at each
  # point. Both axes are logarithmic.
  class LineChart
    LEFT = 80
    TOP = 84
    PLOT = [520, 280].freeze
    COLOURS = %w[#0969da #2da44e #d4762c #8250df #cf222e].freeze

    def initialize(ruby, growth)
      @ruby = ruby
      @growth = growth
      values = growth.series.values.flat_map(&:values).flat_map(&:to_a)
      @low = 10**Math.log10(values.min).floor
      @high = 10**Math.log10(values.max).ceil
      @xs = growth.series.values.first.keys
      @svg = SVG.new(LEFT + PLOT[0] + 210, TOP + PLOT[1] + 60)
    end

    def svg
      @svg.text(16, 28, "#{@growth.title}: time for one operation. Lower is better (Ruby #{@ruby})", size: 16, weight: "bold")
      @svg.text(16, 48, "Points: the median of the rounds. Thin lines: their middle half. Each line across is ten times the one below.", fill: SVG::GREY)
      axes
      @growth.series.keys.each_with_index { |name, index| draw(name, COLOURS[index % COLOURS.size]) }
      labels
      @svg.to_s
    end

    private

    def x(value) = LEFT + Math.log(value.fdiv(@xs.first)) / Math.log(@xs.last.fdiv(@xs.first)) * PLOT[0]

    def y(seconds) = TOP + PLOT[1] - Math.log(seconds / @low) / Math.log(@high / @low) * PLOT[1]

    def axes
      decade = @low
      while decade <= @high * 1.001
        @svg.line(LEFT, y(decade), LEFT + PLOT[0], y(decade))
        @svg.text(LEFT - 10, y(decade) + 4, round_time(decade), anchor: "end", size: 11, fill: SVG::GREY)
        decade *= 10
      end
      @xs.each do |value|
        @svg.line(x(value), TOP + PLOT[1], x(value), TOP + PLOT[1] + 5, stroke: SVG::GREY)
        @svg.text(x(value), TOP + PLOT[1] + 20, short(value), anchor: "middle", size: 11, fill: SVG::GREY)
      end
      @svg.text(LEFT + PLOT[0] / 2, TOP + PLOT[1] + 44, @growth.x_label, anchor: "middle", fill: SVG::GREY)
    end

    def draw(name, colour)
      spreads = @growth.series[name]
      spreads.each { |value, spread| @svg.line(x(value), y(spread.low), x(value), y(spread.high), stroke: colour) }
      points = spreads.map { |value, spread| [x(value), y(spread.median)] }
      @svg.path(points, stroke: colour)
      points.each { |point| @svg.dot(*point, fill: colour) }
    end

    # Each series' name and last value beside its end, moved down where two would overlap.
    def labels
      free = 0
      ends = @growth.series.keys.each_with_index.map { |name, index| [@growth.series[name].values.last.median, name, index] }
      ends.sort.reverse_each do |seconds, name, index|
        free = [y(seconds), free].max
        @svg.text(LEFT + PLOT[0] + 12, free + 4, "#{name} #{Report.time(seconds)}", fill: COLOURS[index % COLOURS.size], weight: "bold")
        free += 16
      end
    end

    def round_time(seconds) = Report.time(seconds * 1.0001).sub(/\.0+ /, " ")

    def short(value)
      size, unit = [[1 << 30, "G"], [1 << 20, "M"], [1 << 10, "K"]].find { |size, _| value >= size && (value % size).zero? }
      size ? "#{value / size}#{unit}" : Report.number(value)
    end
  end
end
