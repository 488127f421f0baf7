# frozen_string_literal: true

module ProcessShared
  # Memory that this process shares with those it forks. It is zero at first, and taken from the system as it is
  # touched, so a large one costs nothing until it is used. It is anonymous: not in +/dev/shm+, whose size does not
  # matter, and gone with the last process that has it, however that ended. What a killed process had written stays.
  #
  # The memory itself has no lock: where several processes write, hold a {Mutex} around it.
  #
  # @example Numbers
  #   mem = ProcessShared::SharedMemory.new(:int32, 2)
  #   Process.wait(fork { mem.put_array_of_int32(0, [12, 34]) })
  #   mem.get_int32(4) # => 34
  #
  # @example An object
  #   mem = ProcessShared::SharedMemory.new(1024)
  #   Process.wait(fork { mem.write_object({ "answer" => 42 }) })
  #   mem.read_object["answer"] # => 42
  class SharedMemory < Pointer
    extend OpenWithSelf

    # @overload initialize(bytes = 1, reserve: false)
    #   @param bytes [Integer]
    # @overload initialize(type, count = 1, reserve: false)
    #   @param type [Symbol, FFI::Type] a type the ffi gem knows: +:int32+, +:double+, +:size_t+, ...
    #   @param count [Integer] elements
    # @param reserve [Boolean] take all of it now
    # @raise [TypeError] for an unknown type
    # @raise [ArgumentError] if the size is below 1, or beyond what an address can hold
    # @raise [Errno::ENOMEM, Errno::ENOSPC] if it cannot be had, with +reserve+
    def initialize(type = 1, count = 1, reserve: false); end

    # @return [Integer] elements
    def count; end

    # @return [Symbol, FFI::Type] what the elements are
    def type; end

    # @return [Integer] its file descriptor, which is closed on +exec+
    def fd; end

    # Writes an object with Marshal: all of it, or nothing if it does not fit.
    # @param object [Object]
    # @return [Integer] bytes written
    # @raise [IndexError] if it is too big
    # @raise [TypeError] if it cannot be marshalled
    def write_object(object); end

    # {#write_object} at an offset.
    # @param offset [Integer] bytes
    # @param object [Object]
    # @return [Integer] bytes written
    # @raise [IndexError] if it is too big
    def put_object(offset, object); end

    # Reads the object that {#write_object} wrote. Runs +Marshal.load+: read only what you trust.
    # @return [Object]
    # @raise [TypeError] if there is no object
    def read_object; end

    # {#read_object} at an offset.
    # @param offset [Integer] bytes
    # @return [Object]
    # @raise [TypeError] if there is no object
    def get_object(offset); end
  end
end
