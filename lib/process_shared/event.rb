# frozen_string_literal: true

require "process_shared"

module ProcessShared
  # Something that happens, or has happened: processes wait until it is set. The interface is that of
  # +Concurrent::Event+.
  #
  # When a process is killed while it waits, or while it sets the event, all others wake up all the same. Threads that
  # wait when the event is set go on, also if it is reset at once.
  #
  # @example Wait until all is ready
  #   ready = ProcessShared::Event.new
  #   child = fork { exit!(ready.wait(10)) }
  #   ready.set
  #   Process.wait2(child).last.success? # => true
  class Event
    # @!method marshal_dump
    #   Refuses to be marshalled: the object is the shared thing, not a description of it.
    #   @raise [TypeError] always

    # @!parse extend OpenWithSelf

    # @!method initialize(path: nil, mode: 0600)
    #   An event that is not set; one in a file that is there already is as it was left.
    #   @param path [String, Pathname, nil] opens the object in this file, or makes it: see {ProcessShared}
    #   @param mode [Integer] the mode of a file that is made, exactly
    #   @raise [ArgumentError] if another class's file is at +path+
    #   @raise [ProcessError, IncompatibleError, SystemCallError] if there is a +path+ that cannot be used: see {ProcessShared}

    # @!method set
    #   Sets the event, and wakes all who wait for it. Allowed in +trap+ handlers, as all methods that do not wait.
    #   @return [true]

    # @!method set?
    #   @return [Boolean] whether it is set

    # @!method try?
    #   Sets the event unless it is set. Of several processes that try, one succeeds.
    #   @return [Boolean] whether this call has set it

    # @!method reset
    #   Ends that the event is set. Does nothing if it is not.
    #   @return [true]

    # @!method wait(timeout = nil)
    #   Waits until the event is set; returns at once if it is.
    #   @param timeout [Numeric, nil] seconds
    #   @return [Boolean] false if it was not set within the timeout
    #   @raise [ArgumentError] if the timeout is negative
    #   @raise [ThreadError] if it would have to wait in a +trap+ handler

    # @!method waiters
    #   @return [Integer] how many, in all processes, wait for it now

    # @!method path
    #   @return [String, nil] the absolute path of its file; nil if it has none

    # @!method close
    #   Closes this handle in this process; others go on using the event. A thread of this process that waits raises
    #   {ClosedError}.
    #   @return [nil]

    # @!method closed?
    #   @return [Boolean] whether it was closed in this process

    # @!method inspect
    #   Says whether it is set, and how many wait. Never waits, never raises.
    #   @return [String]

    # @!method to_s
    #   Same as {#inspect}.
  end
end
