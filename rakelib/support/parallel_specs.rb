# frozen_string_literal: true

require "etc"
require "rake"

# The specs spread over one process more than there are processors: they wait more than they work.
module ParallelSpecs
  extend Rake::DSL

  # `where`: files or directories; `env` goes to the processes. Where there is a Gemfile, parallel_rspec would run RSpec by
  # Bundler if nothing else is said.
  def self.run(*where, env: {})
    sh({ "PARALLEL_TESTS_EXECUTABLE" => "rspec" }.merge(env), "parallel_rspec", "-n", (Etc.nprocessors + 1).to_s,
       "--type", "rspec", "--test-options", "--warnings", *where, verbose: false)
  end
end
