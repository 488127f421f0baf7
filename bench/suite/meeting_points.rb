# frozen_string_literal: true

# What meeting points cost when nobody has to wait.

{ "set?" => "x.set?", "wait, on a set one" => "x.wait" }.each do |work, code|
  Bench.compare("Event", work) do |c|
    c.code("Event", code, x: ProcessShared::Event.new.tap(&:set))
    Bench::Rivals.concurrently(c, code, goal: 0.5) { |rival| rival::Event.new.tap(&:set) }
  end
end
