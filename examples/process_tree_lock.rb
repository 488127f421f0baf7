# frozen_string_literal: true

# One lock for a tree of processes: a program, the tool it starts, and what that tool starts in turn. A process that cannot
# have the lock in time is told which process has it, and goes on without. When the holder is killed, the lock is free.

require "process_shared"

$stdout.sync = true
LOCK = ProcessShared::Mutex.new

def deploy(name, patience)
  unless LOCK.try_lock(patience)
    puts "#{name}: gave up after #{patience} s, process #{LOCK.owner_pid} is deploying"
    return false
  end

  begin
    puts "#{name}: deploying#{", and cleaning up what a killed process has left" if LOCK.abandoned?}"
    yield if block_given?
  ensure
    LOCK.unlock
  end
  true
end

return unless $PROGRAM_NAME == __FILE__

tool = fork do
  deploy("tool", 1) do
    Process.wait(fork { exit !deploy("grandchild", 0.05) }) # its parent holds the lock, and forking does not hand it on
    abort "the lock did not hold in the tree" unless $?.success?
    Process.kill(:KILL, Process.pid)
  end
end

Process.wait(tool)
abort "the tool was not killed" unless $?.signaled?
abort "the lock was not given back" unless deploy("program", 1)
