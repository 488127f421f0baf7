# frozen_string_literal: true

require "json"

module Bench
  # What the charts show, as it is kept beside them in a JSON file, so that they can be drawn again without measuring.
  class Record
    # How many times as fast we are as a rival.
    Race = Struct.new(:subject, :work, :rival, :speed)

    # How the cost of something grows: for each series, x => seconds.
    Growth = Struct.new(:file, :title, :x_label, :series)

    def self.of(rows, growths)
      new(RUBY_VERSION, rows.map { |row| Race.new(row.subject, row.work, row.rival.name, row.speed) },
          growths.map { |growth| Growth.new(growth.file, growth.title, growth.x_label, growth.spreads) })
    end

    def self.read(file)
      data = JSON.parse(File.read(file))
      races = data["races"].map { |*names, speed| Race.new(*names, Spread.new(*speed)) }
      growths = data["growths"].map do |*names, series|
        Growth.new(*names, series.transform_values { |at| at.to_h { |x, seconds| [Integer(x), Spread.new(*seconds)] } })
      end
      new(data["ruby"], races, growths)
    end

    def initialize(ruby, races, growths)
      @ruby = ruby
      @races = races
      @growths = growths
    end

    # Writes the record as `base`.json.
    def write(base)
      races = @races.map { |race| [race.subject, race.work, race.rival, race.speed.to_a] }
      growths = @growths.map do |growth|
        [growth.file, growth.title, growth.x_label, growth.series.transform_values { |at| at.transform_values(&:to_a) }]
      end
      File.write("#{base}.json", "#{JSON.pretty_generate({ ruby: @ruby, races: races, growths: growths })}\n")
    end

    # Draws the charts beside it.
    def draw(base)
      File.write("#{base}-ratios.svg", BarChart.new(@ruby, @races).svg)
      @growths.each { |growth| File.write("#{base}-#{growth.file}.svg", LineChart.new(@ruby, growth).svg) }
    end
  end
end
