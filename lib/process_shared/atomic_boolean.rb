# frozen_string_literal: true

require "process_shared"

module ProcessShared
  # True or false, changed by processes in one step each, without a lock. The interface is that of
  # +Concurrent::AtomicBoolean+. All methods may be called in +trap+ handlers.
  #
  # @example One of many does it
  #   begun = ProcessShared::AtomicBoolean.new
  #   done = ProcessShared::AtomicFixnum.new
  #   4.times { fork { done.increment if begun.make_true } }
  #   Process.waitall
  #   done.value # => 1
  class AtomicBoolean
    # @!method marshal_dump
    #   Refuses to be marshalled: the object is the shared thing, not a description of it.
    #   @raise [TypeError] always

    # @!parse extend OpenWithSelf

    # @!method initialize(initial = false, path: nil, mode: 0600)
    #   @param initial [Object] true unless it is nil or false; ignored where the file is there already
    #   @param path [String, Pathname, nil] opens the object in this file, or makes it: see {ProcessShared}
    #   @param mode [Integer] the mode of a file that is made, exactly
    #   @raise [ArgumentError] if another class's file is at +path+
    #   @raise [ProcessError, IncompatibleError, SystemCallError] if there is a +path+ that cannot be used: see {ProcessShared}

    # @!method value
    #   @return [Boolean]

    # @!method value=(value)
    #   @param value [Object] true unless it is nil or false

    # @!method true?
    #   @return [Boolean] whether it is true

    # @!method false?
    #   @return [Boolean] whether it is false

    # @!method make_true
    #   @return [Boolean] whether this call has changed it

    # @!method make_false
    #   @return [Boolean] whether this call has changed it

    # @!method path
    #   @return [String, nil] the absolute path of its file; nil if it has none

    # @!method close
    #   Closes this handle in this process; others go on using it.
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
