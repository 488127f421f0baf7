# frozen_string_literal: true

require "process_shared"

module ProcessShared
  # A number of permits that processes take and give. The process that gives a permit need not be the one that took it.
  #
  # The methods of +Concurrent::Semaphore+ are here too; those that take a number take or give so many permits in one step.
  #
  # When a process that waits is killed, no permit and no wake-up is lost. A permit that a process has taken is gone
  # if that process is killed, unless the semaphore is robust. To guard data, use a {Mutex}.
  #
  # With +robust: true+ a permit belongs to the process that took it. Any of its threads may give it back, other processes
  # may not: a +post+ there raises ProcessError. When the process ends, in whatever way (kill, crash, +exit!+, +exec+), its
  # permits are free again at once, also while everybody sleeps. A forked child holds none of its parent's. A permit costs about
  # as much as a Mutex; each two thousand semaphores that a process has taken permits of cost it a thread, which sleeps.
  # Those who wait look every 10 ms on macOS, and on Linux before 5.16.
  #
  # @example At most two at a time
  #   limit = ProcessShared::Semaphore.new(2)
  #   4.times { fork { limit.synchronize { sleep 0.01 } } }
  #   Process.waitall
  #   limit.value # => 2
  # @example What a killed process held is free again
  #   limit = ProcessShared::Semaphore.new(1, robust: true)
  #   worker = fork { limit.wait; Process.kill(:KILL, Process.pid) }
  #   Process.wait(worker)
  #   limit.try_wait(1).holders.values # => [1]
  class Semaphore
    # @!method marshal_dump
    #   Refuses to be marshalled: the object is the shared thing, not a description of it.
    #   @raise [TypeError] always

    # @!parse extend OpenWithSelf

    # @!method initialize(value = 1, robust: false, path: nil, mode: 0600)
    #   @param value [Integer] permits there are at first, from 0 to 2**31 - 1; ignored where the file is there already
    #   @param robust [Boolean] whether permits belong to processes; they are all free again where everybody who had the
    #     file open is gone
    #   @param path [String, Pathname, nil] opens the object in this file, or makes it: see {ProcessShared}
    #   @param mode [Integer] the mode of a file that is made, exactly
    #   @raise [ArgumentError] if it is negative or larger; if another class's file is at +path+
    #   @raise [ProcessError, IncompatibleError, SystemCallError] if there is a +path+ that cannot be used: see {ProcessShared}
    #   @raise [TypeError] if it is not a number

    # @!method wait
    #   Takes a permit; waits until there is one.
    #   @return [self]
    #   @raise [ThreadError] if it would have to wait in a +trap+ handler

    # @!method try_wait(timeout = nil)
    #   Takes a permit if there is one at once, or within the timeout.
    #   @param timeout [Numeric, nil] seconds; a negative one counts as passed
    #   @return [self]
    #   @raise [Errno::EAGAIN] if there is none, without a timeout
    #   @raise [Errno::ETIMEDOUT] if there was none within the timeout

    # @!method post
    #   Gives a permit.
    #   @return [self]
    #   @raise [Errno::EOVERFLOW] if there are 2**31 - 1 already
    #   @raise [ProcessError] if it is robust, and this process holds none; nothing is changed then

    # @!method value
    #   @return [Integer] free permits; negative while more were taken by {#reduce_permits} than there were

    # @!method synchronize
    #   Takes a permit, runs the block, and gives the permit back. A child that was forked in the block, and leaves it,
    #   gives nothing back: the permit is the parent's.
    #   @yieldreturn [Object]
    #   @return [Object] the block's value
    #   @raise [ThreadError] without a block

    # @!method acquire(permits = 1)
    #   Takes so many permits, in one step; waits until there are so many. Those who want several stand in line, over all
    #   processes: first come, first served, and nobody who wants fewer overtakes the first of them. Whoever is killed in
    #   line is passed by; a process that is stopped (SIGSTOP) keeps its place, and those behind it wait. A fiber under a
    #   Fiber.scheduler may lose its turn to another. With a block it gives them back afterwards, as {#synchronize} does.
    #   @param permits [Integer] from 0 to 2**30 - 1
    #   @yieldreturn [Object]
    #   @return [nil, Object] the block's value; nil without a block
    #   @raise [ArgumentError] for any other number
    #   @raise [ThreadError] if it would have to wait in a +trap+ handler

    # @!method try_acquire(permits = 1, timeout = nil)
    #   Takes so many permits, in one step, if there are so many at once, or within the timeout. Several only if nobody stands
    #   in line for some, or in its turn.
    #   @param permits [Integer] from 0 to 2**30 - 1
    #   @param timeout [Numeric, nil] seconds; a negative one counts as passed
    #   @yieldreturn [Object]
    #   @return [Boolean] whether it took them, without a block
    #   @return [Object, nil] the block's value with one; nil if it took none
    #   @raise [ArgumentError] for any other number

    # @!method release(permits = 1)
    #   Gives so many permits, in one step.
    #   @param permits [Integer] from 0 to 2**31 - 1
    #   @return [nil]
    #   @raise [ArgumentError] for any other number
    #   @raise [Errno::EOVERFLOW] if there would be more than 2**31 - 1; it gives none then
    #   @raise [ProcessError] if it is robust, and this process holds fewer; it gives none then

    # @!method drain_permits
    #   Takes all permits that are free.
    #   @return [Integer] how many; a negative number is a debt of {#reduce_permits}, which is gone now

    # @!method reduce_permits(reduction)
    #   Takes permits without waiting: free ones, and then those that are given next. {#value} is negative meanwhile. A
    #   robust semaphore's limit is lower by so many.
    #   @param reduction [Integer] how many, from 0 to 2**31 - 1
    #   @return [nil]
    #   @raise [ArgumentError] for any other number, or if the value would be less than 1 - 2**30 (a BinarySemaphore's: less than 0)

    # @!method resize(limit)
    #   Changes how many permits a robust semaphore has. More are free at once; fewer, as they come back: {#value} is negative
    #   meanwhile.
    #   @param limit [Integer] from 0 to 2**31 - 1
    #   @return [self]
    #   @raise [ArgumentError] for any other number
    #   @raise [ProcessError] if it is not robust

    # @!method holders
    #   The processes that hold permits of a robust semaphore now.
    #   @return [Hash{Integer => Integer}] pids, and how many permits
    #   @raise [ProcessError] if it is not robust

    # @!method available_permits
    #   Same as {#value}.
    #   @return [Integer]

    # @!method to_mtx
    #   @return [SemaphoreMutex] a lock over this semaphore, which checks no owner

    # @!method waiters
    #   @return [Integer] how many, in all processes, wait for a permit now

    # @!method path
    #   @return [String, nil] the absolute path of its file; nil if it has none

    # @!method close
    #   Closes this handle in this process; others go on using the semaphore. A thread of this process that waits raises
    #   {ClosedError}.
    #   @return [nil]

    # @!method closed?
    #   @return [Boolean] whether it was closed in this process

    # @!method inspect
    #   Says how many permits are free and how many wait. Never waits, never raises.
    #   @return [String]

    # @!method to_s
    #   Same as {#inspect}.
  end
end
