# frozen_string_literal: true

module ProcessShared
  # On macOS, what threads sleep on is a Mach semaphore, and a fork does not copy the right to use it. So every fork
  # that Ruby makes (+fork+, +Process.fork+, +IO.popen("-")+) passes here, and the child is handed what it needs before
  # it goes on. How that works is told in DESIGN.md, and the work is done by the extension.
  #
  # +Process.daemon+ and forks by C code do not pass here. In such a child, using an object made before it raises
  # ProcessError.
  module ForkHook
    # @return [Integer] as Process._fork
    # @raise [ProcessError] if the system has no Mach port left: nothing is forked then
    def _fork
      handover = Handover.prepare or return super
      begin
        pid = super
      ensure
        handover.finish(pid)
      end
    end

    Process.singleton_class.prepend(self)
  end
  private_constant :ForkHook, :Handover, :MachCalls
end
