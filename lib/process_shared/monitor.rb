# frozen_string_literal: true

require "process_shared"

module ProcessShared
  # @!parse class Monitor < Mutex; end

  # A {Mutex} that its holder can lock again, with the API of Ruby's +::Monitor+. It is free when it was left as often
  # as it was entered. The count never crosses a +fork+; a lock that is handed on after a death starts anew.
  #
  # @example
  #   monitor = ProcessShared::Monitor.new
  #   monitor.synchronize { monitor.synchronize { monitor.mon_owned? } } # => true
  class Monitor
    # @!method enter
    #   Takes the monitor, or one more level of it; waits while somebody else has it.
    #   @return [nil]
    #   @raise [ProcessError] if waiting could never end because another fiber of this thread has it
    #   @raise [ThreadError] if it would have to wait in a +trap+ handler

    # @!method mon_enter
    #   Same as {#enter}.

    # @!method try_enter(timeout = nil)
    #   Takes the monitor, or one more level of it, if that is possible at once, or within the timeout.
    #   @param timeout [Numeric, nil] seconds; nil, 0 or less: does not wait
    #   @return [Boolean] whether the caller has it now

    # @!method try_lock(timeout = nil)
    #   Same as {#try_enter}.

    # @!method mon_try_enter(timeout = nil)
    #   Same as {#try_enter}.

    # @!method try_mon_enter(timeout = nil)
    #   Same as {#try_enter}.

    # @!method exit
    #   Gives one level up.
    #   @return [nil]
    #   @raise [ProcessError] if this fiber does not have the monitor

    # @!method mon_exit
    #   Same as {#exit}.

    # @!method lock
    #   Same as {#enter}, but for the result.
    #   @return [self]
    #   @raise [ProcessError] as {#enter}

    # @!method unlock
    #   Same as {#exit}, but for the result.
    #   @return [self]
    #   @raise [ProcessError] as {#exit}

    # @!method mon_locked?
    #   @return [Boolean] whether anybody, in any process, has the monitor

    # @!method mon_owned?
    #   @return [Boolean] whether this fiber has the monitor

    # @!method mon_check_owner
    #   @return [nil]
    #   @raise [ProcessError] if this fiber does not have the monitor

    # @!method synchronize
    #   Runs the block with the monitor held.
    #   @yieldreturn [Object]
    #   @return [Object] the block's value
    #   @raise [LocalJumpError] without a block, as Ruby's own Monitor

    # @!method mon_synchronize
    #   Same as {#synchronize}.

    # @!method wait_for_cond(cond, timeout)
    #   Gives all levels up, waits on the condition variable, and takes as many levels again before it returns or
    #   raises.
    #   @param cond [ConditionVariable]
    #   @param timeout [Numeric, nil] seconds; nil waits for ever
    #   @return [Boolean] true if it was woken, false if the timeout passed
    #   @raise [ProcessError] if this fiber does not have the monitor
  end
end
