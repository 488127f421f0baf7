# frozen_string_literal: true

module Bench
  # A drawing as SVG text: a white sheet with lines, bars, dots and text on it.
  class SVG
    FONT = "font-family=\"DejaVu Sans, Verdana, Helvetica, sans-serif\""
    INK = "#24292f"
    GREY = "#8c959f"
    FAINT = "#e4e8ec"

    def initialize(width, height)
      @width = width
      @height = height
      @parts = []
    end

    def text(x, y, text, size: 12, anchor: "start", fill: INK, weight: "normal")
      @parts << %(<text x="#{at x}" y="#{at y}" font-size="#{size}" text-anchor="#{anchor}" fill="#{fill}" font-weight="#{weight}" paint-order="stroke" stroke="#ffffff" stroke-width="3">#{escape text}</text>)
    end

    def line(x1, y1, x2, y2, stroke: FAINT, width: 1, dash: nil)
      dash &&= %( stroke-dasharray="#{dash}")
      @parts << %(<line x1="#{at x1}" y1="#{at y1}" x2="#{at x2}" y2="#{at y2}" stroke="#{stroke}" stroke-width="#{width}"#{dash}/>)
    end

    def bar(x, y, width, height, fill:)
      @parts << %(<rect x="#{at x}" y="#{at y}" width="#{at width}" height="#{at height}" rx="2" fill="#{fill}"/>)
    end

    def dot(x, y, fill:)
      @parts << %(<circle cx="#{at x}" cy="#{at y}" r="3.5" fill="#{fill}"/>)
    end

    def path(points, stroke:)
      points = points.map { |x, y| "#{at x},#{at y}" }.join(" ")
      @parts << %(<polyline points="#{points}" fill="none" stroke="#{stroke}" stroke-width="2.5" stroke-linejoin="round"/>)
    end

    def to_s
      <<~SVG
        <svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 #{@width} #{@height}" width="#{@width}" height="#{@height}" #{FONT}>
        <rect width="#{@width}" height="#{@height}" fill="#ffffff"/>
        #{@parts.join("\n")}
        </svg>
      SVG
    end

    private

    def at(number) = number.round(1)

    def escape(text) = text.gsub("&", "&amp;").gsub("<", "&lt;").gsub(">", "&gt;")
  end
end
