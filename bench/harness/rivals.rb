# frozen_string_literal: true

require "etc"
require "fileutils"
require "open3"
require "tmpdir"

module Bench
  # The rivals that may not be on this machine.
  module Rivals
    class << self
      # FFI::MemoryPointer of `size` bytes, or nil.
      def ffi_memory(size)
        require "ffi"
        FFI::MemoryPointer.new(:char, size)
      rescue LoadError
        nil
      end

      # concurrent-ruby, or nil (Debian: ruby-concurrent).
      def concurrent
        require "concurrent"
        Concurrent
      rescue LoadError
        nil
      end

      # Adds concurrent-ruby's class of the same name to a comparison, where it is there: the block gives the object.
      def concurrently(comparison, code, goal:)
        return comparison.leave_out("concurrent-ruby", "it is not there") unless concurrent

        comparison.code("concurrent-ruby", code, x: yield(concurrent), goal: goal)
      end

      # ActiveSupport::Cache, or nil (Debian: ruby-activesupport).
      def active_support_cache
        require "logger" # ActiveSupport 6.1 takes it for granted
        require "active_support"
        require "active_support/cache"
        ActiveSupport::Cache
      rescue LoadError
        nil
      end

      # The path of the UNIX socket of a Redis of our own, or nil.
      def redis
        @redis ||= server { |socket| %W[redis-server --port 0 --unixsocket #{socket} --save] << "" }
      end

      # The same of a memcached.
      def memcached
        @memcached ||= server { |socket| %W[memcached -s #{socket} -u #{Etc.getpwuid.name}] }
      end

      # The path of python3, or nil.
      def python
        return @python if defined?(@python)

        _, status = Open3.capture2e("python3", "-c", "import multiprocessing")
        @python = ("python3" if status.success?)
      rescue SystemCallError
        @python = nil
      end

      # Seconds per operation that a program prints.
      def run(*command)
        output, status = Open3.capture2(*command)
        raise "#{command.first(2).join(" ")} failed" unless status.success?

        Float(output)
      end

      # Adds the old gem to a comparison, where OLD_PROCESS_SHARED is the path of a checkout of it that loads. It has
      # our names, so it runs in a process of its own: `setup` makes x.
      def old_gem(comparison, setup, code)
        return unless old_gem_path

        program = File.expand_path("../old_gem.rb", __dir__)
        command = [Gem.ruby, "-W0", "-I#{old_gem_path}/lib", program, setup, code, Bench.sample_seconds.to_s]
        return comparison.leave_out("the old gem", "it does not run this here") unless works?(command)

        comparison.timed("process_shared 0.2") { run(*command) }
      end

      private

      # Starts the command that the block gives for a socket, until the end.
      def server
        folder = Dir.mktmpdir
        socket = "#{folder}/socket"
        pid = spawn(*yield(socket), chdir: folder, out: File::NULL, err: File::NULL)
        owner = Process.pid
        at_exit { end_server(pid, folder) if Process.pid == owner }
        sleep 0.01 until File.socket?(socket) || Process.wait(pid, Process::WNOHANG)
        socket if File.socket?(socket)
      rescue Errno::ENOENT
        nil
      end

      def end_server(pid, folder)
        Process.kill(:KILL, pid)
        Process.wait(pid)
      rescue SystemCallError
        nil # it ended by itself
      ensure
        FileUtils.remove_entry(folder)
      end

      def old_gem_path = ENV["OLD_PROCESS_SHARED"]

      def works?(command)
        run(*command, err: File::NULL) && true
      rescue StandardError
        false
      end
    end
  end
end
