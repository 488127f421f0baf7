# frozen_string_literal: true

require "fileutils"

module Bench
  # The results as text: a line at a time while it runs, and a Markdown file with charts in the end.
  module Report
    module_function

    # 0.000000123 => "123 ns"
    def time(seconds)
      value, unit = [[1, "s"], [1e-3, "ms"], [1e-6, "us"]].filter_map { |size, name| [seconds / size, name] if seconds >= size }.first
      value, unit = seconds / 1e-9, "ns" unless unit
      format(value < 10 ? "%.2f %s" : value < 100 ? "%.1f %s" : "%.0f %s", value, unit)
    end

    def series(series)
      format("%s (median %s, +-%.0f %%)", time(series.best), time(series.median), series.spread * 50)
    end

    def verdict(row)
      return "" unless row.goal

      row.reached? ? "yes" : "**no**"
    end

    def line(row)
      format("%-4s %-58s %6.2f  goal %-5s %s, %s %s", row.reached? ? "" : "MISS", "#{row.subject}: #{row.work}", row.ratio,
             row.goal || "-", series(row.ours), row.rival.name, series(row.rival))
    end

    def count_line(count)
      format("%-4s %-58s %s %s (at most %s)", count.reached? ? "" : "MISS", count.what, number(count.value), count.unit,
             count.limit ? number(count.limit) : "-")
    end

    def number(value)
      text = value.is_a?(Float) ? format("%.1f", value) : value.to_s
      text.gsub(/(?<=\d)(?=(\d{3})+(\.|\z))/, ",")
    end

    # Writes the file and its charts into `dir`; returns its path.
    def write(dir)
      FileUtils.mkdir_p(dir)
      name = "ruby-#{RUBY_VERSION[/\d+\.\d+/]}"
      record = Record.of(Bench.rows.select(&:goal), Bench.growths)
      record.write("#{dir}/#{name}")
      record.draw("#{dir}/#{name}")
      File.write("#{dir}/#{name}.md", markdown(name))
      "#{dir}/#{name}.md"
    end

    def markdown(name)
      <<~MARKDOWN
        # Measured on Ruby #{RUBY_VERSION}

        Written by `rake bench`. Each work is done by us and by its rivals in turns, in one run of several rounds. "Times as
        fast" is the median of the rounds, with their middle half. The ratio to reach compares the best of each, our cost
        with the rival's: below 1 we cost less. Beside a cost stand its median and its spread (half the distance between
        the quartiles).

        #{Machine.lines.map { |line| "- #{line}" }.join("\n")}

        ![How many times as fast](#{name}-ratios.svg)

        | work | times as fast | ratio | to reach | reached | ours | rival | its cost |
        |---|---:|---:|---:|---|---|---|---|
        #{Bench.rows.map { |row| table_row(row) }.join("\n")}

        ## Counted

        | what | value | at most | reached |
        |---|---:|---:|---|
        #{Bench.counts.map { |count| count_row(count) }.join("\n")}

        ## How cost grows

        #{Bench.growths.map { |growth| growth_section(name, growth) }.join("\n\n")}
        #{left_out}
      MARKDOWN
    end

    def table_row(row)
      speed = format("%.2f (%.2f to %.2f)", *row.speed.to_a.values_at(1, 0, 2))
      cells = ["#{row.subject}: #{row.work}", speed, format("%.2f", row.ratio), row.goal, verdict(row), series(row.ours), row.rival.name, series(row.rival)]
      "| #{cells.join(" | ")} |"
    end

    def count_row(count)
      limit = count.limit && "#{number(count.limit)} #{count.unit}"
      "| #{count.what} | #{number(count.value)} #{count.unit} | #{limit} | #{("yes" if count.reached?) || "**no**" if count.limit} |"
    end

    def growth_section(name, growth)
      names = growth.series.keys
      spreads = growth.spreads
      lines = spreads.values.first.keys.map do |x|
        "| #{number(x)} | #{names.map { |series| time(spreads[series][x].median) }.join(" | ")} |"
      end
      <<~MARKDOWN.chomp
        ![#{growth.title}](#{name}-#{growth.file}.svg)

        | #{growth.x_label} | #{names.join(" | ")} |
        |---:|#{"---:|" * names.size}
        #{lines.join("\n")}
      MARKDOWN
    end

    def left_out
      return if Bench.left_out.empty?

      "\n## Left out\n\n#{Bench.left_out.map { |text| "- #{text}" }.join("\n")}"
    end
  end
end
