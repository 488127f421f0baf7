# frozen_string_literal: true

require "process_shared/native"
require "process_shared/object_buffer"

module ProcessShared
  # A bounded window on shared memory, with the accessors of +FFI::Pointer+: same names, arguments, conversions and
  # errors, without the ffi gem. {SharedMemory} is one, and +[]+, +++, +slice+ and +order+ give others: views, which
  # keep the memory mapped while they live, also when the SharedMemory they came from has been closed.
  #
  # Every access is checked against the bounds (IndexError) and touches nothing when it fails. A frozen Pointer, and
  # every view made from it, refuses writes (FrozenError). Two processes that write the same bytes at once need a lock:
  # a reader sees some mixture of old and new bytes, but nothing breaks.
  #
  # Numbers, for each T of int8 uint8 int16 uint16 int32 uint32 int64 uint64 long ulong float32 float64 and the aliases
  # char uchar short ushort int uint long_long ulong_long float double:
  # <tt>get_T(offset)</tt>, <tt>put_T(offset, value)</tt>, <tt>read_T</tt>, <tt>write_T(value)</tt>,
  # <tt>get_array_of_T(offset, count)</tt>, <tt>put_array_of_T(offset, array)</tt>, <tt>read_array_of_T(count)</tt>,
  # <tt>write_array_of_T(array)</tt>. Offsets are in bytes, counts in elements. When one element of an array cannot be
  # converted, nothing is written.
  class Pointer
    include ObjectBuffer

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
