# frozen_string_literal: true

require "process_shared/shared_memory"

module ProcessShared
  # Which processes and threads take part in something now: the workers of a server, those who use a quota. Each has a name
  # and some memory that the others can read.
  #
  # A member is a thread. When it ends, or its process does, in whatever way, it is gone at once; nobody has to look for it,
  # beat a heart or clean up. A forked child has not entered, whatever its parent has.
  #
  # What {#each} and {#pids} give is as it was at one moment during the call, for each member. They never see one that
  # has half entered.
  #
  # All slots together take as much memory as has been used of them; a member takes 192 bytes, and +bytes+ rounded up to a
  # multiple of 64. With a path, the file has room for all slots from the start.
  #
  # @example What each worker does
  #   workers = ProcessShared::Presence.new
  #   worker = fork do
  #     workers.enter("worker 1") { |me| me.memory.put_int32(0, 42) && sleep }
  #   end
  #   Thread.pass until workers.any? { |member| member.memory.get_int32(0) == 42 }
  #   workers.map { |member| [member.name, member.memory.get_int32(0)] } # => [["worker 1", 42]]
  #   Process.kill(:KILL, worker)
  #   Process.wait(worker)
  #   workers.size # => 0
  class Presence
    include Enumerable

    # A thread that has entered, as it was when it was looked at.
    class Member
      # @return [Integer] its process
      attr_reader :pid

      # @return [Integer] the number by which the system knows the thread (Linux), or its number among those that use this
      #   library (macOS)
      attr_reader :tid

      # @return [String, nil] what it has given as its name, in UTF-8
      attr_reader :name

      # @return [Time] when it entered
      attr_reader :since

      # @return [Pointer] its memory, of as many bytes as the Presence has for each. It begins as zeroes, and is the member's until
      #   it leaves; after that, it may be another's.
      attr_reader :memory

      # What {Presence#enter} and {Presence#each} know of a thread.
      # @param pid [Integer]
      # @param tid [Integer]
      # @param name [String, nil]
      # @param since [Time]
      # @param memory [Pointer]
      def initialize(pid, tid, name, since, memory)
        @pid, @tid, @name, @since, @memory = pid, tid, name, since, memory
        freeze
      end

      # @return [String] who it is
      def inspect
        "#<#{self.class} #{name.inspect} pid=#{pid} tid=#{tid} since=#{since}>"
      end
    end

    # Calls the block with each member, in the order in which they entered.
    # @yieldparam member [Member]
    # @return [self, Enumerator]
    def each(&block)
      return to_enum(:each) { size } unless block

      members.each(&block)
      self
    end

    # @!method marshal_dump
    #   Refuses to be marshalled: the object is the shared thing, not a description of it.
    #   @raise [TypeError] always

    # @!parse extend OpenWithSelf

    # @!method initialize(slots = 256, bytes: 64, path: nil, mode: 0600)
    #   @param slots [Integer] the most members there can be, from 1 to 32,768
    #   @param bytes [Integer] of memory for each, from 0 to 1,048,576
    #   @param path [String, Pathname, nil] opens the object in this file, or makes it: see {ProcessShared}
    #   @param mode [Integer] the mode of a file that is made, exactly
    #   @raise [ArgumentError] if they are outside; if another class's file, or one with other slots or bytes, is at +path+
    #   @raise [Errno::ENOMEM] if there is no memory for it
    #   @raise [ProcessError, IncompatibleError, SystemCallError] if there is a +path+ that cannot be used: see {ProcessShared}

    # @!method enter(name = nil)
    #   Makes the calling thread a member, until it leaves or ends; or for as long as the block takes, however it ends.
    #   @param name [String, nil] of at most 112 bytes in UTF-8
    #   @yieldparam member [Member] the calling thread, whose memory is zeroes
    #   @return [Member, Object] the member, or what the block returns
    #   @raise [ProcessError] if all slots are taken; if the thread has entered already
    #   @raise [ArgumentError] if the name is too long

    # @!method leave
    #   Ends the membership of the calling thread.
    #   @return [self]
    #   @raise [ProcessError] if it has not entered

    # @!method size
    #   @return [Integer] how many members there are

    # @!method slots
    #   @return [Integer] how many members there can be

    # @!method pids
    #   @return [Array<Integer>] the processes of the members, each once

    # @!method path
    #   @return [String, nil] the absolute path of its file; nil if it has none

    # @!method close
    #   Closes this handle in this process; others go on using it. A member that closes it leaves. The memory of members stays
    #   readable.
    #   @return [nil]

    # @!method closed?
    #   @return [Boolean] whether it was closed in this process

    # @!method inspect
    #   Says how many members there are, and how many there can be. Never waits, never raises.
    #   @return [String]

    # @!method to_s
    #   Same as {#inspect}.
  end
end
