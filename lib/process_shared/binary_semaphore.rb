# frozen_string_literal: true

require "process_shared"

module ProcessShared
  # @!parse class BinarySemaphore < Semaphore; end

  # A {Semaphore} whose value is 0 or 1.
  #
  # @example
  #   done = ProcessShared::BinarySemaphore.new(0)
  #   child = fork { done.post }
  #   done.wait
  #   Process.wait(child)
  class BinarySemaphore
    # @!method initialize(value = 1, path: nil, mode: 0600)
    #   @param value [Integer] 0 or 1; ignored where the file is there already
    #   @param path [String, Pathname, nil] opens the object in this file, or makes it: see {ProcessShared}
    #   @param mode [Integer] the mode of a file that is made, exactly
    #   @raise [ArgumentError] if it is another number; if another class's file is at +path+
    #   @raise [ProcessError, IncompatibleError, SystemCallError] if there is a +path+ that cannot be used: see {ProcessShared}

    # @!method post
    #   Gives the permit.
    #   @return [self]
    #   @raise [ProcessError] if the value is 1 already, and then nothing changes
  end
end
