# frozen_string_literal: true

require "open3"
require "rbconfig"
require "socket"
require_relative "rubies"

# A real server in a directory of its own, which listens on a UNIX socket there; it and all its workers are ended by `stop`.
class Server
  # What a Ruby that is started needs to find the library under test.
  LIBRARY = { "RUBYLIB" => [*Rubies::EXTENSION, Rubies::LIB, *ENV["RUBYLIB"]].uniq.join(":") }.freeze

  def self.installed?(*libraries)
    system(RbConfig.ruby, *libraries.map { |name| "-r#{name}" }, "-e", "", %i[out err] => File::NULL)
  end

  attr_reader :pid, :log

  def initialize(dir, files, *command)
    @dir = dir
    @log = "#{dir}/log"
    files.each { |name, text| File.write("#{dir}/#{name}", text) }
    @pid = spawn(LIBRARY, *command, chdir: dir, pgroup: true, in: File::NULL, %i[out err] => [@log, "a"])
    Watchdog.born(@pid)
  end

  # The body of the answer, or nil while there is none.
  def get(path = "/")
    UNIXSocket.open("#{@dir}/socket") do |socket|
      socket.write("GET #{path} HTTP/1.0\r\n\r\n")
      socket.wait_readable(10) or return
      socket.read[/\r\n\r\n(.+)/m, 1]
    end
  rescue SystemCallError
    nil
  end

  def signal(name) = Process.kill(name, pid)

  def stop
    Process.kill(:KILL, -pid)
    Process.wait(pid)
    Watchdog.gone(pid)
  end
end
