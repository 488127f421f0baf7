# frozen_string_literal: true

module ProcessShared
  # A number of permits that processes take and give. Whoever takes need not be who gives.
  #
  # When a process that waits is killed, no permit and no wake-up is lost. A permit that a process has taken is gone
  # if that process is killed: to guard data, use a {Mutex}.
  #
  # @example At most two at a time
  #   limit = ProcessShared::Semaphore.new(2)
  #   4.times { fork { limit.synchronize { sleep 0.01 } } }
  #   Process.waitall
  #   limit.value # => 2
  class Semaphore
    # Refuses to be marshalled: the object is the shared thing, not a description of it.
    # @raise [TypeError] always
    def marshal_dump; end

    extend OpenWithSelf

    # @param value [Integer] permits there are at first, from 0 to 2**31 - 1
    # @raise [ArgumentError] if it is negative or larger
    # @raise [TypeError] if it is not a number
    def initialize(value = 1); end

    # Takes a permit; waits until there is one.
    # @return [self]
    # @raise [ThreadError] if it would have to wait in a +trap+ handler
    def wait; end

    # Takes a permit if there is one at once, or within the timeout.
    # @param timeout [Numeric, nil] seconds; a negative one counts as passed
    # @return [self]
    # @raise [Errno::EAGAIN] if there is none, without a timeout
    # @raise [Errno::ETIMEDOUT] if there was none within the timeout
    def try_wait(timeout = nil); end

    # Gives a permit.
    # @return [self]
    # @raise [Errno::EOVERFLOW] if there are 2**31 - 1 already
    def post; end

    # @return [Integer] free permits
    def value; end

    # Takes a permit, runs the block, and gives the permit back.
    # @yieldreturn [Object]
    # @return [Object] the block's value
    # @raise [ThreadError] without a block
    def synchronize; end

    # @return [SemaphoreMutex] a lock over this semaphore, which checks no owner
    def to_mtx; end

    # @return [Integer] how many, in all processes, wait for a permit now
    def waiters; end

    # Gives this process's part up. Others go on using it. A thread of this process that waits raises {ClosedError}.
    # @return [nil]
    def close; end

    # @return [Boolean] whether it was closed in this process
    def closed?; end

    # Says how many permits are free and how many wait. Never waits, never raises.
    # @return [String]
    def inspect; end
    alias to_s inspect
  end

  # A lock over a {Semaphore}, as {Semaphore#to_mtx} gives it: taking a permit locks, giving one unlocks. It has no
  # owner: anybody may unlock it, and nothing is handed on when the process that locked it dies.
  #
  # @example
  #   lock = ProcessShared::Semaphore.new(1).to_mtx
  #   lock.synchronize { lock.locked? } # => true
  class SemaphoreMutex
    # Refuses to be marshalled: the object is the shared thing, not a description of it.
    # @raise [TypeError] always
    def marshal_dump; end

    extend OpenWithSelf

    # @param semaphore [Semaphore]
    # @raise [TypeError] if it is none
    def initialize(semaphore); end

    # Takes a permit; waits until there is one.
    # @return [self]
    # @raise [ThreadError] if it would have to wait in a +trap+ handler
    def lock; end

    # Takes a permit if there is one at once, or within the timeout.
    # @param timeout [Numeric, nil] seconds; nil, 0 or less: does not wait
    # @return [Boolean] whether it took one
    def try_lock(timeout = nil); end

    # Gives a permit, whoever took it.
    # @return [self]
    # @raise [ProcessError] over a {BinarySemaphore} that is 1
    def unlock; end

    # Takes a permit, runs the block, and gives the permit back.
    # @yieldreturn [Object]
    # @return [Object] the block's value
    # @raise [ThreadError] without a block
    def synchronize; end

    # Unlocks, sleeps, and locks again before it returns or raises.
    # @param timeout [Numeric, nil] seconds; nil: until +Thread#wakeup+
    # @return [Integer] the seconds slept, rounded, if it was woken
    # @return [nil] if the timeout passed
    # @raise [ArgumentError] if the timeout is negative
    def sleep(timeout = nil); end

    # @return [Boolean] whether the semaphore has no free permit
    def locked?; end

    # Gives this lock up, in this process; the semaphore stays open.
    # @return [nil]
    def close; end

    # @return [Boolean] whether it was closed in this process
    def closed?; end

    # Says whether it is locked. Never waits, never raises.
    # @return [String]
    def inspect; end
    alias to_s inspect
  end

  # A {Semaphore} whose value is 0 or 1.
  #
  # @example
  #   done = ProcessShared::BinarySemaphore.new(0)
  #   child = fork { done.post }
  #   done.wait
  #   Process.wait(child)
  class BinarySemaphore < Semaphore
    # @param value [Integer] 0 or 1
    # @raise [ArgumentError] if it is another number
    def initialize(value = 1); end

    # Gives the permit.
    # @return [self]
    # @raise [ProcessError] if the value is 1 already, and then nothing changes
    def post; end
  end
end
