# frozen_string_literal: true

require "process_shared/shared_memory_io"

module ProcessShared
  # Whole objects in memory, by Marshal. {Pointer} and {SharedMemory} have these methods natively, and read objects in
  # place; included elsewhere, the module needs +get_bytes+, +put_bytes+ and +size+, as +FFI::Pointer+ has them.
  #
  # There is no length prefix: the bytes at the offset are <tt>Marshal.dump(object)</tt>. As with Marshal, reading
  # bytes that somebody hostile may have written can run code.
  module ObjectBuffer
    # Writes an object.
    #
    # @param offset [Integer] where, in bytes
    # @param object [Object] anything Marshal can dump
    # @return [Integer] the number of bytes written
    # @raise [IndexError] if it does not fit: nothing is written
    # @raise [TypeError] if it cannot be dumped
    def put_object(offset, object)
      bytes = Marshal.dump(object)
      room = size - offset
      if room.between?(0, bytes.bytesize - 1)
        raise IndexError, "Memory access offset=#{offset} size=#{bytes.bytesize} is out of bounds: " \
                          "the object takes #{bytes.bytesize} bytes, and there are #{room}"
      end
      put_bytes(offset, bytes, 0, bytes.bytesize)
      bytes.bytesize
    end

    # Reads an object, and touches nothing behind it.
    #
    # @param offset [Integer] where, in bytes
    # @return [Object]
    # @raise [TypeError] if there is no object
    # @raise [ArgumentError] if it is cut off by the end of the memory
    def get_object(offset)
      io = to_shm_io
      raise TypeError, "no object at offset #{offset}: nothing has been written there" if io.pread(2, offset) == "\0\0"

      io.seek(offset)
      Marshal.load(io)
    end

    # +put_object+ at the start.
    def write_object(object)
      put_object(0, object)
    end

    # +get_object+ at the start.
    def read_object
      get_object(0)
    end

    protected

    # @return [SharedMemoryIO] an IO over the memory, at its start
    def to_shm_io
      SharedMemoryIO.new(self)
    end
  end
end
