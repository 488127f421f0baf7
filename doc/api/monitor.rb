# frozen_string_literal: true

module ProcessShared
  # A {Mutex} that its holder can lock again, with the API of Ruby's +::Monitor+. It is free when it was left as often
  # as it was entered. The count never crosses a +fork+; a lock that is handed on after a death starts anew.
  #
  # @example
  #   monitor = ProcessShared::Monitor.new
  #   monitor.synchronize { monitor.synchronize { monitor.mon_owned? } } # => true
  class Monitor < Mutex
    # Takes the monitor, or one more level of it; waits while somebody else has it.
    # @return [nil]
    # @raise [ProcessError] if waiting could never end because another fiber of this thread has it
    # @raise [ThreadError] if it would have to wait in a +trap+ handler
    def enter; end
    alias mon_enter enter

    # Takes the monitor, or one more level of it, if that is possible at once, or within the timeout.
    # @param timeout [Numeric, nil] seconds; nil, 0 or less: does not wait
    # @return [Boolean] whether the caller has it now
    def try_enter(timeout = nil); end
    alias try_lock try_enter
    alias mon_try_enter try_enter
    alias try_mon_enter try_enter

    # Gives one level up.
    # @return [nil]
    # @raise [ProcessError] if this fiber does not have the monitor
    def exit; end
    alias mon_exit exit

    # Same as {#enter}, but for the result.
    # @return [self]
    # @raise [ProcessError] as {#enter}
    def lock; end

    # Same as {#exit}, but for the result.
    # @return [self]
    # @raise [ProcessError] as {#exit}
    def unlock; end

    # @return [Boolean] whether anybody, in any process, has the monitor
    def mon_locked?; end

    # @return [Boolean] whether this fiber has the monitor
    def mon_owned?; end

    # @return [nil]
    # @raise [ProcessError] if this fiber does not have the monitor
    def mon_check_owner; end

    # Runs the block with the monitor held.
    # @yieldreturn [Object]
    # @return [Object] the block's value
    # @raise [LocalJumpError] without a block, as Ruby's own Monitor
    def synchronize; end
    alias mon_synchronize synchronize

    # Gives all levels up, waits on the condition variable, and takes as many levels again before it returns or
    # raises.
    # @param cond [ConditionVariable]
    # @param timeout [Numeric, nil] seconds; nil waits for ever
    # @return [Boolean] true if it was woken, false if the timeout passed
    # @raise [ProcessError] if this fiber does not have the monitor
    def wait_for_cond(cond, timeout); end
  end
end
