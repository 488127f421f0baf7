# frozen_string_literal: true

require_relative "c_library"

# Forks as C code makes them: Ruby is not told. `fork` runs the handlers of pthread_atfork(3); glibc's `_Fork` and a bare
# `clone` system call run none.
module CFork
  CLONE = { "x86_64" => 56, "aarch64" => 220 }.freeze # the number of the system call

  class << self
    # Forks by `way` (:fork, :_Fork or :clone), and returns as fork(2) does.
    def call(way = :fork)
      function(way).call & 0xffff_ffff
    end

    def possible?(way = :fork)
      !function(way).nil?
    end

    private

    def function(way)
      (@functions ||= {}).fetch(way) { @functions[way] = way == :clone ? clone : CLibrary.function(way.to_s, 0) }
    end

    def clone
      number = RUBY_PLATFORM.include?("linux") && CLONE[RbConfig::CONFIG["host_cpu"]] or return
      function = CLibrary.function("syscall", 6) or return
      -> { function.call(number, Signal.list["CHLD"], 0, 0, 0, 0) }
    end
  end
end
