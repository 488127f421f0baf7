# frozen_string_literal: true

module ProcessShared
  class Pointer
    # @param offset [Integer] bytes
    # @param length [Integer] bytes
    # @return [String] a copy, binary
    # @raise [IndexError] outside of the window
    def get_bytes(offset, length); end

    # @param offset [Integer] bytes
    # @param string [String]
    # @param index [Integer] where in the string to begin, in bytes
    # @param length [Integer, nil] bytes of the string; nil: all from +index+ on
    # @return [self]
    # @raise [RangeError] if that is not inside of the string
    # @raise [IndexError] outside of the window
    def put_bytes(offset, string, index = 0, length = nil); end

    # {#get_bytes} at offset 0.
    # @param length [Integer] bytes
    # @return [String] a copy, binary
    # @raise [IndexError] if the window is smaller
    def read_bytes(length); end

    # {#put_bytes} at offset 0.
    # @param string [String]
    # @param index [Integer] bytes
    # @param length [Integer, nil] bytes
    # @return [self]
    def write_bytes(string, index = 0, length = nil); end

    # Reads up to a NUL, or to the end of the window or of +length+.
    # @param offset [Integer] bytes
    # @param length [Integer, nil] bytes at most
    # @return [String] a copy, binary
    # @raise [IndexError] outside of the window
    def get_string(offset, length = nil); end

    # Writes a string and a NUL.
    # @param offset [Integer] bytes
    # @param string [String]
    # @return [self]
    # @raise [IndexError] if they do not fit
    def put_string(offset, string); end

    # Reads up to a NUL without a length, and exactly +length+ bytes with one.
    # @param length [Integer, nil] bytes
    # @return [String] a copy, binary
    # @raise [IndexError] if the window is smaller
    def read_string(length = nil); end

    # @param length [Integer] bytes
    # @return [String] a copy, binary
    # @raise [IndexError] if the window is smaller
    def read_string_length(length); end

    # @return [String] what is before the first NUL, a copy, binary
    def read_string_to_null; end

    # Writes a string without a NUL.
    # @param string [String]
    # @param length [Integer, nil] bytes of it; nil: all
    # @return [self]
    # @raise [IndexError] if it does not fit
    def write_string(string, length = nil); end

    # Writes bytes of a string without a NUL.
    # @param string [String]
    # @param length [Integer] bytes of it
    # @return [self]
    # @raise [IndexError] if they do not fit
    def write_string_length(string, length); end

    # Reads the strings that an array of pointers points to.
    # @param offset [Integer] bytes
    # @param count [Integer, nil] elements; nil: up to a null pointer
    # @return [Array<String, nil>]
    # @raise [NotImplementedError] if the ffi gem is not loaded
    def get_array_of_string(offset, count = nil); end

    # {#get_array_of_string} at offset 0.
    # @param count [Integer, nil] elements
    # @return [Array<String, nil>]
    def read_array_of_string(count = nil); end

    # @param offset [Integer] bytes
    # @return [FFI::Pointer] the pointer that is in memory there
    # @raise [NotImplementedError] if the ffi gem is not loaded
    def get_pointer(offset); end

    # Writes an address, which has a meaning only in processes where the same is mapped there.
    # @param offset [Integer] bytes
    # @param pointer [nil, Integer, #to_ptr]
    # @return [self]
    # @raise [ArgumentError] if it is no pointer
    def put_pointer(offset, pointer); end

    # {#get_pointer} at offset 0.
    # @return [FFI::Pointer]
    def read_pointer; end

    # {#put_pointer} at offset 0.
    # @param pointer [nil, Integer, #to_ptr]
    # @return [self]
    def write_pointer(pointer); end

    # @param offset [Integer] bytes
    # @param count [Integer] elements
    # @return [Array<FFI::Pointer>]
    # @raise [NotImplementedError] if the ffi gem is not loaded
    def get_array_of_pointer(offset, count); end

    # @param offset [Integer] bytes
    # @param pointers [Array<nil, Integer, #to_ptr>]
    # @return [self]
    # @raise [ArgumentError] if one is no pointer
    def put_array_of_pointer(offset, pointers); end

    # {#get_array_of_pointer} at offset 0.
    # @param count [Integer] elements
    # @return [Array<FFI::Pointer>]
    def read_array_of_pointer(count); end

    # {#put_array_of_pointer} at offset 0.
    # @param pointers [Array<nil, Integer, #to_ptr>]
    # @return [self]
    def write_array_of_pointer(pointers); end
  end
end
