# frozen_string_literal: true

module Mach
  # A counting semaphore of the kernel. It ends with the task it belongs to.
  class Semaphore < Port
    POLICIES = { fifo: 0, fixed_priority: 1, reversed: 2, lifo: 2, order_mask: 3, max_policy: 7 }.freeze
    private_constant :POLICIES

    # @param opts [Hash]
    # @option opts [Integer] :value permits at the start (default: 1)
    # @option opts [Task, Integer] :task the task it belongs to (default: this task)
    # @option opts [Symbol] :sync_policy which waiter is woken first: +:fifo+ (default), +:fixed_priority+, +:lifo+
    # @option opts [Port, Integer] :port an existing semaphore's name, instead of making one
    # @raise [ArgumentError] if the policy is unknown
    # @raise [Mach::Error]
    def initialize(opts = {})
      policy = POLICIES.fetch(opts[:sync_policy] || :fifo) { |name| raise ArgumentError, "unknown sync_policy #{name.inspect}" }
      task = (opts[:task] || CALLS.task_self).to_i
      super(port: opts[:port] || CALLS.semaphore_create(task, policy, opts.fetch(:value, 1)))
    end

    # Wakes one waiter, or gives a permit.
    # @return [self]
    # @raise [Mach::Error]
    def signal
      CALLS.semaphore_signal(port)
      self
    end

    # Wakes all waiters.
    # @return [self]
    # @raise [Mach::Error]
    def signal_all
      CALLS.semaphore_signal_all(port)
      self
    end

    # Takes a permit, waiting for one if need be. Other threads run meanwhile; the wait can be interrupted.
    # @return [self]
    # @raise [Mach::Error]
    def wait
      CALLS.semaphore_wait(port)
      self
    end

    # As +wait+, for a time.
    # @param secs [Numeric] seconds
    # @return [self]
    # @raise [Mach::Error::OPERATION_TIMED_OUT]
    def timedwait(secs)
      CALLS.semaphore_timedwait(port, secs)
      self
    end

    # Ends the semaphore. Its waiters get an error.
    # @param opts [Hash]
    # @option opts [Task, Integer] :task the task it belongs to (default: this task)
    # @return [self]
    # @raise [Mach::Error]
    def destroy(opts = {})
      CALLS.semaphore_destroy((opts[:task] || ipc_space).to_i, port)
      self
    end
  end
end
