# frozen_string_literal: true

require "process_shared"

module ProcessShared
  # Many read at a time, or one writes. The interface is that of +Concurrent::ReentrantReadWriteLock+, and more.
  #
  # Reader and writer are fibers of threads of processes. A fiber can take the lock several times, and the writer can read.
  # A forked child holds nothing. Once a writer waits for the readers to end, no new one comes in; those who read already
  # may read again. Readers write to no memory that others write to, so as many as there are processors read at full speed.
  #
  # A reader that dies is out at once. When a writer dies, the next one, writer or reader, has the lock at once, and
  # {#abandoned?} tells that the data may be half written, until a writer has released the lock. With +on_abandoned:+ the
  # data are repaired before that. The death of a thread that only waits to write, or of an upgrader that only reads, leaves
  # nothing to repair.
  #
  # @example Many readers, and a writer now and then
  #   lock = ProcessShared::ReadWriteLock.new
  #   data = ProcessShared::SharedMemory.new(100)
  #   data.write_object("old")
  #   pid = fork { lock.with_write_lock { data.write_object("new") } }
  #   Process.wait(pid)
  #   lock.with_read_lock { data.read_object } # => "new"
  #
  # @example Read, and become the writer without letting another one in between
  #   lock = ProcessShared::ReadWriteLock.new
  #   count = ProcessShared::SharedArray.new(:int, 1)
  #   lock.with_upgradable_lock do
  #     now = count[0]
  #     lock.with_write_lock { count[0] = now + 1 } if now.zero?
  #   end
  #   count[0] # => 1
  class ReadWriteLock
    # @!method marshal_dump
    #   Refuses to be marshalled: the object is the shared thing, not a description of it.
    #   @raise [TypeError] always

    # @!parse extend OpenWithSelf

    # @!method initialize(on_abandoned: nil, path: nil, mode: 0600)
    #   A free lock; one in a file that others have open is as it is.
    #   @param on_abandoned [#call, nil] is given the lock, written by the calling fiber, after a writer died: repairs the data. If it
    #     raises, the lock is released, stays abandoned, and the exception comes out of the call that took the lock
    #   @param path [String, Pathname, nil] opens the object in this file, or makes it: see {ProcessShared}
    #   @param mode [Integer] the mode of a file that is made, exactly
    #   @raise [TypeError] if +on_abandoned+ cannot be called with one argument
    #   @raise [ArgumentError] if another class's file is at +path+
    #   @raise [ProcessError, IncompatibleError, SystemCallError] if there is a +path+ that cannot be used: see {ProcessShared}

    # @!method acquire_read_lock
    #   Begins to read; waits while somebody writes, or waits to.
    #   @return [true]
    #   @raise [ProcessError] if it would wait for another fiber of its own thread; if there is no room for one more reader (32,768
    #     threads take part in the objects that one process has made, 800 in one with a path); if the thread holds 2,000 locks
    #   @raise [ThreadError] if it would have to wait in a +trap+ handler

    # @!method try_read_lock(timeout = nil)
    #   @param timeout [Numeric, nil] seconds; without, it does not wait
    #   @return [Boolean] whether the calling fiber reads now

    # @!method release_read_lock
    #   @return [true]
    #   @raise [ProcessError] if the calling fiber does not read

    # @!method with_read_lock
    #   Reads for as long as the block takes.
    #   @yieldreturn [Object]
    #   @return [Object] what the block returns
    #   @raise [ArgumentError] without a block

    # @!method acquire_write_lock
    #   Becomes the writer; waits until nobody else reads or writes. The upgrader becomes the writer so. A fiber that merely reads may
    #   do this too, unless another fiber has its turn: then neither could go on.
    #   @return [true]
    #   @raise [ProcessError] if it could wait for ever, as above, or for another fiber of its own thread
    #   @raise [ThreadError] if it would have to wait in a +trap+ handler

    # @!method try_write_lock(timeout = nil)
    #   @param timeout [Numeric, nil] seconds; without, it does not wait
    #   @return [Boolean] whether the calling fiber is the writer now
    #   @raise [ProcessError] as {#acquire_write_lock}, with a timeout

    # @!method release_write_lock
    #   @return [true]
    #   @raise [ProcessError] if the calling fiber is not the writer

    # @!method with_write_lock
    #   Writes for as long as the block takes.
    #   @yieldreturn [Object]
    #   @return [Object] what the block returns
    #   @raise [ArgumentError] without a block

    # @!method with_upgradable_lock
    #   Reads for as long as the block takes, beside readers, while nobody else can write or have this. In the block, {#with_write_lock}
    #   makes it the writer once the readers have ended, and nobody writes in between.
    #   @yieldreturn [Object]
    #   @return [Object] what the block returns
    #   @raise [ArgumentError] without a block

    # @!method has_waiters?
    #   @return [Boolean] whether anybody waits

    # @!method waiters
    #   @return [Integer] how many, in all processes, wait now

    # @!method write_locked?
    #   @return [Boolean] whether somebody writes

    # @!method abandoned?
    #   @return [Boolean] whether a writer died, and no writer has released the lock since

    # @!method owner_pid
    #   @return [Integer, nil] the process of the writer

    # @!method reader_pids
    #   @return [Array<Integer>] the processes of the readers, each once; not that of an upgrader

    # @!method path
    #   @return [String, nil] the absolute path of its file; nil if it has none

    # @!method close
    #   Closes this handle in this process; others go on using the lock. The lock is released if the
    #   calling fiber holds it, unless the process has another handle for the same path.
    #   @return [nil]

    # @!method closed?
    #   @return [Boolean] whether it was closed in this process

    # @!method inspect
    #   Says who reads or writes, and how many wait. Never waits, never raises.
    #   @return [String]

    # @!method to_s
    #   Same as {#inspect}.
  end
end
