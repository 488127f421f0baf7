# frozen_string_literal: true

require "process_shared/queue"

module ProcessShared
  # @!parse class SizedQueue < Queue; end

  # +Thread::SizedQueue+ across processes: a {Queue} with a limit to the number of its items, at which +push+ waits.
  #
  # Items in flight do not count. One that goes back may make the queue longer than its limit.
  #
  # @example A producer that is never more than two items ahead
  #   lines = ProcessShared::SizedQueue.new(2)
  #   producer = fork { %w[a b c d].each { |line| lines << line } && lines.close }
  #   read = []
  #   while (line = lines.pop)
  #     read << line
  #   end
  #   Process.wait(producer)
  #   read # => ["a", "b", "c", "d"]
  class SizedQueue
    # @!method initialize(max, bytes: 64 << 20, path: nil, mode: 0600)
    #   @param max [Integer] the most items; left out where there is a queue at +path+, which keeps its own
    #   @param bytes [Integer] how many bytes there is room for; see {Queue#initialize}
    #   @param path [String, Pathname, nil] as for {Queue#initialize}
    #   @param mode [Integer] permissions of a new file
    #   @raise [ArgumentError] if +max+ is not positive, or there can be no queue of that size; as {Queue#initialize}
    #   @raise [ProcessError, IncompatibleError, SystemCallError] if there is a +path+ that cannot be used: see {ProcessShared}

    # @!method max
    #   @return [Integer] the most items

    # @!method max=(max)
    #   Sets the limit, for all processes. Items beyond it stay.
    #   @param max [Integer]
    #   @raise [ArgumentError] if it is not positive
  end
end
