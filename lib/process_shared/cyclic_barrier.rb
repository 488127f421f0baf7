# frozen_string_literal: true

require "process_shared"

module ProcessShared
  # So many processes or threads wait for each other, again and again: no one goes on until all have come. The interface is
  # that of +Concurrent::CyclicBarrier+.
  #
  # All pass, or none does. When a party is killed while it waits, the barrier is broken: the others stop waiting at once,
  # their {#wait} returns false, and so does each later one until {#reset}. The same happens when a party's timeout passes, or
  # an exception ends its wait. If a party is killed while it runs Ruby code in the middle of its wait (a signal handler, other
  # fibers of its thread, the action), the others know within some 10 ms.
  #
  # @example Workers that do each step together
  #   barrier = ProcessShared::CyclicBarrier.new(3) { puts "all are done with a step" }
  #   3.times { fork { 2.times { barrier.wait } } }
  #   Process.waitall
  class CyclicBarrier
    # @!method marshal_dump
    #   Refuses to be marshalled: the object is the shared thing, not a description of it.
    #   @raise [TypeError] always

    # @!parse extend OpenWithSelf

    # @!method initialize(parties, path: nil, mode: 0600)
    #   A barrier at which nobody waits; one in a file that others have open is as it is.
    #   @param parties [Integer] how many wait for each other, from 1 to 32,767
    #   @param path [String, Pathname, nil] opens the object in this file, or makes it: see {ProcessShared}
    #   @param mode [Integer] the mode of a file that is made, exactly
    #   @yield what the last one to come does before all go on. Those who wait then wait for it to end, whatever their timeouts.
    #     If it raises, the exception comes out of the last one's {#wait}, and the barrier is broken. Each handle of a barrier
    #     with a path has its own
    #   @raise [ArgumentError] if it is no Integer, or outside; if another class's file, or that of a barrier with another
    #     number of parties, is at +path+
    #   @raise [ProcessError, IncompatibleError, SystemCallError] if there is a +path+ that cannot be used: see {ProcessShared}

    # @!method wait(timeout = nil)
    #   Waits until all have come.
    #   @param timeout [Numeric, nil] seconds. When it passes, the barrier is broken
    #   @return [Boolean] false if the barrier was broken or reset
    #   @raise [ArgumentError] if the timeout is negative
    #   @raise [ThreadError] if it would have to wait in a +trap+ handler
    #   @raise [ProcessError] in the barrier's own action, without a timeout; if more than 32,767 threads wait for objects
    #     made by one process; if more than 800 threads wait for a barrier with a path

    # @!method reset
    #   Turns away those who wait, whose {#wait} returns false, and mends a broken barrier.
    #   @return [nil]

    # @!method broken?
    #   @return [Boolean] whether a party has died, or stopped waiting, since the last {#reset}

    # @!method number_waiting
    #   @return [Integer] how many have come and wait for the others

    # @!method parties
    #   @return [Integer] how many wait for each other

    # @!method waiters
    #   @return [Integer] how many, in all processes, are in {#wait} now, also those that have been told to go on

    # @!method path
    #   @return [String, nil] the absolute path of its file; nil if it has none

    # @!method close
    #   Closes this handle in this process; others go on using the barrier. A thread of this process that waits raises
    #   {ClosedError}, which breaks the barrier.
    #   @return [nil]

    # @!method closed?
    #   @return [Boolean] whether it was closed in this process

    # @!method inspect
    #   Says how many parties there are, and how many wait. Never waits, never raises.
    #   @return [String]

    # @!method to_s
    #   Same as {#inspect}.
  end
end
