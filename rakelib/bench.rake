# frozen_string_literal: true

# Speed, side by side with Ruby's own locks and other rivals. `rake bench` writes bench/results; `rake bench[quick]` only
# sees to it that all of it runs; `rake bench[locks]` measures one subject.

desc "Measure speed and cost against rivals (quick: only see that it runs; or subjects from bench/suite)"
task :bench, [:what] => :compile do |_, args|
  ruby "-Ilib", "bench/run.rb", *args.to_a.flat_map(&:split), verbose: false
end

namespace :bench do
  desc "Draw the charts again from what was recorded in bench/results, or in another directory"
  task :charts, [:dir] do |_, args|
    require_relative "../bench/harness/bench"
    Dir["#{args[:dir] || "bench/results"}/*.json"].each { |file| Bench::Record.read(file).draw(file.delete_suffix(".json")) }
  end
end
