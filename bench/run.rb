# frozen_string_literal: true

# Measures everything and writes the results. `rake bench` runs this; by hand:
#   ruby -Ilib bench/run.rb [quick] [SUBJECT ...]      subjects: the files in bench/suite
# With `quick`, and with subjects named, the results go to tmp/bench, else to bench/results.
#
# OLD_PROCESS_SHARED=path of a checkout of the old gem measures that too, where it still runs.

require "process_shared"
require_relative "harness/bench"

SUBJECTS = %w[counted locks paths objects counters meeting_points counter handover broadcast queue map memory marshal creation cache_store].freeze

arguments = ARGV.dup
Bench.quick = !arguments.delete("quick").nil?
chosen = arguments.empty? ? SUBJECTS : SUBJECTS & arguments
abort "no such subject: #{(arguments - SUBJECTS).join(", ")}" unless (arguments - SUBJECTS).empty?

$stdout.sync = true
Bench::Machine.note_load
chosen.each { |subject| require_relative "suite/#{subject}" }

complete = chosen == SUBJECTS && !Bench.quick?
puts Bench::Report.write(complete ? "bench/results" : "tmp/bench")
missed = Bench.rows.reject(&:reached?).size + Bench.counts.reject(&:reached?).size
puts "#{Bench.rows.count(&:goal) + Bench.counts.count(&:limit)} goals, #{missed} not reached"
