# frozen_string_literal: true

require "process_shared"

module ProcessShared
  # +Thread::ConditionVariable+ across processes: wait, under a lock, until another process says that something changed.
  #
  # A signal that nobody waits for is forgotten, so look at the data before waiting, and again after. Waiters wake in
  # the order they came. One that is killed neither takes a signal with it nor keeps one.
  #
  # *Death of the sender.* A process that is killed after it changed the data and before it calls {#signal} leaves the
  # waiters asleep: the lock is free, and nobody tells them. Where a sender may be killed, wait with a timeout in the loop
  # that looks at the data: the waiter goes on after at most that time.
  #
  # @example A waiter that outlives its sender
  #   mutex = ProcessShared::Mutex.new
  #   cond = ProcessShared::ConditionVariable.new
  #   ready = ProcessShared::SharedMemory.new(:int)
  #   sender = fork { mutex.synchronize { ready.write_int(1) && Process.kill(:KILL, Process.pid) && cond.signal } }
  #   mutex.synchronize { cond.wait(mutex, 0.1) until ready.read_int == 1 }
  #   Process.wait(sender)
  #
  # @example
  #   mutex = ProcessShared::Mutex.new
  #   cond = ProcessShared::ConditionVariable.new
  #   ready = ProcessShared::SharedMemory.new(:bool)
  #   child = fork do
  #     mutex.synchronize do
  #       ready.put(:bool, 0, true)
  #       cond.signal
  #     end
  #   end
  #   mutex.synchronize { cond.wait(mutex) until ready.get(:bool, 0) }
  #   Process.wait(child)
  class ConditionVariable
    # @!method marshal_dump
    #   Refuses to be marshalled: the object is the shared thing, not a description of it.
    #   @raise [TypeError] always

    # @!parse extend OpenWithSelf

    # @!method initialize(path: nil, mode: 0600)
    #   Makes one that nobody waits on, or opens the one in a file.
    #   @param path [String, Pathname, nil] opens the object in this file, or makes it: see {ProcessShared}
    #   @param mode [Integer] the mode of a file that is made, exactly
    #   @raise [ArgumentError] if another class's file is at +path+
    #   @raise [ProcessError, IncompatibleError, SystemCallError] if there is a +path+ that cannot be used: see {ProcessShared}

    # @!method wait(mutex, timeout = nil)
    #   Releases the lock, waits for a signal, and takes the lock again before it returns or raises. A {Monitor} is
    #   released and taken again with all its levels.
    #   @param mutex [Mutex, Monitor, SemaphoreMutex, #sleep] the lock that the caller holds; of another object
    #     +sleep(timeout)+ is called, as Ruby's own does
    #   @param timeout [Numeric, nil] seconds; nil waits for ever
    #   @return [Integer] seconds waited, rounded, if it was woken
    #   @return [nil] if the timeout passed
    #   @raise [ArgumentError] if the timeout is negative
    #   @raise [ProcessError] if the caller does not hold the lock

    # @!method signal
    #   Wakes the one that has waited longest, in whatever process it is.
    #   @return [self]

    # @!method broadcast
    #   Wakes all that wait now.
    #   @return [self]

    # @!method waiters
    #   @return [Integer] how many, in all processes, wait now

    # @!method path
    #   @return [String, nil] the absolute path of its file; nil if it has none

    # @!method close
    #   Closes this handle in this process; others go on using it. A thread of this process that waits raises {ClosedError}.
    #   @return [nil]

    # @!method closed?
    #   @return [Boolean] whether it was closed in this process

    # @!method inspect
    #   Says how many wait. Never waits, never raises.
    #   @return [String]

    # @!method to_s
    #   Same as {#inspect}.
  end
end
