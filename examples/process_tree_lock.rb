# frozen_string_literal: true

# One lock for a tree of processes: a program, the tool it starts, and what that tool starts in turn. Whoever
# cannot have the lock in time is told who has it, and goes on without.

require "process_shared"

$stdout.sync = true
LOCK = ProcessShared::Mutex.new

def deploy(name, patience)
  unless LOCK.try_lock(patience)
    puts "#{name}: gave up after #{patience} s, process #{LOCK.owner_pid} is deploying"
    return false
  end

  begin
    puts "#{name}: deploying"
    yield if block_given?
  ensure
    LOCK.unlock
  end
  true
end

tool = fork do
  grandchild = nil
  deploy("tool", 1) do
    grandchild = fork do
      busy = deploy("grandchild", 0.05)      # its parent holds the lock, and forking does not hand it on
      exit !busy
    end
    Process.wait(grandchild)
  end
  exit $?.success? && deploy("tool, again", 1)
end

Process.wait(tool)
abort "the lock did not hold in the tree" unless $?.success?
abort "the lock was not given back" unless deploy("program", 1)
