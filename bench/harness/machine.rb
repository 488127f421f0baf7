# frozen_string_literal: true

require "etc"

module Bench
  # What the figures were measured on.
  module Machine
    module_function

    def lines
      [
        "Ruby #{RUBY_VERSION} (#{RUBY_PLATFORM}), process_shared #{ProcessShared::VERSION}",
        "rivals: #{rivals.join(", ")}",
        "#{processor}, #{Etc.nprocessors} cores, Linux #{Etc.uname[:release]}",
        "load average before: #{@load}, after: #{load_average}"
      ]
    end

    def note_load
      @load = load_average
    end

    def load_average
      File.read("/proc/loadavg").split.first
    rescue SystemCallError
      "unknown"
    end

    def processor
      File.read("/proc/cpuinfo")[/^model name\s*: (.*)/, 1] || RUBY_PLATFORM
    rescue SystemCallError
      RUBY_PLATFORM
    end

    def rivals
      names = ["the Ruby above"]
      names << "ffi #{FFI::VERSION}" if defined?(FFI::VERSION)
      names << `#{Rivals.python} --version`.strip if Rivals.python
      names << "the old gem in #{ENV["OLD_PROCESS_SHARED"]}" if ENV["OLD_PROCESS_SHARED"]
      names
    end
  end
end
