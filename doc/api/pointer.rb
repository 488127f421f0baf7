# frozen_string_literal: true

module ProcessShared
  class Pointer
    # A Pointer is made by {#[]}, {#+}, {#slice} or {#order} of another one, never by +new+.
    # @raise [TypeError] always
    def initialize(*); end

    # Refuses to be marshalled: the object is the shared thing, not a description of it.
    # @raise [TypeError] always
    def marshal_dump; end

    # @return [Integer] bytes from here to the end of the window
    def size; end
    alias total size

    # @return [Integer] bytes of one element, by which {#[]} counts
    def type_size; end

    # @return [Boolean] true: a window is always bounded
    def size_limit?; end

    # @return [Integer] where it is mapped in this process
    def address; end
    alias to_i address

    # @return [Boolean] false: a window is never at address 0
    def null?; end

    # @return [FFI::Pointer] the same memory, of the same size, for a foreign function. It keeps the memory mapped.
    # @raise [NotImplementedError] if the ffi gem is not loaded
    def to_ptr; end

    # @param index [Integer] elements, of {#type_size} bytes
    # @return [Pointer] the window from there to the end
    # @raise [IndexError] outside of the window
    def [](index); end

    # @param offset [Integer] bytes
    # @return [Pointer] the window from there to the end
    # @raise [IndexError] outside of the window
    def +(offset); end

    # @param offset [Integer] bytes
    # @param length [Integer] bytes
    # @return [Pointer] the window of that length at that offset
    # @raise [IndexError] outside of the window
    def slice(offset, length); end

    # @overload order
    #   @return [Symbol] +:little+ or +:big+, the order of the bytes of numbers
    # @overload order(order)
    #   @param order [Symbol] +:little+, +:big+ or +:network+, which is big
    #   @return [Pointer] the same window with that order; self if it has it already
    #   @raise [ArgumentError] for another Symbol
    def order(order = nil); end

    # Sets all bytes to zero.
    # @return [self]
    def clear; end

    # @param other [Object]
    # @return [Boolean] whether the other one is at the same address
    def ==(other); end

    # Copies from another window.
    # @param source [Pointer] where from
    # @param length [Integer] bytes
    # @return [self]
    # @raise [IndexError] if either window is shorter
    def __copy_from__(source, length); end

    # @return [Boolean] true: the memory goes with the last object that uses it
    def autorelease?; end

    # For compatibility with the ffi gem.
    # @param autorelease [Boolean] must be true
    # @raise [ArgumentError] if it is false
    def autorelease=(autorelease); end

    # Gives this window up, in this process. Calls that other threads are in the middle of end well.
    # @return [nil]
    def close; end

    # Same as {#close}.
    # @return [self]
    def free; end

    # @return [Boolean] whether it was closed in this process
    def closed?; end

    # @return [String] class, address and size
    def inspect; end
    alias to_s inspect

    # Reads a value of a type.
    # @param type [Symbol, FFI::Type] a type the ffi gem knows: +:int32+, +:double+, +:bool+, +:size_t+, ...
    # @param offset [Integer] bytes
    # @return [Integer, Float, Boolean, FFI::Pointer]
    # @raise [ArgumentError] for an unknown type
    # @raise [IndexError] outside of the window
    def get(type, offset); end

    # Writes a value of a type.
    # @param type [Symbol, FFI::Type] as for {#get}
    # @param offset [Integer] bytes
    # @param value [Object] a number, or for +:bool+ anything
    # @return [nil]
    # @raise [ArgumentError] for an unknown type
    # @raise [IndexError] outside of the window
    def put(type, offset, value); end

    # {#get} at offset 0.
    # @param type [Symbol, FFI::Type]
    # @return [Integer, Float, Boolean, FFI::Pointer]
    def read(type); end

    # {#put} at offset 0.
    # @param type [Symbol, FFI::Type]
    # @param value [Object]
    # @return [nil]
    def write(type, value); end
  end
end
