# frozen_string_literal: true

require "process_shared/pointer"
require "process_shared/shared_memory_io"

module ProcessShared
  # Zero-filled memory that is shared with every process forked later. It has no name and is no file: it ends with the
  # last process that has it, also after <tt>kill -9</tt>. The size of /dev/shm does not matter. With a +path+ it is a
  # file, which keeps what is written: unrelated processes share it, and so do those before a restart with those after it.
  #
  # <tt>SharedMemory.new(bytes = 1)</tt> or <tt>SharedMemory.new(type, count = 1)</tt>, with one of the types below.
  # With a block the object is yielded and then closed.
  #
  # == Eight methods that are enough
  #
  # The 190 accessors are those of +FFI::Pointer+, one for each type and way. These do for most programs:
  #
  # - <tt>get(type, offset)</tt> and <tt>put(type, offset, value)</tt>: one number or boolean of any type
  # - <tt>get_bytes(offset, length)</tt> and <tt>put_bytes(offset, string)</tt>: bytes, as binary Strings
  # - <tt>get_string(offset)</tt> and <tt>put_string(offset, string)</tt>: a String that ends with a NUL
  # - <tt>read_object</tt> and <tt>write_object(object)</tt>: any object, by Marshal
  #
  # Offsets and lengths are in bytes. A {SharedArray} holds many numbers of one type, and counts in elements; a
  # {SharedMemoryIO} reads and writes as a file. {Pointer} lists all accessors.
  #
  # == Types
  #
  # - signed integers of 1, 2, 4 and 8 bytes: +:int8+ (+:char+, +:schar+, +:int8_t+), +:int16+ (+:short+, +:int16_t+),
  #   +:int32+ (+:int+, +:int32_t+), +:int64+ (+:long_long+, +:int64_t+, +:quad_t+)
  # - unsigned ones: +:uint8+ (+:uchar+, +:u_char+, +:uint8_t+, +:u_int8_t+), +:uint16+ (+:ushort+, +:u_short+,
  #   +:uint16_t+, +:u_int16_t+), +:uint32+ (+:uint+, +:u_int+, +:uint32_t+, +:u_int32_t+), +:uint64+ (+:ulong_long+,
  #   +:uint64_t+, +:u_int64_t+, +:u_quad_t+)
  # - as large as C's +long+, 8 bytes: +:long+, +:ulong+ (+:u_long+)
  # - floats of 4 and 8 bytes: +:float32+ (+:float+), +:float64+ (+:double+)
  # - +:bool+, 1 byte
  # - +:pointer+, 8 bytes (+:buffer_in+, +:buffer_out+, +:buffer_inout+, +:caddr_t+): to read one needs the ffi gem
  # - integers of the system's size: +:size_t+, +:ssize_t+, +:off_t+, +:pid_t+, +:uid_t+, +:gid_t+, +:id_t+,
  #   +:time_t+, +:clock_t+, +:clockid_t+, +:suseconds_t+, +:mode_t+, +:dev_t+, +:ino_t+, +:nlink_t+, +:blksize_t+,
  #   +:blkcnt_t+, +:fsblkcnt_t+, +:fsfilcnt_t+, +:rlim_t+, +:key_t+, +:socklen_t+, +:sa_family_t+, +:in_addr_t+,
  #   +:in_port_t+, +:wchar_t+, +:intptr_t+, +:uintptr_t+, +:ptrdiff_t+, +:intmax_t+, +:uintmax_t+
  # - with the ffi gem, and for {Pointer#get}, {Pointer#put} and the size of a SharedMemory only: +:string+,
  #   +:strptr+, +:long_double+, +:void+, +:varargs+, and ffi's own types (+FFI::Type+, structs, enums, typedefs)
  #
  # == Several processes at once
  #
  # A number of up to 8 bytes at an address that its size divides is read and written as one: a reader sees the old or
  # the new number, never a mixture. Offset 0 is such an address for every type, and so are the elements of a
  # {SharedArray}. Everything else may be seen half-written: Strings, objects, several numbers, numbers that are not
  # aligned. And a read followed by a write, such as <tt>put(:int, 0, get(:int, 0) + 1)</tt>, is two steps, between
  # which others may write. Hold a {Mutex} for both.
  #
  # A process that is killed while it writes leaves the memory half-written. {#read_object} may raise then, or give a wrong
  # object, until somebody writes it anew: <tt>on_abandoned:</tt> of {Mutex} and {ReadWriteLock} is the place.
  #
  # == When memory is short
  #
  # Memory is taken from the system page by page, as it is first touched: a large region costs nothing until it is used.
  # If there is none left by then, the kernel ends a process (on Linux, the out-of-memory killer; in a container,
  # already when its control group reaches its limit, where shared memory counts for the process that touched it first,
  # until the last process has closed it). There is no exception to rescue. With <tt>reserve: true</tt> all of it is
  # taken at once: Errno::ENOMEM or Errno::ENOSPC tells that it cannot be had, before any of it is used. Under a limit
  # on file sizes (<tt>ulimit -f</tt>) a larger region is refused with Errno::EFBIG.
  #
  # @example
  #   memory = ProcessShared::SharedMemory.new(:int32, 2)
  #   Process.wait(fork { memory.put_array_of_int32(0, [1, 2]) })
  #   memory.get_array_of_int32(0, 2) # => [1, 2]
  # @example An object that another process made
  #   memory = ProcessShared::SharedMemory.new(1 << 16)
  #   Process.wait(fork { memory.write_object({ "pid" => Process.pid, "done" => [1, 2, 3] }) })
  #   memory.read_object["done"] # => [1, 2, 3]
  class SharedMemory < Pointer
    # @!parse extend OpenWithSelf

    # @!method initialize(type = 1, count = 1, reserve: false, path: nil, mode: 0600)
    #   @overload initialize(bytes = 1, reserve: false, path: nil, mode: 0600)
    #     @param bytes [Integer] the size
    #   @overload initialize(type, count = 1, reserve: false, path: nil, mode: 0600)
    #     @param type [Symbol, FFI::Type] one of the types above
    #     @param count [Integer] how many of them
    #   @param reserve [Boolean] take all of it now; other threads run meanwhile, and an exception (Timeout) ends it
    #   @param path [String, Pathname, nil] opens the object in this file, or makes it: see {ProcessShared}
    #   @param mode [Integer] the mode of a file that is made, exactly
    #   @yieldparam memory [SharedMemory] itself, which is closed when the block ends
    #   @raise [TypeError] for an unknown type
    #   @raise [ArgumentError] if the size is below 1, or beyond what an address can hold; if the file at +path+ is another
    #     class's, or has elements of another type or number
    #   @raise [ProcessError, IncompatibleError, SystemCallError] if there is a +path+ that cannot be used: see {ProcessShared}
    #   @raise [Errno::EFBIG] if it is beyond the limit on file sizes
    #   @raise [Errno::EMFILE, Errno::ENFILE] if there is no descriptor left
    #   @raise [Errno::ENOMEM, Errno::ENOSPC] if there is no address space, or with +reserve+ no memory

    # @!method path
    #   @return [String, nil] the absolute path of its file; nil if it has none

    # @!method count
    #   @return [Integer] elements

    # @!method type
    #   @return [Symbol, FFI::Type] what the elements are

    # @!method atomic(offset = 0)
    #   A number over 8 bytes of the memory, which keeps it mapped; to count without a lock. There can be as many as the
    #   memory has room for, and several for the same bytes.
    #   @param offset [Integer] bytes, a multiple of 8
    #   @return [AtomicFixnum]
    #   @raise [ArgumentError] if the offset is no multiple of 8
    #   @raise [IndexError] if the 8 bytes are not all inside

    # @!method fd
    #   The number of the memory's file descriptor (close-on-exec), to pass on or to look at. It is lent: it belongs to
    #   this object, and {#close} closes it. <tt>IO.for_fd(memory.fd)</tt> would close it too, unless with
    #   <tt>autoclose: false</tt>; {#to_io} gives an IO of its own. That of memory with a path is the file's, where the
    #   elements begin at byte 4096: pass the path on instead.
    #   @return [Integer]

    # An IO over the same memory with a descriptor of its own (close-on-exec), for what needs one: to pass it to a
    # process started by +spawn+, or over a UNIX socket. It goes on working when the memory is closed, and has to be
    # closed itself. All of the memory's descriptors share one position, in all processes: use +pread+ and +pwrite+.
    # (macOS has no reading and writing of shared memory by descriptor.) For an IO with a position of its own see
    # {SharedMemoryIO}.
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

    # Memory whose descriptor came from elsewhere: from a process that started this one by +spawn+, or over a UNIX socket
    # (+recv_io+). It is all of what is behind the descriptor, or its first +count+ elements. The object has a copy of the
    # descriptor, close-on-exec; the caller goes on owning its own.
    #
    # Memory that can be sealed is sealed against shrinking. A file cannot be: whoever shortens it makes the next access
    # here end the process with SIGBUS.
    #
    # @param io [IO, Integer, #to_io] a descriptor of memory (+SharedMemory#fd+, a memfd) or of a regular file, open for
    #   reading and writing
    # @param type [Symbol, FFI::Type] what the elements are
    # @param count [Integer, nil] elements; nil: as many as there are
    # @return [SharedMemory]
    # @raise [ArgumentError] if there are fewer bytes than that, or none, or if it is no memory and no regular file
    # @raise [TypeError] if it is no IO, or for an unknown type
    # @raise [Errno::EBADF, Errno::EACCES, Errno::EMFILE] if it is no open descriptor, is not open for reading and writing, or
    #   none is left for the copy
    # @example To a program as its descriptor 3: <tt>spawn("ruby", "worker.rb", 3 => memory.fd)</tt>; or over a socket
    #   require "socket"
    #   memory = ProcessShared::SharedMemory.new(:int32, 2)
    #   here, there = UNIXSocket.pair
    #   here.send_io(memory.to_io)
    #   ProcessShared::SharedMemory.for_fd(there.recv_io, :int32).put(:int32, 4, 7)
    #   memory.get(:int32, 4) # => 7
    def self.for_fd(io, type = :uint8, count = nil)
      opened = io.to_io if io.respond_to?(:to_io) # may be the only reference to it
      fd = opened ? opened.fileno : Integer.try_convert(io)
      raise TypeError, "no IO and no descriptor: #{io.inspect}" unless fd

      allocate.tap { |memory| memory.send(:map_descriptor, fd, type, count) }
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
