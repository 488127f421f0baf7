# frozen_string_literal: true

require "process_shared"

module ProcessShared
  # An Integer of 64 bits that processes change in one step each, without a lock. The interface is that of
  # +Concurrent::AtomicFixnum+. {SharedMemory#atomic} gives one that is part of a SharedMemory.
  #
  # A process may be killed anywhere: a change is made, or it is not. A result that 64 bits cannot hold is a +RangeError+,
  # and then nothing is changed: the number never goes round. All methods may be called in +trap+ handlers.
  #
  # @example Count what all processes do
  #   count = ProcessShared::AtomicFixnum.new
  #   4.times { fork { 100.times { count.increment } } }
  #   Process.waitall
  #   count.value # => 400
  class AtomicFixnum
    # @!method marshal_dump
    #   Refuses to be marshalled: the object is the shared thing, not a description of it.
    #   @raise [TypeError] always

    # @!parse extend OpenWithSelf

    # @!method initialize(initial = 0, path: nil, mode: 0600)
    #   @param initial [Integer] from -2**63 to 2**63 - 1; ignored where the file is there already
    #   @param path [String, Pathname, nil] opens the object in this file, or makes it: see {ProcessShared}
    #   @param mode [Integer] the mode of a file that is made, exactly
    #   @raise [ArgumentError] if it is no Integer; if another class's file is at +path+
    #   @raise [ProcessError, IncompatibleError, SystemCallError] if there is a +path+ that cannot be used: see {ProcessShared}
    #   @raise [RangeError] if it is outside

    # @!method value
    #   @return [Integer]

    # @!method value=(value)
    #   @param value [Integer]
    #   @raise [ArgumentError, RangeError] as {#initialize}

    # @!method increment(delta = 1)
    #   Adds a number.
    #   @param delta [Integer]
    #   @return [Integer] the sum
    #   @raise [RangeError] if it is outside

    # @!method up(delta = 1)
    #   Same as {#increment}.

    # @!method decrement(delta = 1)
    #   Subtracts a number.
    #   @param delta [Integer]
    #   @return [Integer] the difference
    #   @raise [RangeError] if it is outside

    # @!method down(delta = 1)
    #   Same as {#decrement}.

    # @!method update
    #   Makes the value what the block makes of it. The block is called again if another thread or process has changed
    #   the value meanwhile, so it should do nothing else.
    #   @yieldparam value [Integer]
    #   @yieldreturn [Integer]
    #   @return [Integer] the new value
    #   @raise [ThreadError] without a block

    # @!method compare_and_set(expect, update)
    #   Changes the value if it is the one expected.
    #   @param expect [Integer]
    #   @param update [Integer]
    #   @return [Boolean] whether it was

    # @!method path
    #   @return [String, nil] the absolute path of its file; nil if it has none

    # @!method close
    #   Closes this handle in this process; others go on using the number.
    #   @return [nil]

    # @!method closed?
    #   @return [Boolean] whether it was closed in this process

    # @!method inspect
    #   Says the value. Never waits, never raises.
    #   @return [String]

    # @!method to_s
    #   Same as {#inspect}.
  end
end
