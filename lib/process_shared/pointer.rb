# frozen_string_literal: true

require "process_shared/native"
require "process_shared/object_buffer"

module ProcessShared
  # A bounded window on shared memory, with the accessors of +FFI::Pointer+: same names, arguments, conversions and
  # errors, without the ffi gem. {SharedMemory} is one, and +[]+, +++, +slice+ and +order+ give others: views, which
  # keep the memory mapped while they live, also when the SharedMemory they came from has been closed.
  #
  # Every access is checked against the bounds (IndexError), and touches nothing when it fails. A frozen Pointer, and
  # every view made from it, refuses writes (FrozenError). {SharedMemory} says what is atomic, and names all types.
  #
  # Numbers, for each T of int8 uint8 int16 uint16 int32 uint32 int64 uint64 long ulong float32 float64 and the aliases
  # char uchar short ushort int uint long_long ulong_long float double:
  #
  # - <tt>get_T(offset)</tt>, <tt>put_T(offset, value)</tt>, and <tt>read_T</tt>, <tt>write_T(value)</tt> at offset 0
  # - <tt>get_array_of_T(offset, count)</tt>, <tt>put_array_of_T(offset, array)</tt>, and at offset 0
  #   <tt>read_array_of_T(count)</tt>, <tt>write_array_of_T(array)</tt>
  #
  # Offsets are in bytes, counts in elements. When one element of an array cannot be converted, nothing is written.
  class Pointer
    include ObjectBuffer

    # @!method initialize(*)
    #   A Pointer is made by {#[]}, {#+}, {#slice} or {#order} of another one, never by +new+.
    #   @raise [TypeError] always

    # @!method marshal_dump
    #   Refuses to be marshalled: the object is the shared thing, not a description of it.
    #   @raise [TypeError] always

    # @!method size
    #   @return [Integer] bytes from here to the end of the window

    # @!method total
    #   Same as {#size}.

    # @!method type_size
    #   @return [Integer] bytes of one element, by which {#[]} counts

    # @!method size_limit?
    #   @return [Boolean] true: a window is always bounded

    # @!method address
    #   @return [Integer] where it is mapped in this process

    # @!method to_i
    #   Same as {#address}.

    # @!method null?
    #   @return [Boolean] false: a window is never at address 0

    # @!method to_ptr
    #   @return [FFI::Pointer] the same memory, of the same size, for a foreign function. It keeps the memory mapped.
    #   @raise [NotImplementedError] if the ffi gem is not loaded

    # @!method [](index)
    #   @param index [Integer] elements, of {#type_size} bytes
    #   @return [Pointer] the window from there to the end
    #   @raise [IndexError] outside of the window

    # @!method +(offset)
    #   @param offset [Integer] bytes
    #   @return [Pointer] the window from there to the end
    #   @raise [IndexError] outside of the window

    # @!method slice(offset, length)
    #   @param offset [Integer] bytes
    #   @param length [Integer] bytes
    #   @return [Pointer] the window of that length at that offset
    #   @raise [IndexError] outside of the window

    # @!method order(order = nil)
    #   @overload order
    #     @return [Symbol] +:little+ or +:big+, the order of the bytes of numbers
    #   @overload order(order)
    #     @param order [Symbol] +:little+, +:big+ or +:network+, which is big
    #     @return [Pointer] the same window with that order; self if it has it already
    #     @raise [ArgumentError] for another Symbol

    # @!method clear
    #   Sets all bytes to zero.
    #   @return [self]

    # @!method ==(other)
    #   @param other [Object]
    #   @return [Boolean] whether +other+ is a pointer to the same address

    # @!method __copy_from__(source, length)
    #   Copies from another window.
    #   @param source [Pointer] where from
    #   @param length [Integer] bytes
    #   @return [self]
    #   @raise [IndexError] if either window is shorter

    # @!method autorelease?
    #   @return [Boolean] true: the memory goes with the last object that uses it

    # @!method autorelease=(autorelease)
    #   For compatibility with the ffi gem.
    #   @param autorelease [Boolean] must be true
    #   @raise [ArgumentError] if it is false

    # @!method close
    #   Ends the use of this object in this process; other processes and views go on. The memory stays mapped while
    #   another thread is inside an accessor. For a SharedMemory, {SharedMemory#fd} is closed.
    #   @return [nil]

    # @!method free
    #   Same as {#close}.
    #   @return [self]

    # @!method closed?
    #   @return [Boolean] whether it was closed in this process

    # @!method inspect
    #   @return [String] class, address and size

    # @!method to_s
    #   Same as {#inspect}.

    # @!method get(type, offset)
    #   Reads a value of a type.
    #   @param type [Symbol, FFI::Type] one of the types of {SharedMemory}, such as +:int32+, +:double+ or +:bool+
    #   @param offset [Integer] bytes
    #   @return [Integer, Float, Boolean, FFI::Pointer]
    #   @raise [ArgumentError] for an unknown type
    #   @raise [IndexError] outside of the window

    # @!method put(type, offset, value)
    #   Writes a value of a type.
    #   @param type [Symbol, FFI::Type] as for {#get}
    #   @param offset [Integer] bytes
    #   @param value [Object] a number, or for +:bool+ anything
    #   @return [nil]
    #   @raise [ArgumentError] for an unknown type
    #   @raise [IndexError] outside of the window

    # @!method read(type)
    #   {#get} at offset 0.
    #   @param type [Symbol, FFI::Type]
    #   @return [Integer, Float, Boolean, FFI::Pointer]

    # @!method write(type, value)
    #   {#put} at offset 0.
    #   @param type [Symbol, FFI::Type]
    #   @param value [Object]
    #   @return [nil]

    # @!method write_object(object)
    #   Writes an object with Marshal: all of it, or nothing if it does not fit.
    #   @param object [Object]
    #   @return [Integer] bytes written
    #   @raise [IndexError] if it is too big
    #   @raise [TypeError] if it cannot be marshalled
    #   @example
    #     mem = ProcessShared::SharedMemory.new(1024)
    #     Process.wait(fork { mem.write_object({ "answer" => 42 }) })
    #     mem.read_object["answer"] # => 42

    # @!method put_object(offset, object)
    #   {#write_object} at an offset.
    #   @param offset [Integer] bytes
    #   @param object [Object]
    #   @return [Integer] bytes written
    #   @raise [IndexError] if it is too big
    #   @raise [TypeError] if it cannot be marshalled

    # @!method read_object
    #   Reads the object that {#write_object} wrote, in place. Runs +Marshal.load+: read only what you trust.
    #   @return [Object]
    #   @raise [TypeError] if there is no object

    # @!method get_object(offset)
    #   {#read_object} at an offset.
    #   @param offset [Integer] bytes
    #   @return [Object]
    #   @raise [TypeError] if there is no object

    # Reads +length+ elements through a reader such as +:read_int32+.
    #
    # @param type [Symbol, FFI::Type] the type of one element: its size is the distance between two
    # @param reader [Symbol] the method that reads one from the start of a Pointer
    # @param length [Integer] the number of elements
    # @return [Array]
    # @raise [IndexError] if they do not lie inside
    def read_array_of_type(type, reader, length)
      width = size_of_type(type)
      reader = String.try_convert(reader) || reader
      slice(0, length) # refuses what cannot be there, before an Array of that length is made
      Array.new(length) { |index| slice(index * width, width).public_send(reader) }
    end

    # Writes elements through a writer such as +:put_int32+.
    #
    # @param type [Symbol, FFI::Type] the type of one element: its size is the distance between two
    # @param writer [Symbol] the method that takes an offset in bytes and a value
    # @param array [Array] the elements
    # @return [self]
    # @raise [IndexError] if they do not lie inside; nothing is written then
    # @raise [TypeError] if the elements are not in an Array
    def write_array_of_type(type, writer, array)
      array = Array.try_convert(array) || raise(TypeError, "wrong argument type #{array.class} (expected Array)")
      width = size_of_type(type)
      writer = String.try_convert(writer) || writer
      slice(0, array.size * width)
      array.each_with_index { |value, index| public_send(writer, index * width, value) }
      self
    end
  end
end
