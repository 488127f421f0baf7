# frozen_string_literal: true

module ProcessShared
  class SharedMemory < Pointer
    extend OpenWithSelf

    # @overload initialize(bytes = 1, reserve: false)
    #   @param bytes [Integer]
    # @overload initialize(type, count = 1, reserve: false)
    #   @param type [Symbol, FFI::Type] a type the ffi gem knows: +:int32+, +:double+, +:size_t+, ...
    #   @param count [Integer] elements
    # @param reserve [Boolean] take all of it now; other threads go on meanwhile, and an exception (Timeout) ends it
    # @raise [TypeError] for an unknown type
    # @raise [ArgumentError] if the size is below 1, or beyond what an address can hold
    # @raise [Errno::ENOMEM, Errno::ENOSPC] if it cannot be had, with +reserve+
    def initialize(type = 1, count = 1, reserve: false); end

    # @return [Integer] elements
    def count; end

    # @return [Symbol, FFI::Type] what the elements are
    def type; end

    # @return [Integer] its file descriptor, which is closed on +exec+
    def fd; end
  end

  class SharedArray < SharedMemory
    # @param type [Symbol, FFI::Type] a number, +:bool+ or +:pointer+
    # @param count [Integer] elements
    # @raise [TypeError] for an unknown type
    # @raise [ArgumentError] if the size is below 1, or beyond what an address can hold
    def initialize(type, count = 1); end

    # @param index [Integer] elements; negative ones count from the end
    # @return [Integer, Float, Boolean, FFI::Pointer] the element
    # @raise [IndexError] outside of the array
    def [](index); end

    # @param index [Integer] elements; negative ones count from the end
    # @param value [Object] a number, or for +:bool+ anything
    # @raise [IndexError] outside of the array
    # @raise [RangeError] if the value cannot be converted
    def []=(index, value); end

    # @return [Integer] elements
    def length; end
  end
end
