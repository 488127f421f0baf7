# frozen_string_literal: true

require "process_shared/shared_memory"

module ProcessShared
  # A fixed number of elements of one type in shared memory: <tt>SharedArray.new(type, count = 1)</tt>. The type is a
  # number, +:bool+ or +:pointer+.
  #
  # One element is read or written at a time, and never half of it: an element is aligned, and has at most 8 bytes. To
  # change several as one, hold a {Mutex}. +length+ is the number of elements; +size+ is in bytes, as for every
  # SharedMemory.
  #
  # It has the methods of Enumerable, whose Enumerators count elements. They and slices return new Arrays: copies of the
  # shared elements.
  #
  # @example
  #   counts = ProcessShared::SharedArray.new(:int64, 10)
  #   counts[-1] = 7
  #   counts.sum # => 7
  #   counts[-2..] # => [0, 7]
  #   counts.fill(1, 0, 9).sum # => 16
  class SharedArray < SharedMemory
    include Enumerable

    # Enumerable's methods where they are called without a block. The Enumerators that Enumerable itself makes would
    # take their size from +size+, which is in bytes.
    module CountedEnumerators
      %i[
        chain chunk collect collect_concat cycle each_cons each_entry each_slice each_with_object filter filter_map
        find_all flat_map group_by lazy map max_by min_by minmax_by partition reject reverse_each select sort_by
      ].each do |name|
        module_eval <<~RUBY, __FILE__, __LINE__ + 1
          def #{name}(*arguments, &block)
            block ? super : each.#{name}(*arguments)
          end
        RUBY
      end
    end
    private_constant :CountedEnumerators
    include CountedEnumerators

    # How many elements {#inspect} shows, and how many {#fill} writes at once.
    SHOWN = 16
    PIECE = 4096
    private_constant :SHOWN, :PIECE

    # @!method initialize(type, count = 1, path: nil, mode: 0600)
    #   @param type [Symbol, FFI::Type] a number, +:bool+ or +:pointer+
    #   @param count [Integer] elements
    #   @param path [String, Pathname, nil] opens the object in this file, or makes it: see {ProcessShared}
    #   @param mode [Integer] the mode of a file that is made, exactly
    #   @raise [TypeError] for an unknown type
    #   @raise [ArgumentError] for a type without accessors of ours (+:string+, structs); if the size is below 1, or
    #     beyond what an address can hold

    # @!method [](index, length = nil)
    #   @overload [](index)
    #     @param index [Integer] counted in elements; a negative one from the end
    #     @return [Integer, Float, Boolean, FFI::Pointer] the element
    #     @raise [IndexError] outside of the array
    #   @overload [](start, length)
    #     @param start [Integer] counted in elements; a negative one from the end
    #     @param length [Integer] elements
    #     @return [Array, nil] a copy of those elements, as far as there are any; nil outside, as for an Array
    #   @overload [](range)
    #     @param range [Range] may have no beginning or no end
    #     @return [Array, nil] as above

    # @!method []=(index, value)
    #   @param index [Integer] counted in elements; a negative one from the end
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

    # Sets elements, as Array#fill does; an array in shared memory does not grow.
    #
    # @overload fill(value, start = 0, length = nil)
    #   @param value [Object] what every element becomes
    #   @param start [Integer, Range, nil] where to begin, or which elements
    #   @param length [Integer, nil] how many; nil: all that follow
    # @overload fill(start = 0, length = nil)
    #   @param start [Integer, Range, nil] as above
    #   @param length [Integer, nil] as above
    #   @yieldparam index [Integer]
    #   @yieldreturn [Object] what that element becomes
    # @return [self]
    # @raise [IndexError] if they are not all inside; nothing is written then
    # @raise [RangeError] if a value cannot be converted
    def fill(*arguments)
      expected = block_given? ? 0..2 : 1..3
      unless expected.cover?(arguments.size)
        raise ArgumentError, "wrong number of arguments (given #{arguments.size}, expected #{expected})"
      end

      value = arguments.shift unless block_given?
      start, count = elements(*arguments)
      if block_given?
        start.upto(start + count - 1) { |index| self[index] = yield(index) }
      elsif count.positive?
        self[start] = value
        repeat(start, count)
      end
      self
    end

    # The type, how many elements there are, and the first of them.
    #
    # @return [String]
    def inspect
      "#<#{self.class} #{type.inspect} [#{shown.join(", ")}] length=#{length}>"
    rescue ClosedError, TypeError, NotImplementedError # closed; never initialized; pointers without the ffi gem
      super
    end
    alias to_s inspect

    private

    # @return [Array(Integer, Integer)] the first element that +fill+ is about, and how many
    def elements(start = nil, count = nil)
      all = length
      if start.is_a?(Range)
        raise TypeError, "no implicit conversion of Range into Integer" unless count.nil?

        first = start.begin.nil? ? 0 : integer(start.begin)
        last = start.end.nil? ? -1 : integer(start.end)
        first += all if first.negative?
        last += all if last.negative?
        count = [last - first + (start.exclude_end? && !start.end.nil? ? 0 : 1), 0].max
        outside = start
      else
        first = start.nil? ? 0 : integer(start)
        first = [first + all, 0].max if first.negative?
        count = count.nil? ? [all - first, 0].max : [integer(count), 0].max
        outside = first
      end
      return [first, count] if first >= 0 && (count.zero? || first + count <= all)

      raise IndexError, "#{count} elements from #{outside} on outside of array bounds: -#{all}...#{all}"
    end

    def integer(object)
      Integer.try_convert(object) || raise(TypeError, "no implicit conversion of #{object.class} into Integer")
    end

    # Copies the element at +start+ to those behind it.
    def repeat(start, count)
      width = type_size
      piece = get_bytes(start * width, width) * [count, PIECE].min
      (0...count).step(PIECE) do |done|
        put_bytes((start + done) * width, piece, 0, [count - done, PIECE].min * width)
      end
    end

    def shown
      first = self[0, SHOWN].map(&:inspect)
      length > SHOWN ? first << "..." : first
    end
  end
end
