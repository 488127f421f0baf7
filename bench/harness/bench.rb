# frozen_string_literal: true

# What the files in suite/ say is measured, and the results.
module Bench
  # Something counted, with the most it may be, or nil where it is only recorded.
  Count = Struct.new(:what, :value, :limit, :unit) do
    def reached? = limit.nil? || value <= limit
  end

  # How the cost of something grows: for each of `series`, name => { x => [seconds, ...] }, a sample a round.
  Growth = Struct.new(:file, :title, :x_label, :series) do
    def spreads = series.transform_values { |at| at.transform_values { |samples| Spread.of(samples) } }
  end

  class << self
    attr_writer :quick
    attr_reader :rows, :counts, :growths, :left_out

    # Only to see that all of it runs: the figures mean nothing.
    def quick? = @quick

    # How long a sample of a loop takes.
    attr_writer :sample_seconds

    def sample_seconds = @sample_seconds || (quick? ? 0.0005 : 0.005)

    def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

    # Measures one kind of work; the block adds the sides to a Comparison.
    def compare(subject, work, rounds: nil)
      comparison = Comparison.new(subject, work, rounds: rounds)
      yield comparison
      rows = comparison.rows
      @rows.concat(rows)
      @left_out.concat(comparison.left_out)
      rows.each { |row| puts Report.line(row) }
      comparison.left_out.each { |text| puts text }
    end

    # Records what the block counts.
    def count(what, limit: nil, unit: nil)
      count = Count.new(what, yield, limit, unit)
      @counts << count
      puts Report.count_line(count)
    rescue LeftOut => e
      @left_out << "#{what}: left out, #{e.message}"
      puts @left_out.last
    end

    # Measures `series`, name => ->(x) { seconds }, at each of `xs`, in turns.
    def grow(file, title, x_label, xs, rounds: 5, **series)
      xs = [xs.first, xs[1]] if quick?
      growth = Growth.new(file, title, x_label, series.transform_values { xs.to_h { |x| [x, []] } })
      xs.each do |x|
        (quick? ? 1 : rounds).times do
          series.each { |name, sample| growth.series[name][x] << sample.call(x) }
        end
        puts "#{title}: #{x}: " + growth.spreads.map { |name, at| "#{name} #{Report.time(at[x].median)}" }.join(", ")
      end
      @growths << growth
    end
  end

  # A tool or a rival is not on this machine.
  class LeftOut < StandardError; end

  @rows = []
  @counts = []
  @growths = []
  @left_out = []
end

%w[spread comparison crew rivals machine report record bar_chart line_chart].each { |name| require_relative name }
