# frozen_string_literal: true

require "process_shared/native"
require "stringio"

module ProcessShared
  # An IO over memory of fixed size, in binary: what StringIO is for a String. Works over a {SharedMemory}, any
  # {Pointer}, or an +FFI::Pointer+ of known size.
  #
  # Everything behind the position can be read, down to the last byte of the memory: there is no mark where written data
  # ends. A write that does not fit raises IndexError and writes nothing. Every process (and every SharedMemoryIO) has
  # its own position; simultaneous writers need a lock. A frozen one refuses to read, write and move (FrozenError), and
  # cannot be made shareable between Ractors: give each one of its own, over the same memory.
  #
  # All Strings are binary (ASCII-8BIT), a character is a byte. Offsets and lengths are in bytes.
  class SharedMemoryIO
    include Enumerable

    # How much of the memory is looked at first when a line's end is searched; it doubles from there.
    CHUNK = 256
    private_constant :CHUNK

    # @!method initialize(mem)
    #   @param mem [Pointer] the memory, or anything with +size+, +get_bytes+ and +put_bytes+
    # @!method marshal_dump
    #   Refuses to be marshalled: the object is the shared thing, not a description of it.
    #   @raise [TypeError] always
    # @!method mem
    #   @return [Pointer] the memory
    # @!method reopen(mem = self.mem)
    #   Starts again, over this memory or another one.
    #   @return [self]

    # Sets the number of the line.
    def lineno=(number)
      @lineno = integer(number)
    end

    # @return [Integer] the number of the line read last by +gets+ and its relatives
    def lineno
      @lineno || 0
    end

    # @!group Position

    # @!method pos
    #   @return [Integer] where the next byte is read or written
    # @!method pos=(offset)
    #   @raise [Errno::EINVAL] if negative
    # @!method size
    #   @return [Integer] the size of the memory in bytes

    # The same as {#size}.
    def length
      size
    end

    # The same as {#pos}.
    def tell
      pos
    end

    # @param whence [Integer, Symbol] IO::SEEK_SET, IO::SEEK_CUR, IO::SEEK_END, or :SET, :CUR, :END
    # @return [0]
    # @raise [Errno::EINVAL] if that is before the start, or the whence is none
    def seek(amount, whence = IO::SEEK_SET)
      amount = integer(amount)
      self.pos =
        case whence
        when IO::SEEK_SET, :SET then amount
        when IO::SEEK_CUR, :CUR then pos + amount
        when IO::SEEK_END, :END then size + amount
        else raise Errno::EINVAL, "invalid whence"
        end
      0
    end

    # @return [Integer] the new position
    def sysseek(amount, whence = IO::SEEK_SET)
      seek(amount, whence)
      pos
    end

    # Back to the start, and to line 0.
    def rewind
      self.pos = @lineno = 0
    end

    # @return [Boolean] true at the end of the memory
    def eof?
      check_readable
      pos >= size
    end
    alias eof eof?

    # @!endgroup
    # @!group Reading

    # @!method read(length = nil, buffer = nil)
    #   @param length [Integer, nil] how many bytes at most; nil for all up to the end
    #   @param buffer [String, nil] filled with them, if given
    #   @return [String, nil] nil at the end when a length above 0 was asked for

    # Reads at an offset, and leaves the position alone.
    #
    # @raise [EOFError] at or behind the end
    def pread(length, offset, buffer = nil)
      check_readable
      length = integer(length)
      offset = integer(offset)
      raise ArgumentError, "negative string size (or size too big): #{length}" if length.negative?
      raise Errno::EINVAL, "pread: Invalid offset argument: #{offset}" if offset.negative?
      return fill(buffer, "".b) if length.zero?
      raise EOFError, "end of file reached" if offset >= size

      fill(buffer, mem.get_bytes(offset, [length, size - offset].min))
    end

    # @raise [EOFError] at the end
    def readpartial(length, buffer = nil)
      read(length, buffer) || raise(EOFError, "end of file reached")
    end

    # As {#readpartial}; all there is, if only an empty String, without a length.
    def sysread(length = nil, buffer = nil)
      readpartial(length, buffer)
    end

    # As {#readpartial}: memory never has to be waited for. At the end nil with <tt>exception: false</tt>.
    def read_nonblock(length, buffer = nil, exception: true)
      exception ? readpartial(length, buffer) : read(length, buffer)
    end

    # @return [Integer, nil] nil at the end
    def getbyte
      read(1)&.ord
    end

    # @return [String, nil] one byte; nil at the end
    def getc
      read(1)
    end

    # @raise [EOFError] at the end
    def readbyte
      getbyte || raise(EOFError, "end of file reached")
    end

    # @raise [EOFError] at the end
    def readchar
      getc || raise(EOFError, "end of file reached")
    end

    # Reads a line: up to and with the separator, at most +limit+ bytes, or up to the end.
    #
    # @overload gets(separator = $/, limit = nil, chomp: false)
    #   @param separator [String, nil] nil for everything; "" for paragraphs, which end with empty lines
    #   @param limit [Integer, nil] bytes
    #   @param chomp [Boolean] true to leave the separator off
    # @overload gets(limit, chomp: false)
    #   @param limit [Integer] bytes
    # @return [String, nil] nil at the end
    def gets(*arguments, chomp: false)
      check_readable
      separator, limit = line_arguments(arguments)
      return "".b if limit == 0

      line = line(separator, limit, chomp)
      return unless line

      @lineno = lineno + 1
      $. = @lineno if globals?
      line
    end

    # @raise [EOFError] at the end
    def readline(*arguments, chomp: false)
      gets(*arguments, chomp: chomp) || raise(EOFError, "end of file reached")
    end

    # Yields every line that follows. Takes what {#gets} takes.
    #
    # @return [self, Enumerator] an Enumerator without a block
    # @raise [ArgumentError] for a limit of 0
    def each_line(*arguments, chomp: false)
      return to_enum(:each_line, *arguments, chomp: chomp) unless block_given?

      check_readable
      separator, limit = line_arguments(arguments)
      raise ArgumentError, "invalid limit: 0 for each_line" if limit == 0

      while (line = gets(separator, limit, chomp: chomp))
        yield line
      end
      self
    end
    alias each each_line

    # @return [Array<String>] all lines that follow
    def readlines(*arguments, chomp: false)
      _, limit = line_arguments(arguments)
      raise ArgumentError, "invalid limit: 0 for readlines" if limit == 0

      each_line(*arguments, chomp: chomp).to_a
    end

    # Yields every byte that follows, as an Integer.
    def each_byte
      return to_enum(:each_byte) unless block_given?

      while (byte = getbyte)
        yield byte
      end
      self
    end
    alias bytes each_byte
    alias each_codepoint each_byte
    alias codepoints each_byte

    # Yields every byte that follows, as a String.
    def each_char
      return to_enum(:each_char) unless block_given?

      while (char = getc)
        yield char
      end
      self
    end
    alias chars each_char

    # Steps back over bytes and makes them what is given, so that they are what is read next. As with StringIO this
    # writes into the memory, unless they are there already.
    #
    # @param bytes [Integer, String, nil] one byte, several, or nothing
    # @return [nil]
    # @raise [IOError] before the start
    def ungetbyte(bytes)
      check_readable
      bytes =
        case bytes
        when nil then return
        when Integer then (bytes & 0xff).chr
        else to_text(bytes)
        end
      start = pos - bytes.bytesize
      raise IOError, "cannot step back before the start" if start.negative?

      same = pos <= size && mem.get_bytes(start, bytes.bytesize) == bytes.b
      mem.put_bytes(start, bytes, 0, bytes.bytesize) unless same
      self.pos = start
      nil
    end

    # As {#ungetbyte}; an Integer is a code of 0 to 255.
    #
    # @raise [RangeError] for a larger one
    def ungetc(char)
      char = char.chr if char.is_a?(Integer)
      ungetbyte(char)
    end

    # @return [String] a copy of the whole memory
    def string
      mem.get_bytes(0, size)
    end

    # @!endgroup
    # @!group Writing

    # @!method write(*objects)
    #   Writes the objects, as Strings, one behind the other.
    #   @return [Integer] the number of bytes
    #   @raise [IndexError] if they do not all fit: nothing is written

    # As {#write} of one String.
    def syswrite(text)
      write(text)
    end

    # As {#write} of one String: memory never has to be waited for.
    def write_nonblock(text, exception: true)
      write(text)
    end

    # Writes at an offset, and leaves the position alone.
    def pwrite(object, offset)
      check_writable
      text = object.to_s
      offset = integer(offset)
      raise Errno::EINVAL, "pwrite: Invalid offset argument: #{offset}" if offset.negative?

      mem.put_bytes(offset, text, 0, text.bytesize)
      text.bytesize
    end

    # @return [self]
    def <<(object)
      write(object)
      self
    end

    # As IO#print, but for printing $_ when there is no argument.
    def print(*objects)
      written { |text| text.print(*objects) unless objects.empty? }
    end

    # As IO#puts.
    def puts(*objects)
      written { |text| text.puts(*objects) }
    end

    # As IO#printf.
    def printf(format = nil, *arguments)
      written { |text| text.printf(format, *arguments) unless format.nil? }
    end

    # As IO#putc.
    def putc(object)
      written { |text| text.putc(object) }
      object
    end

    # @!endgroup
    # @!group Being an IO

    # @!method close
    #   Ends the use of this IO, in this process; the memory stays open.
    #   @return [nil]
    # @!method close_read
    #   Ends reading.
    #   @return [nil]
    # @!method close_write
    #   Ends writing.
    #   @return [nil]
    # @!method closed?
    #   @return [Boolean] true once it is closed for both
    # @!method closed_read?
    #   @return [Boolean] true once it is closed for reading
    # @!method closed_write?
    #   @return [Boolean] true once it is closed for writing

    # The size of the memory is fixed.
    #
    # @raise [NotImplementedError] for another size
    def truncate(length)
      check_writable
      raise NotImplementedError, "the size of shared memory is fixed" unless integer(length) == size

      0
    end

    # Always binary.
    def binmode
      self
    end

    def binmode?
      true
    end

    # @return [Encoding] always binary
    def external_encoding
      Encoding::BINARY
    end

    # @return [nil] nothing is converted
    def internal_encoding
      nil
    end

    # Has no effect: always binary.
    def set_encoding(*)
      self
    end

    # @return [nil] memory has no byte order mark that counts
    def set_encoding_by_bom
      nil
    end

    # Everything is written at once.
    def sync
      true
    end

    # Has no effect: everything is written at once.
    def sync=(wanted)
      wanted
    end

    # Has no effect: everything is written at once.
    def flush
      self
    end

    # Has no effect: everything is written at once.
    #
    # @return [0]
    def fsync
      0
    end
    alias fdatasync fsync

    def tty?
      false
    end
    alias isatty tty?

    # @return [nil] there is no descriptor to read from
    def fileno
      nil
    end
    alias to_i fileno

    # @return [nil] there is no process at the other end
    def pid
      nil
    end

    # Advice has no effect.
    def advise(*)
      nil
    end

    def fcntl(*)
      raise NotImplementedError, "#{__method__}() is not possible on memory"
    end
    alias ioctl fcntl

    # @return [String] position and size
    def inspect
      closed? ? "#<#{self.class} closed>" : "#<#{self.class} pos=#{pos} size=#{size}>"
    rescue TypeError
      "#<#{self.class} not initialized>"
    end

    # @!endgroup

    private

    def integer(object)
      Integer.try_convert(object) || raise(TypeError, "no implicit conversion of #{object.class} into Integer")
    end

    def to_text(object)
      String.try_convert(object) || raise(TypeError, "no implicit conversion of #{object.class} into String")
    end

    # Other Ractors than the main one have no $/ and no $.
    def globals?
      Ractor.current.equal?(Ractor.main)
    end

    def fill(buffer, bytes)
      buffer.nil? ? bytes : to_text(buffer).replace(bytes)
    end

    # What a method of StringIO makes of its arguments, written as one piece.
    def written
      check_writable
      text = StringIO.new(String.new)
      yield text
      write(text.string)
      nil
    end

    # @return [Array] separator (nil, or a binary String) and limit (nil, or an Integer of at least 0)
    def line_arguments(arguments)
      raise ArgumentError, "wrong number of arguments (given #{arguments.size}, expected 0..2)" if arguments.size > 2

      separator, limit = arguments
      default = globals? ? $/ : "\n"
      separator = default if arguments.empty?
      if arguments.size == 1 && !separator.nil? && !String.try_convert(separator)
        limit = separator
        separator = default
      end
      separator = to_text(separator).b unless separator.nil?
      limit = integer(limit) unless limit.nil?
      [separator, limit&.negative? ? nil : limit]
    end

    def line(separator, limit, chomp)
      paragraph = separator == ""
      if paragraph
        skip_newlines
        separator = "\n\n".b
      end
      return if pos >= size

      last = limit ? [pos + limit, size].min : size
      stop = (separator && line_end(separator, last)) || last
      line = mem.get_bytes(pos, stop - pos)
      self.pos = stop
      return line unless separator && line.end_with?(separator)

      skip_newlines if paragraph
      chomp ? line.chomp(separator) : line
    end

    # @return [Integer, nil] the offset behind the separator, if one begins and ends before +last+
    def line_end(separator, last)
      from = pos
      chunk = CHUNK
      while from < last
        bytes = mem.get_bytes(from, [chunk, last - from].min)
        found = bytes.index(separator)
        return from + found + separator.bytesize if found
        break if from + bytes.bytesize >= last

        from += [bytes.bytesize - separator.bytesize + 1, 1].max
        chunk = [chunk * 2, separator.bytesize * 2].max
      end
      nil
    end

    def skip_newlines
      self.pos += 1 while pos < size && mem.get_bytes(pos, 1) == "\n"
    end
  end
end
