# frozen_string_literal: true

module ProcessShared
  class Pointer
    # Writes an object with Marshal: all of it, or nothing if it does not fit.
    # @param object [Object]
    # @return [Integer] bytes written
    # @raise [IndexError] if it is too big
    # @raise [TypeError] if it cannot be marshalled
    # @example
    #   mem = ProcessShared::SharedMemory.new(1024)
    #   Process.wait(fork { mem.write_object({ "answer" => 42 }) })
    #   mem.read_object["answer"] # => 42
    def write_object(object); end

    # {#write_object} at an offset.
    # @param offset [Integer] bytes
    # @param object [Object]
    # @return [Integer] bytes written
    # @raise [IndexError] if it is too big
    # @raise [TypeError] if it cannot be marshalled
    def put_object(offset, object); end

    # Reads the object that {#write_object} wrote, in place. Runs +Marshal.load+: read only what you trust.
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
