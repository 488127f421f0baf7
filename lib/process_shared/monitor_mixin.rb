# frozen_string_literal: true

require "process_shared/native"

module ProcessShared
  # Makes any object a monitor that works across processes: the drop-in counterpart of Ruby's +::MonitorMixin+, by
  # +include+ (call +super+ in +initialize+) or by +extend+.
  #
  # The object carries a {Monitor}: re-entrant for one fiber, handed on when its holder dies, and still held by the
  # parent alone after a +fork+. What it guards must itself be shared, such as a {SharedMemory}: other instance
  # variables are copied by +fork+ like everything else.
  #
  # @example
  #   class Counter
  #     include ProcessShared::MonitorMixin
  #
  #     def initialize
  #       super
  #       @value = ProcessShared::SharedMemory.new(:int64)
  #     end
  #
  #     def increment = synchronize { @value.write_int64(@value.read_int64 + 1) }
  #   end
  module MonitorMixin
    # A condition variable bound to one monitor, made by {Monitor#new_cond} or {MonitorMixin#new_cond}.
    #
    # Every method needs the monitor to be held by the caller. A signal without a waiter is forgotten; waiters wake
    # in the order they came; one that was killed costs nobody a signal.
    class ConditionVariable
      # @param monitor [Monitor]
      def initialize(monitor)
        @monitor = monitor
        @cond = ProcessShared::ConditionVariable.new
      end

      # Releases the monitor on all its levels, waits, and takes it again on as many before it returns or raises.
      #
      # @param timeout [Numeric, nil] seconds; nil waits for ever
      # @return [Boolean] true when woken, false when the timeout passed
      # @raise [ThreadError] when the caller does not hold the monitor
      # @raise [ArgumentError] when the timeout is negative
      def wait(timeout = nil)
        @monitor.mon_check_owner
        @monitor.wait_for_cond(@cond, timeout)
      end

      # Waits for as long as the block says so; looks before it waits for the first time.
      #
      # @yieldreturn [Boolean] whether to go on waiting; called with the monitor held
      # @return [nil]
      def wait_while
        wait while yield
      end

      # Waits until the block gives a true value; looks before it waits for the first time.
      #
      # @yieldreturn [Boolean] whether the wait is over; called with the monitor held
      # @return [nil]
      def wait_until
        wait until yield
      end

      # Wakes the one that has waited longest, in whatever process it is.
      #
      # @return [self]
      # @raise [ThreadError] when the caller does not hold the monitor
      def signal
        @monitor.mon_check_owner
        @cond.signal
        self
      end

      # Wakes all that wait now.
      #
      # @return [self]
      # @raise [ThreadError] when the caller does not hold the monitor
      def broadcast
        @monitor.mon_check_owner
        @cond.broadcast
        self
      end

      private

      def initialize_copy(_other)
        raise TypeError, "can't copy #{self.class}"
      end
    end

    private_class_method def self.extend_object(object)
      super
      object.__send__(:mon_initialize)
    end

    # Takes the monitor; waits while somebody else has it.
    #
    # @return [void]
    def mon_enter
      @mon_monitor.enter
    end

    # Takes the monitor if nobody else has it.
    #
    # @return [Boolean] whether the caller has it now
    def mon_try_enter
      @mon_monitor.try_enter
    end
    alias try_mon_enter mon_try_enter

    # Gives up one level of the monitor; the last one frees it.
    #
    # @return [void]
    # @raise [ThreadError] when the caller does not hold the monitor
    def mon_exit
      @mon_monitor.exit
    end

    # @return [Boolean] whether anybody, in any process, has the monitor
    def mon_locked?
      @mon_monitor.mon_locked?
    end

    # @return [Boolean] whether the calling fiber has the monitor
    def mon_owned?
      @mon_monitor.mon_owned?
    end

    # Runs the block with the monitor held.
    #
    # @return [Object] the block's value
    def mon_synchronize(&block)
      @mon_monitor.synchronize(&block)
    end
    alias synchronize mon_synchronize

    # @return [MonitorMixin::ConditionVariable] a new condition variable of this object's monitor
    def new_cond
      unless defined?(@mon_monitor)
        mon_initialize
        @mon_made_by_new_cond = true
      end
      ConditionVariable.new(@mon_monitor)
    end

    private

    def initialize(...)
      super
      mon_initialize
    end

    # Gives the object its monitor. A copy made by +dup+ or +clone+ shares the monitor of the original until it
    # calls this, for instance in +initialize_copy+. A +new_cond+ before +super+ in +initialize+ counts as the first call.
    def mon_initialize
      if defined?(@mon_monitor)
        return if defined?(@mon_made_by_new_cond)
        raise ThreadError, "already initialized" if @mon_owner_id == object_id
      end
      @mon_monitor = Monitor.new
      @mon_owner_id = object_id
    end

    def mon_check_owner
      @mon_monitor.mon_check_owner
    end
  end

  class Monitor
    # @return [MonitorMixin::ConditionVariable] a new condition variable of this monitor
    def new_cond
      MonitorMixin::ConditionVariable.new(self)
    end
  end
end
