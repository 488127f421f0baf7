# frozen_string_literal: true

require "process_shared/map"

module ProcessShared
  # A {Map} that makes room: when it is full it drops what has expired, then what is least worth keeping. That is what was
  # not read since it came, or not for long. A loop over many keys that are read once leaves in it what is read often.
  #
  # It never drops all at once, and an entry of up to a quarter of its bytes always fits, however it was used before. All
  # else is as {Map} has it.
  #
  # @example What the workers of a server know together
  #   cache = ProcessShared::Cache.new(1 << 20)
  #   page = cache.fetch("page", expires_in: 60) { "rendered once" }
  #   page # => "rendered once"
  class Cache
    # @!method initialize(bytes, path: nil, mode: 0600)
    #   @param bytes [Integer] room for so many bytes of entries; see {Map#initialize}
    #   @param path [String, Pathname, nil] as for {Map#initialize}
    #   @param mode [Integer] permissions of a new file
    #   @raise [ArgumentError] if it is below 1 or above 120 GB; as {Map#initialize}
    #   @raise [ProcessError, IncompatibleError, SystemCallError] if there is a +path+ that cannot be used: see {ProcessShared}
    #   @raise [SystemCallError] if the system has no memory for it

    # @!method [](key)
    #   As {Map#[]}. An entry that is read is worth more than one that is not.
  end
end
