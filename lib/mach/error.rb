# frozen_string_literal: true

module Mach
  # A call that the kernel refused. The message is the kernel's own.
  class Error < StandardError
    # @return [Integer] the kernel's number for it (a kern_return_t)
    attr_reader :errno

    # @param message [String]
    # @param errno [Integer]
    def initialize(message = nil, errno = nil)
      super(message)
      @errno = errno
    end

    {
      INVALID_ADDRESS: 1, PROTECTION_FAILURE: 2, NO_SPACE: 3, INVALID_ARGUMENT: 4, FAILURE: 5, ABORTED: 14,
      INVALID_NAME: 15, OPERATION_TIMED_OUT: 49
    }.each do |name, number|
      const_set(name, Class.new(self) { const_set(:ERRNO, number) })
    end

    BY_ERRNO = constants.map { |name| const_get(name) }.to_h { |type| [type::ERRNO, type] }.freeze
    private_constant :BY_ERRNO

    # @api private
    # @return [Error] the error for a number; one without a class of its own is a FAILURE
    def self.for(errno, message)
      BY_ERRNO.fetch(errno, FAILURE).new(message, errno)
    end
  end
end
