# frozen_string_literal: true

require "process_shared/native"

unless ProcessShared.const_defined?(:MachCalls, false)
  raise LoadError, "mach is for macOS: #{RUBY_PLATFORM} has no Mach kernel"
end

# The parts of macOS's Mach kernel that process_shared builds on, for programs that want them directly: ports, the
# rights to them, semaphores, tasks, the host and its clock. Another system has no such thing, and requiring this file
# there raises LoadError.
#
# A port name is an Integer that means something in one task (process) only. A forked child has none of its parent's
# names, and no Mach::Semaphore made before it: ProcessShared::Semaphore is what crosses a fork.
module Mach
  CALLS = ProcessShared.const_get(:MachCalls)
  private_constant :CALLS

  require "mach/error"
  require "mach/port"
  require "mach/semaphore"
  require "mach/task"
  require "mach/host"

  # @return [Port] the bootstrap port this process was started with
  def self.bootstrap_port
    Port.new(port: CALLS.bootstrap_port)
  end
end
