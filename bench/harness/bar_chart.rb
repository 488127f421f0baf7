# frozen_string_literal: true

require_relative "svg"

module Bench
  # Our cost as a part of the rival's, a bar for each row, on a logarithmic scale; a tick marks the ratio to reach.
  class BarChart
    ROW = 22
    LABELS = 470 # width of the left column
    PLOT = 380
    TOP = 74
    REACHED = "#2da44e"
    MISSED = "#d4762c"
    TICKS = [0.01, 0.1, 0.5, 1, 2, 4].freeze

    def initialize(rows)
      @rows = rows
      @svg = SVG.new(LABELS + PLOT + 70, TOP + rows.size * ROW + 28)
      @low = Math.log([0.01, *rows.map(&:ratio)].min * 0.9)
      @high = Math.log([2, *rows.map(&:ratio)].max * 1.1)
    end

    def svg
      @svg.text(16, 26, "Cost against the rival, Ruby #{RUBY_VERSION}: shorter is better", size: 16, weight: "bold")
      @svg.text(16, 46, "The same work, in turns, in one run. Dark ticks: the ratio to reach.", fill: SVG::GREY)
      scale
      @svg.line(x(1), TOP - 4, x(1), bottom, stroke: SVG::INK, dash: "3 3")
      @rows.each_with_index { |row, index| draw(row, TOP + index * ROW) }
      @svg.to_s
    end

    private

    def bottom = TOP + @rows.size * ROW

    def x(ratio) = LABELS + (Math.log(ratio) - @low) / (@high - @low) * PLOT

    def scale
      TICKS.select { |tick| Math.log(tick).between?(@low, @high) }.each do |tick|
        @svg.line(x(tick), TOP - 4, x(tick), bottom)
        [TOP - 10, bottom + 16].each { |y| @svg.text(x(tick), y, "#{tick} x", size: 11, anchor: "middle", fill: SVG::GREY) }
      end
    end

    def draw(row, y)
      @svg.text(LABELS - 10, y + 15, "#{row.subject}: #{row.work}  /  #{row.rival.name}", size: 11, anchor: "end")
      @svg.bar(LABELS, y + 4, x(row.ratio) - LABELS, ROW - 8, fill: row.reached? ? REACHED : MISSED)
      @svg.line(x(row.goal), y + 2, x(row.goal), y + ROW - 2, stroke: SVG::INK, width: 2)
      @svg.text([x(row.ratio), x(row.goal)].max + 8, y + 15, format("%.2f", row.ratio), size: 11, weight: "bold")
    end
  end
end
