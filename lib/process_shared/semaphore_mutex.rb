# frozen_string_literal: true

require "process_shared"

module ProcessShared
  # A lock over a {Semaphore}, as {Semaphore#to_mtx} gives it: taking a permit locks, giving one unlocks. It has no
  # owner: anybody may unlock it, and nothing is handed on when the process that locked it dies.
  #
  # @example
  #   lock = ProcessShared::Semaphore.new(1).to_mtx
  #   lock.synchronize { lock.locked? } # => true
  class SemaphoreMutex
    # @!method marshal_dump
    #   Refuses to be marshalled: the object is the shared thing, not a description of it.
    #   @raise [TypeError] always

    # @!parse extend OpenWithSelf

    # @!method initialize(semaphore)
    #   @param semaphore [Semaphore]
    #   @raise [TypeError] if it is none

    # @!method lock
    #   Takes a permit; waits until there is one.
    #   @return [self]
    #   @raise [ThreadError] if it would have to wait in a +trap+ handler

    # @!method try_lock(timeout = nil)
    #   Takes a permit if there is one at once, or within the timeout.
    #   @param timeout [Numeric, nil] seconds; nil, 0 or less: does not wait
    #   @return [Boolean] whether it took one

    # @!method unlock
    #   Gives a permit, whoever took it.
    #   @return [self]
    #   @raise [ProcessError] over a {BinarySemaphore} that is 1

    # @!method synchronize
    #   Takes a permit, runs the block, and gives the permit back.
    #   @yieldreturn [Object]
    #   @return [Object] the block's value
    #   @raise [ThreadError] without a block

    # @!method sleep(timeout = nil)
    #   Unlocks, sleeps, and locks again before it returns or raises.
    #   @param timeout [Numeric, nil] seconds; nil: until +Thread#wakeup+
    #   @return [Integer] the seconds slept, rounded, if it was woken
    #   @return [nil] if the timeout passed
    #   @raise [ArgumentError] if the timeout is negative

    # @!method locked?
    #   @return [Boolean] whether the semaphore has no free permit

    # @!method close
    #   Gives this lock up, in this process; the semaphore stays open.
    #   @return [nil]

    # @!method closed?
    #   @return [Boolean] whether it was closed in this process

    # @!method inspect
    #   Says whether it is locked. Never waits, never raises.
    #   @return [String]

    # @!method to_s
    #   Same as {#inspect}.
  end
end
