# frozen_string_literal: true

require "process_shared"

module ProcessShared
  # +Thread::Mutex+ across processes: one fiber of one thread of one process holds it at a time.
  #
  # *Fork.* The parent goes on holding what it held; the child does not hold it, and cannot unlock it.
  #
  # *Death.* When a holder is killed, crashes, calls +exit!+ or +exec+, or its thread ends, the kernel hands the lock
  # on: the next {#lock} succeeds at once, and {#abandoned?} is true until that holder unlocks. Data that was being
  # changed may be half-changed; +on_abandoned+ is the place to repair it. The death of a process that waits
  # concerns nobody.
  #
  # It takes at most 128 bytes of shared memory, and no descriptor. With a +path+ it takes a file below 64 KB and a descriptor,
  # and unrelated processes share it.
  #
  # @example
  #   mutex = ProcessShared::Mutex.new
  #   total = ProcessShared::SharedMemory.new(:int)
  #   2.times { fork { 100.times { mutex.synchronize { total.write_int(total.read_int + 1) } } } }
  #   Process.waitall
  #   total.read_int # => 200
  #
  # @example One at a time, of processes that know nothing of each other
  #   require "tmpdir"
  #   path = File.join(Dir.mktmpdir, "import.lock")
  #   ProcessShared::Mutex.new(path: path).synchronize { :imported } # => :imported
  #
  # @example Data that is repaired after a crash
  #   ledger = ProcessShared::SharedMemory.new(64)
  #   mutex = ProcessShared::Mutex.new(on_abandoned: ->(_mutex) { ledger.clear })
  #   Process.wait(fork { mutex.lock && ledger.write_string("half") && Process.kill(:KILL, Process.pid) })
  #   mutex.synchronize { ledger.get_string(0) } # => ""
  class Mutex
    # @!method marshal_dump
    #   Refuses to be marshalled: the object is the shared thing, not a description of it.
    #   @raise [TypeError] always

    # @!parse extend OpenWithSelf

    # @!method initialize(on_abandoned: nil, path: nil, mode: 0600)
    #   @param on_abandoned [#call, nil] called with the mutex by the caller that takes the lock over from a holder that
    #     died, with the lock held, before {#lock}, {#try_lock} or {#synchronize} goes on. If it raises, the lock is
    #     released, stays marked as abandoned, and the exception comes out of that call. If it gives the lock away before
    #     it returns ({#sleep}, {ConditionVariable#wait}, {#close}), the next holder finds the lock abandoned too; only an
    #     {#unlock} in it says that the data are in order.
    #   @param path [String, Pathname, nil] opens the object in this file, or makes it: see {ProcessShared}
    #   @param mode [Integer] the mode of a file that is made, exactly
    #   @raise [TypeError] if +on_abandoned+ cannot be called with one argument
    #   @raise [ArgumentError] if it is given a block: {OpenWithSelf#open} takes one; if another class's file is at +path+
    #   @raise [ProcessError, IncompatibleError, SystemCallError] if there is a +path+ that cannot be used: see {ProcessShared}

    # @!method lock
    #   Takes the lock; waits while somebody else has it.
    #   @return [self]
    #   @raise [ProcessError] if this fiber has it already, or if waiting could never end because another fiber of
    #     this thread has it
    #   @raise [ThreadError] if it would have to wait in a +trap+ handler

    # @!method try_lock(timeout = nil)
    #   Takes the lock if that is possible at once, or within the timeout.
    #   @param timeout [Numeric, nil] seconds; nil, 0 or less: does not wait
    #   @return [Boolean] whether the caller has it now; false too if it had it before

    # @!method unlock
    #   Releases the lock.
    #   @return [self]
    #   @raise [ProcessError] if it is not locked, or locked by another fiber, thread or process

    # @!method synchronize
    #   Runs the block with the lock held. In a child that was forked in the block the lock is the parent's: an exception
    #   or a +throw+ that leaves the block goes on there, and falling out of the block raises {ProcessError}.
    #   @yieldreturn [Object]
    #   @return [Object] the block's value
    #   @raise [ThreadError] without a block
    #   @raise [ProcessError] as {#lock}

    # @!method sleep(timeout = nil)
    #   Releases the lock, sleeps, and takes it again before it returns or raises.
    #   @param timeout [Numeric, nil] seconds; nil: until +Thread#wakeup+ or {#wakeup_first}
    #   @return [Integer] the seconds slept, rounded, if it was woken
    #   @return [nil] if the timeout passed
    #   @raise [ArgumentError] if the timeout is negative
    #   @raise [ProcessError] if this fiber does not have the lock

    # @!method wakeup_first
    #   Wakes the one that has slept longest in {#sleep} of this mutex, in whatever process it is.
    #   @return [self]

    # @!method locked?
    #   @return [Boolean] whether anybody, in any process, has the lock

    # @!method owned?
    #   @return [Boolean] whether this fiber has the lock

    # @!method abandoned?
    #   @return [Boolean] true from the death of a holder until the next holder, who took the lock over, unlocks it

    # @!method owner_pid
    #   @return [Integer, nil] the process that has the lock

    # @!method waiters
    #   @return [Integer] how many, in all processes, wait for the lock now

    # @!method path
    #   @return [String, nil] the absolute path of its file; nil if it has none

    # @!method close
    #   Ends the use of this object in this process; other processes go on using the lock. If the calling fiber holds
    #   the lock, it is released; what another thread of this process holds is released by its +synchronize+ or +unlock+.
    #   A thread of this process that waits for the lock raises {ClosedError}.
    #   @return [nil]

    # @!method closed?
    #   @return [Boolean] whether it was closed in this process

    # @!method inspect
    #   Says who has it and how many wait. Never waits, never raises.
    #   @return [String]

    # @!method to_s
    #   Same as {#inspect}.
  end
end
