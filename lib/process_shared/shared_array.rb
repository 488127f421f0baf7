# frozen_string_literal: true

require "process_shared/shared_memory"

module ProcessShared
  # A fixed number of elements of one type in shared memory: <tt>SharedArray.new(type, count = 1)</tt>. The type is a
  # number, +:bool+ or +:pointer+.
  #
  # <tt>array[index]</tt> and <tt>array[index] = value</tt> count from the end where the index is negative, and raise
  # IndexError outside. One element is read or written at a time: to change several as one, hold a {Mutex}. +length+ is
  # the number of elements; +size+ is in bytes, as for every SharedMemory.
  #
  # The methods of Enumerable return new Arrays, and never change the shared one. The Enumerators that they return without
  # a block take their size from +size+; those of +array.each+ count elements: <tt>array.each.each_slice(2).size</tt>.
  #
  # @example
  #   counts = ProcessShared::SharedArray.new(:int64, 10)
  #   counts[-1] = 7
  #   counts.sum # => 7
  class SharedArray < SharedMemory
    include Enumerable

    # @!method initialize(type, count = 1)
    #   @param type [Symbol, FFI::Type] a number, +:bool+ or +:pointer+
    #   @param count [Integer] elements
    #   @raise [TypeError] for an unknown type
    #   @raise [ArgumentError] if the size is below 1, or beyond what an address can hold

    # @!method [](index)
    #   @param index [Integer] elements; negative ones count from the end
    #   @return [Integer, Float, Boolean, FFI::Pointer] the element
    #   @raise [IndexError] outside of the array

    # @!method []=(index, value)
    #   @param index [Integer] elements; negative ones count from the end
    #   @param value [Object] a number, or for +:bool+ anything
    #   @raise [IndexError] outside of the array
    #   @raise [RangeError] if the value cannot be converted

    # @!method length
    #   @return [Integer] elements

    # @yieldparam element [Object]
    # @return [self, Enumerator] an Enumerator without a block
    def each
      return to_enum(:each) { length } unless block_given?

      index = 0
      count = length
      while index < count
        yield self[index]
        index += 1
      end
      self
    end

    # @yieldparam element [Object]
    # @yieldparam index [Integer]
    # @return [self, Enumerator] an Enumerator without a block
    def each_with_index
      return to_enum(:each_with_index) { length } unless block_given?

      index = 0
      count = length
      while index < count
        yield self[index], index
        index += 1
      end
      self
    end

    # As Enumerable#count, and without argument and block the number of elements.
    #
    # @return [Integer]
    def count(*arguments, &block)
      arguments.empty? && !block ? length : super
    end
  end
end
