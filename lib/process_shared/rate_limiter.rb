# frozen_string_literal: true

require "process_shared"

module ProcessShared
  # How often something may be done, by all processes together: in any time at most +burst+ permits and what the rate
  # makes in that time. A permit is used up when it is taken, and need not be given back. A process that is killed costs
  # the permits that it took or waited for, and nothing else.
  #
  # Time is that of the monotonic clock, which stands still while the machine sleeps.
  #
  # A limiter is one limit for all. For a limit for each address or user, count in a {Cache}, as the second example does: it allows
  # so many in a window of time, which begins with the first. The cache needs room for all addresses whose windows are open.
  #
  # @example A hundred a second, and no more than three at once
  #   limiter = ProcessShared::RateLimiter.new(100, burst: 3)
  #   Array.new(4) { limiter.try_acquire } # => [true, true, true, false]
  #   limiter.try_acquire(1, 0.5) # => true
  # @example At most three in a minute for each address
  #   counts = ProcessShared::Cache.new(1 << 20)
  #   allowed = ->(address) { counts.increment(address, expires_in: 60) <= 3 }
  #   Array.new(4) { allowed.call("192.0.2.1") } # => [true, true, true, false]
  #   allowed.call("192.0.2.2") # => true
  class RateLimiter
    # @!method marshal_dump
    #   Refuses to be marshalled: the object is the shared thing, not a description of it.
    #   @raise [TypeError] always

    # @!parse extend OpenWithSelf

    # @!method initialize(rate, per: 1.0, burst: rate, path: nil, mode: 0600)
    #   @param rate [Numeric] permits
    #   @param per [Numeric] in so many seconds
    #   @param burst [Numeric] the most permits at once, after a rest; at least 1
    #   @param path [String, Pathname, nil] opens the object in this file, or makes it: see {ProcessShared}
    #   @param mode [Integer] the mode of a file that is made, exactly
    #   @raise [ArgumentError] if one of them is not positive, the burst is below 1, or it takes more than 104 days to make;
    #     if a limiter of another rate, or another class's file, is at +path+
    #   @raise [ProcessError, IncompatibleError, SystemCallError] if there is a +path+ that cannot be used: see {ProcessShared}
    #   @raise [TypeError] if one of them is no number

    # @!method try_acquire(n = 1, timeout = nil)
    #   Takes permits if they can be had at once, or within the timeout. When they cannot, that is known, and said, at once;
    #   else it waits for its turn as {#acquire} does. Without a timeout it is allowed in +trap+ handlers.
    #   @param n [Integer] all of them or none
    #   @param timeout [Numeric, nil] seconds; a negative one counts as passed
    #   @return [Boolean] whether they were taken
    #   @raise [ArgumentError] if there are never so many at once

    # @!method acquire(n = 1)
    #   Takes permits; waits until it is their turn, which comes in the order of the calls. A wait that ends by an exception
    #   gives them back if nobody has come after it; if somebody has, they are lost.
    #   @param n [Integer] all of them in one step
    #   @return [self]
    #   @raise [ArgumentError] if there are never so many at once
    #   @raise [ThreadError] if it would have to wait in a +trap+ handler

    # @!method retry_after
    #   @return [Float] seconds until a permit can be had; 0.0 if one can be had now

    # @!method waiters
    #   @return [Integer] how many, in all processes, wait for permits now

    # @!method path
    #   @return [String, nil] the absolute path of its file; nil if it has none

    # @!method close
    #   Closes this handle in this process; others go on using the limiter. A thread of this process that waits raises
    #   {ClosedError}.
    #   @return [nil]

    # @!method closed?
    #   @return [Boolean] whether it was closed in this process

    # @!method inspect
    #   Says when a permit can be had, and how many wait. Never waits, never raises.
    #   @return [String]

    # @!method to_s
    #   Same as {#inspect}.
  end
end
