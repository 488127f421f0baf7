# frozen_string_literal: true

require "process_shared/pointer"

module ProcessShared
  class Pointer
    # @!parse
    #   # @!macro [attach] at_offset
    #   #   @!method get_$1(offset)
    #   #     Reads $2.
    #   #     @param offset [Integer] bytes
    #   #     @return [$3]
    #   #     @raise [IndexError] outside of the window
    #   #   @!method put_$1(offset, value)
    #   #     Writes $2.
    #   #     @param offset [Integer] bytes
    #   #     @param value [Numeric] $4
    #   #     @return [self]
    #   #     @raise [RangeError] if the value cannot be converted
    #   #     @raise [IndexError] outside of the window
    #   #   @!method get_array_of_$1(offset, count)
    #   #     Reads an Array of numbers, each $2.
    #   #     @param offset [Integer] bytes
    #   #     @param count [Integer] elements
    #   #     @return [Array<$3>]
    #   #     @raise [IndexError] outside of the window
    #   #   @!method put_array_of_$1(offset, values)
    #   #     Writes an Array of numbers, each $2: all of them, or none if one cannot be converted.
    #   #     @param offset [Integer] bytes
    #   #     @param values [Array<Numeric>] each: $4
    #   #     @return [self]
    #   #     @raise [IndexError] outside of the window
    #   at_offset :int8, "a signed 8-bit integer", "Integer", "fits 32 bits, and is cut to 8"
    #   at_offset :char, "an integer, as int8", "Integer", "fits 32 bits, and is cut to 8"
    #   at_offset :uint8, "an unsigned 8-bit integer", "Integer", "from -2**31 to 2**32 - 1, and is cut to 8 bits"
    #   at_offset :uchar, "an unsigned integer, as uint8", "Integer", "from -2**31 to 2**32 - 1, and is cut to 8 bits"
    #   at_offset :int16, "a signed 16-bit integer", "Integer", "fits 32 bits, and is cut to 16"
    #   at_offset :short, "an integer, as int16", "Integer", "fits 32 bits, and is cut to 16"
    #   at_offset :uint16, "an unsigned 16-bit integer", "Integer", "from -2**31 to 2**32 - 1, and is cut to 16 bits"
    #   at_offset :ushort, "an integer, as uint16", "Integer", "from -2**31 to 2**32 - 1, and is cut to 16 bits"
    #   at_offset :int32, "a signed 32-bit integer", "Integer", "fits 32 bits"
    #   at_offset :int, "an integer, as int32", "Integer", "fits 32 bits"
    #   at_offset :uint32, "an unsigned 32-bit integer", "Integer", "from -2**31 to 2**32 - 1; negative ones wrap"
    #   at_offset :uint, "an integer, as uint32", "Integer", "from -2**31 to 2**32 - 1; negative ones wrap"
    #   at_offset :int64, "a signed 64-bit integer", "Integer", "fits 64 bits"
    #   at_offset :long_long, "an integer, as int64", "Integer", "fits 64 bits"
    #   at_offset :uint64, "an unsigned 64-bit integer", "Integer", "from -2**63 to 2**64 - 1; negative ones wrap"
    #   at_offset :ulong_long, "an integer, as uint64", "Integer", "from -2**63 to 2**64 - 1; negative ones wrap"
    #   at_offset :long, "a signed integer of the size of C's long", "Integer", "fits it"
    #   at_offset :ulong, "an unsigned integer of the size of C's long", "Integer", "fits it; negative ones wrap"
    #   at_offset :float, "a 32-bit float", "Float", "is rounded to 32 bits"
    #   at_offset :float32, "a number, as float", "Float", "is rounded to 32 bits"
    #   at_offset :double, "a 64-bit float", "Float", "a Float, or what converts to one"
    #   at_offset :float64, "a number, as double", "Float", "a Float, or what converts to one"
    #
    #   # @!macro [attach] at_start
    #   #   @!method read_$1
    #   #     {#get_$1} at offset 0.
    #   #     @return [$2]
    #   #     @raise [IndexError] if the window is smaller
    #   #   @!method write_$1(value)
    #   #     {#put_$1} at offset 0.
    #   #     @param value [Numeric]
    #   #     @return [self]
    #   #     @raise [RangeError] if the value cannot be converted
    #   #     @raise [IndexError] if the window is smaller
    #   #   @!method read_array_of_$1(count)
    #   #     {#get_array_of_$1} at offset 0.
    #   #     @param count [Integer] elements
    #   #     @return [Array<$2>]
    #   #     @raise [IndexError] if the window is smaller
    #   #   @!method write_array_of_$1(values)
    #   #     {#put_array_of_$1} at offset 0.
    #   #     @param values [Array<Numeric>]
    #   #     @return [self]
    #   #     @raise [IndexError] if the window is smaller
    #   at_start :int8, "Integer"
    #   at_start :char, "Integer"
    #   at_start :uint8, "Integer"
    #   at_start :uchar, "Integer"
    #   at_start :int16, "Integer"
    #   at_start :short, "Integer"
    #   at_start :uint16, "Integer"
    #   at_start :ushort, "Integer"
    #   at_start :int32, "Integer"
    #   at_start :int, "Integer"
    #   at_start :uint32, "Integer"
    #   at_start :uint, "Integer"
    #   at_start :int64, "Integer"
    #   at_start :long_long, "Integer"
    #   at_start :uint64, "Integer"
    #   at_start :ulong_long, "Integer"
    #   at_start :long, "Integer"
    #   at_start :ulong, "Integer"
    #   at_start :float, "Float"
    #   at_start :float32, "Float"
    #   at_start :double, "Float"
    #   at_start :float64, "Float"
  end
end
