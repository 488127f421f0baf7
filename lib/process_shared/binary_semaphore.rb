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
    # @!method initialize(value = 1)
    #   @param value [Integer] 0 or 1
    #   @raise [ArgumentError] if it is another number

    # @!method post
    #   Gives the permit.
    #   @return [self]
    #   @raise [ProcessError] if the value is 1 already, and then nothing changes
  end
end
