# frozen_string_literal: true

require "process_shared/pointer"
require "process_shared/shared_memory_io"

module ProcessShared
  # Zero-filled memory that is shared with every process forked later. It has no name and is no file: it ends with the
  # last process that has it, also after <tt>kill -9</tt>. It is taken from the system as it is touched, so a large
  # one costs nothing until it is used, and the size of /dev/shm does not matter.
  #
  # <tt>SharedMemory.new(bytes = 1)</tt> or <tt>SharedMemory.new(type, count = 1)</tt>, where the type is a Symbol the
  # ffi gem knows (+:int32+, +:double+, +:size_t+ ...) or an +FFI::Type+. With <tt>reserve: true</tt> all of it is taken
  # at once, or Errno::ENOMEM or Errno::ENOSPC is raised. With a block the object is yielded and then closed.
  #
  # +size+ is in bytes; +type+, +count+ and +type_size+ are as given; +fd+ is a descriptor of the memory
  # (close-on-exec), which is closed with the object. +close+ ends the use of this object in this process only: other
  # processes, and views of it, go on.
  #
  # @example
  #   memory = ProcessShared::SharedMemory.new(:int32, 2)
  #   Process.wait(fork { memory.put_array_of_int32(0, [1, 2]) })
  #   memory.get_array_of_int32(0, 2) # => [1, 2]
  class SharedMemory < Pointer
    # @!parse extend OpenWithSelf

    # @!method initialize(type = 1, count = 1, reserve: false)
    #   @overload initialize(bytes = 1, reserve: false)
    #     @param bytes [Integer]
    #   @overload initialize(type, count = 1, reserve: false)
    #     @param type [Symbol, FFI::Type] a type the ffi gem knows: +:int32+, +:double+, +:size_t+, ...
    #     @param count [Integer] elements
    #   @param reserve [Boolean] take all of it now; other threads go on meanwhile, and an exception (Timeout) ends it
    #   @raise [TypeError] for an unknown type
    #   @raise [ArgumentError] if the size is below 1, or beyond what an address can hold
    #   @raise [Errno::ENOMEM, Errno::ENOSPC] if it cannot be had, with +reserve+

    # @!method count
    #   @return [Integer] elements

    # @!method type
    #   @return [Symbol, FFI::Type] what the elements are

    # @!method fd
    #   The number of the memory's file descriptor (close-on-exec), to pass on or to look at. It is lent: it belongs to
    #   this object, and {#close} closes it. <tt>IO.for_fd(memory.fd)</tt> would close it too, unless with
    #   <tt>autoclose: false</tt>; {#to_io} gives an IO of its own.
    #   @return [Integer]

    # An IO over the same memory with a descriptor of its own (close-on-exec), for what needs one: to pass it to a process
    # started by +spawn+, or over a UNIX socket. It goes on working when the memory is closed, and has to be closed itself.
    # All of the memory's descriptors share one position, in all processes: use +pread+ and +pwrite+. (macOS has no reading
    # and writing of shared memory by descriptor.) For an IO with a position of its own see {SharedMemoryIO}.
    #
    # @return [IO]
    # @raise [Errno::EBADF] if something else has closed {#fd}
    # @raise [Errno::EMFILE] if there is no descriptor left
    # @example
    #   memory = ProcessShared::SharedMemory.new(:int32)
    #   memory.to_io.pwrite([7].pack("l"), 0)
    #   memory.read_int32 # => 7
    def to_io
      IO.for_fd(copy_fd, "r+b").tap { |io| io.sync = true }
    end

    # Memory that holds a String and the NUL after it, as +put_string+ writes them.
    #
    # @param string [String]
    # @return [SharedMemory] of +string.bytesize+ + 1 bytes
    # @raise [TypeError] if it is not a String
    # @example
    #   ProcessShared::SharedMemory.from_string("hello").get_string(0) # => "hello"
    def self.from_string(string)
      text = String.try_convert(string) || raise(TypeError, "no String given: #{string.inspect}")
      new(:char, text.bytesize + 1).put_string(0, text)
    end
  end
end
