# frozen_string_literal: true

# A leader, a limit and a counter, each once per host, for any number of servers and workers. They have paths, so
# processes that are not related share them: a server before and after its restart, several `sidekiq` processes started
# by systemd, a console. Spawned programs stand for these processes here.

require "process_shared"

class Host
  def initialize(directory)
    @leader = ProcessShared::Mutex.new(path: File.join(directory, "leader"))
    @limit = ProcessShared::Semaphore.new(2, robust: true, path: File.join(directory, "limit"))
    @served = ProcessShared::AtomicFixnum.new(path: File.join(directory, "served"))
  end

  attr_reader :served

  # Runs the block in one process of the host: in another one at once when that process is gone, however it went.
  def lead(&job)
    Thread.new { @leader.synchronize(&job) }
  end

  def leader = @leader.owner_pid

  # At most two processes of the host are in the block, and what they do is counted.
  def serve
    @limit.synchronize { yield.tap { @served.increment } }
  end
end

return unless $PROGRAM_NAME == __FILE__

# A program that knows the directory and nothing else.
if ARGV.any?
  host = Host.new(ARGV.first)
  host.lead { sleep }
  5.times { host.serve { sleep 0.01 } }
  sleep # as a server does until it is told to stop
end

require "rbconfig"
require "tmpdir"

Dir.mktmpdir do |directory|
  host = Host.new(directory)
  start = -> { spawn(RbConfig.ruby, *$LOAD_PATH.map { |path| "-I#{path}" }, __FILE__, directory) }
  old = start.call
  sleep 0.01 until host.leader == old
  new = start.call
  sleep 0.01 until host.served.value == 10
  puts "#{host.served.value} requests served by two programs, and one of them leads"
  abort "a leader too many" unless host.leader == old

  Process.kill(:TERM, old) && Process.wait(old)
  sleep 0.01 until host.leader == new
  puts "the old one is gone, and the new one leads"
  Process.kill(:TERM, new) && Process.wait(new)
end
