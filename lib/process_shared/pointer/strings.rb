# frozen_string_literal: true

require "process_shared/pointer"

module ProcessShared
  class Pointer
    # @!method get_bytes(offset, length)
    #   @param offset [Integer] bytes
    #   @param length [Integer] bytes
    #   @return [String] a copy, binary
    #   @raise [IndexError] outside of the window

    # @!method put_bytes(offset, string, index = 0, length = nil)
    #   @param offset [Integer] bytes
    #   @param string [String]
    #   @param index [Integer] where in the string to begin, in bytes
    #   @param length [Integer, nil] bytes of the string; nil: all from +index+ on
    #   @return [self]
    #   @raise [RangeError] if that is not inside of the string
    #   @raise [IndexError] outside of the window

    # @!method read_bytes(length)
    #   {#get_bytes} at offset 0.
    #   @param length [Integer] bytes
    #   @return [String] a copy, binary
    #   @raise [IndexError] if the window is smaller

    # @!method write_bytes(string, index = 0, length = nil)
    #   {#put_bytes} at offset 0.
    #   @param string [String]
    #   @param index [Integer] bytes
    #   @param length [Integer, nil] bytes
    #   @return [self]

    # @!method get_string(offset, length = nil)
    #   Reads up to a NUL, or to the end of the window or of +length+.
    #   @param offset [Integer] bytes
    #   @param length [Integer, nil] bytes at most
    #   @return [String] a copy, binary
    #   @raise [IndexError] outside of the window

    # @!method put_string(offset, string)
    #   Writes a string and a NUL.
    #   @param offset [Integer] bytes
    #   @param string [String]
    #   @return [self]
    #   @raise [IndexError] if they do not fit

    # @!method read_string(length = nil)
    #   Reads up to a NUL without a length, and exactly +length+ bytes with one.
    #   @param length [Integer, nil] bytes
    #   @return [String] a copy, binary
    #   @raise [IndexError] if the window is smaller

    # @!method read_string_length(length)
    #   @param length [Integer] bytes
    #   @return [String] a copy, binary
    #   @raise [IndexError] if the window is smaller

    # @!method read_string_to_null
    #   @return [String] what is before the first NUL, a copy, binary

    # @!method write_string(string, length = nil)
    #   Writes a string without a NUL.
    #   @param string [String]
    #   @param length [Integer, nil] bytes of it; nil: all
    #   @return [self]
    #   @raise [IndexError] if it does not fit

    # @!method write_string_length(string, length)
    #   Writes bytes of a string without a NUL.
    #   @param string [String]
    #   @param length [Integer] bytes of it
    #   @return [self]
    #   @raise [IndexError] if they do not fit

    # @!method get_array_of_string(offset, count = nil)
    #   Reads the strings that an array of pointers points to.
    #   @param offset [Integer] bytes
    #   @param count [Integer, nil] elements; nil: up to a null pointer
    #   @return [Array<String, nil>]
    #   @raise [NotImplementedError] if the ffi gem is not loaded

    # @!method read_array_of_string(count = nil)
    #   {#get_array_of_string} at offset 0.
    #   @param count [Integer, nil] elements
    #   @return [Array<String, nil>]

    # @!method get_pointer(offset)
    #   @param offset [Integer] bytes
    #   @return [FFI::Pointer] the pointer that is in memory there
    #   @raise [NotImplementedError] if the ffi gem is not loaded

    # @!method put_pointer(offset, pointer)
    #   Writes an address, which has a meaning only in processes where the same is mapped there.
    #   @param offset [Integer] bytes
    #   @param pointer [nil, Integer, #to_ptr]
    #   @return [self]
    #   @raise [ArgumentError] if it is no pointer

    # @!method read_pointer
    #   {#get_pointer} at offset 0.
    #   @return [FFI::Pointer]

    # @!method write_pointer(pointer)
    #   {#put_pointer} at offset 0.
    #   @param pointer [nil, Integer, #to_ptr]
    #   @return [self]

    # @!method get_array_of_pointer(offset, count)
    #   @param offset [Integer] bytes
    #   @param count [Integer] elements
    #   @return [Array<FFI::Pointer>]
    #   @raise [NotImplementedError] if the ffi gem is not loaded

    # @!method put_array_of_pointer(offset, pointers)
    #   @param offset [Integer] bytes
    #   @param pointers [Array<nil, Integer, #to_ptr>]
    #   @return [self]
    #   @raise [ArgumentError] if one is no pointer

    # @!method read_array_of_pointer(count)
    #   {#get_array_of_pointer} at offset 0.
    #   @param count [Integer] elements
    #   @return [Array<FFI::Pointer>]

    # @!method write_array_of_pointer(pointers)
    #   {#put_array_of_pointer} at offset 0.
    #   @param pointers [Array<nil, Integer, #to_ptr>]
    #   @return [self]
  end
end
