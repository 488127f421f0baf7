# frozen_string_literal: true

require "process_shared"

module ProcessShared
  # Processes wait until something has been done so many times. The interface is that of +Concurrent::CountDownLatch+.
  #
  # When a process is killed while it waits, or while it counts down to 0, all others wake up all the same. A process that
  # is killed before it has counted down leaves the count as it is: wait with a timeout where that may happen.
  #
  # @example Wait until all workers are there
  #   ready = ProcessShared::CountDownLatch.new(3)
  #   3.times { fork { ready.count_down } }
  #   ready.wait(10) # => true
  #   Process.waitall
  class CountDownLatch
    # @!method marshal_dump
    #   Refuses to be marshalled: the object is the shared thing, not a description of it.
    #   @raise [TypeError] always

    # @!parse extend OpenWithSelf

    # @!method initialize(count = 1, path: nil, mode: 0600)
    #   @param count [Integer] how often it has to be counted down, from 0 to 2**31 - 1; ignored where the file is there already
    #   @param path [String, Pathname, nil] opens the object in this file, or makes it: see {ProcessShared}
    #   @param mode [Integer] the mode of a file that is made, exactly
    #   @raise [ArgumentError] if it is no Integer, or outside; if another class's file is at +path+
    #   @raise [ProcessError, IncompatibleError, SystemCallError] if there is a +path+ that cannot be used: see {ProcessShared}

    # @!method count_down
    #   Makes the count one less, unless it is 0; wakes all who wait when it comes there. Allowed in +trap+ handlers.
    #   @return [nil]

    # @!method count
    #   @return [Integer] how often it still has to be counted down

    # @!method wait(timeout = nil)
    #   Waits until the count is 0; returns at once if it is.
    #   @param timeout [Numeric, nil] seconds
    #   @return [Boolean] false if it did not get there within the timeout
    #   @raise [ArgumentError] if the timeout is negative
    #   @raise [ThreadError] if it would have to wait in a +trap+ handler

    # @!method waiters
    #   @return [Integer] how many, in all processes, wait now

    # @!method path
    #   @return [String, nil] the absolute path of its file; nil if it has none

    # @!method close
    #   Closes this handle in this process; others go on using the latch. A thread of this process that waits raises
    #   {ClosedError}.
    #   @return [nil]

    # @!method closed?
    #   @return [Boolean] whether it was closed in this process

    # @!method inspect
    #   Says the count, and how many wait. Never waits, never raises.
    #   @return [String]

    # @!method to_s
    #   Same as {#inspect}.
  end
end
