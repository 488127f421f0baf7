# frozen_string_literal: true

module ProcessShared
  # On macOS threads sleep on a Mach semaphore, and a fork does not copy the right to use it. So every fork that Ruby
  # makes (+fork+, +Process.fork+, +IO.popen("-")+, +Process.daemon+) passes here, and the child is handed the rights
  # before it goes on. The extension does the work; DESIGN.md explains it.
  #
  # Forks by C code do not pass here. In their children, using an object made before the fork raises ProcessError.
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

    # Ruby's own +daemon+ forks in C, past +_fork+. This does the same: the process goes on as a child without a
    # terminal, in /, with its standard streams on /dev/null.
    #
    # The process that made the existing objects has ended then, and their semaphores with it. Waiters for these objects
    # poll every 10 ms. Waiters for objects made afterwards are woken at once.
    #
    # @param nochdir [Boolean] stay in the working directory
    # @param noclose [Boolean] keep the standard streams
    # @return [0]
    # @raise [ProcessError, SystemCallError] if nothing was forked
    def daemon(nochdir = nil, noclose = nil)
      exit!(0) if fork
      setsid
      Dir.chdir("/") unless nochdir
      unless noclose
        STDIN.reopen(File::NULL, "r")
        [STDOUT, STDERR].each { |stream| stream.reopen(File::NULL, "w") }
      end
      0
    end

    Process.singleton_class.prepend(self)
  end
  private_constant :ForkHook, :Handover, :MachCalls
end
