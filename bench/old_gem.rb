# frozen_string_literal: true

# Measures the old gem, whose lib is on the load path, in a process of its own: prints the seconds one operation takes.
# Arguments: Ruby that makes x, Ruby to measure, seconds to measure for.
require_relative "harness/bench"
require "process_shared"

setup, code, seconds = ARGV
Bench.sample_seconds = Float(seconds)
x = eval(setup) # rubocop:disable Security/Eval
print Bench::Comparison.time(code, x)
