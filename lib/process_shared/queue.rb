# frozen_string_literal: true

require "process_shared/native"

module ProcessShared
  # +Thread::Queue+ across processes: first in, first out, for any number of producers and consumers. It distributes work
  # over forked workers, and no work is lost with a worker that is killed.
  #
  # Items are copied. Integers, Floats, Symbols, Strings, true, false and nil travel as they are, everything else by
  # Marshal, outside any lock. What comes out is fresh, as from +Marshal.load+: a String is not frozen.
  #
  # *Items in flight.* {#pop} with a block takes an item for as long as the block runs. If the block ends (also by +next+,
  # +break+ or +return+), the item is done. If it is left by an exception, +throw+ or +Thread#kill+, or its process dies in
  # whatever way, the item is back at the front of the queue at once, for the next taker, with one delivery more. So an
  # item may be begun twice, and one that kills its workers can be told by its deliveries. A child that is forked in the
  # block neither finishes the item nor puts it back.
  #
  # *A worker's loop.* {#pop} with a block returns the block's value. In <tt>nil while jobs.pop { |job| ... }</tt> the block has to
  # end with a true value: at nil or false the loop ends, and jobs are left. A closed queue that is empty returns nil also while
  # other workers have items in flight. When such a worker is killed, its item is back, and needs a worker: start a new
  # one for each that did not end with success, as examples/parallel_map.rb does.
  #
  # *Deaths.* A process may be killed at any instruction. An item whose {#push} returned is there exactly once; one whose
  # {#push} did not is there whole, or not at all. The queue goes on at once for everybody else.
  #
  # *Memory.* The queue takes memory as it fills and gives it back as it drains (on macOS it keeps it). It uses no
  # descriptor. When it is full, {#push} waits.
  #
  # *With a path* the queue is in a file, with what is in it, and processes that are not related share it. It survives all
  # of them: whoever opens it next finds the items that were in flight back at the front, with one delivery more. The
  # file takes room for all bytes when it is made, and gives none back. After a reboot the queue is new.
  #
  # {#close} is core's: for everybody, for ever. The handle ends with the object, or by {#release}. After that all calls but
  # {#release}, {#released?}, {#inspect} and {#to_s} raise {ClosedError}.
  #
  # A queue cannot be frozen, as in core. It can be passed to Ractors as it is.
  #
  # @example Work for forked workers
  #   jobs = ProcessShared::Queue.new
  #   results = ProcessShared::Queue.new
  #   workers = Array.new(2) do
  #     fork { nil while jobs.pop { |job| results.push(job * job) } }
  #   end
  #   jobs.concat([1, 2, 3]).close
  #   workers.each { |pid| Process.wait(pid) }
  #   results.pop_all.sort # => [1, 4, 9]
  #
  # @example A spool that outlives its users
  #   require "tmpdir"
  #   Dir.mktmpdir do |folder|
  #     options = { path: "#{folder}/mails", bytes: 1 << 20 }
  #     Process.wait(fork { ProcessShared::Queue.new(**options).push("mail 1").push("mail 2") })
  #     ProcessShared::Queue.new(**options).pop # => "mail 1"
  #   end
  #
  # @example Poison: set aside what three workers did not survive
  #   jobs = ProcessShared::Queue.new([:poison])
  #   aside = ProcessShared::Queue.new
  #   work = lambda do
  #     jobs.pop(timeout: 0) do |job, deliveries|
  #       next aside.push(job) if deliveries > 3
  #
  #       Process.kill(:KILL, Process.pid)
  #     end
  #   end
  #   4.times { Process.wait(fork(&work)) }
  #   aside.pop # => :poison
  class Queue
    # @!method marshal_dump
    #   Refuses to be marshalled: the object is the shared thing, not a description of it.
    #   @raise [TypeError] always

    # @!method initialize(items = nil, bytes: 64 << 20, path: nil, mode: 0600)
    #   @param items [#to_a, nil] what is in it at first; left out where there is a queue at +path+
    #   @param bytes [Integer] how many bytes there is room for, rounded up to blocks of 4 KB or more: also those of the largest item
    #   @param path [String, Pathname, nil] opens the queue in this file, or makes it: see {ProcessShared}
    #   @param mode [Integer] permissions of a new file
    #   @raise [ArgumentError] if there can be no queue of that size; if another class's file, or a queue of another number of
    #     bytes, is at +path+; if all +items+ do not fit into a new file
    #   @raise [ProcessError, IncompatibleError, SystemCallError] if there is a +path+ that cannot be used: see {ProcessShared}
    #   @raise [IndexError] if one of the items is larger than the queue
    #   @raise [TypeError] if +items+ is no Array and cannot become one

    # @!method push(item, non_block = false, timeout: nil)
    #   Adds an item at the end. Waits while the queue is full.
    #   @param item [Object] what Marshal can write
    #   @param non_block [Boolean] whether to raise instead of waiting
    #   @param timeout [Numeric, nil] seconds
    #   @return [self, nil] nil if there was no room within the timeout
    #   @raise [ClosedQueueError] if the queue is closed
    #   @raise [IndexError] if the item is larger than the queue: then nothing was added
    #   @raise [ThreadError] if the queue is full and +non_block+ is true, or it would have to wait in a +trap+ handler
    #   @raise [ArgumentError] if +non_block+ and +timeout+ are given
    #   @raise [TypeError] if Marshal cannot write the item

    # @!method <<(item, non_block = false, timeout: nil)
    #   Same as {#push}.

    # @!method enq(item, non_block = false, timeout: nil)
    #   Same as {#push}.

    # @!method concat(array)
    #   Adds all elements, in one step if there is room for them; else as many at a time as there is room for. Much cheaper than
    #   a {#push} for each. If it is ended by an exception, the first of the elements may be in the queue.
    #   @param array [#to_ary]
    #   @return [self]
    #   @raise what +push+ raises: nothing was added if an element is larger than the queue

    # @!method pop(non_block = false, timeout: nil)
    #   Takes the first item. Waits while the queue is empty.
    #
    #   Without a block the item is taken for good. An exception that +Marshal.load+ raises goes out, and the item is gone.
    #
    #   With a block the item is in flight until the block ends: see above. Also if +Marshal.load+ raises, it goes back.
    #   @param non_block [Boolean] whether to raise instead of waiting
    #   @param timeout [Numeric, nil] seconds
    #   @yieldparam item [Object]
    #   @yieldparam deliveries [Integer] how often the item has been taken, this time included
    #   @return [Object, nil] the item, or the block's value; nil if the queue is closed and empty, or the timeout has passed
    #   @raise [ThreadError] if the queue is empty and +non_block+ is true, or it would have to wait in a +trap+ handler
    #   @raise [ArgumentError] if +non_block+ and +timeout+ are given
    #   @raise [ProcessError] if more processes, or more items, are in flight than can be told apart

    # @!method shift(non_block = false, timeout: nil)
    #   Same as {#pop}.

    # @!method deq(non_block = false, timeout: nil)
    #   Same as {#pop}.

    # @!method pop_all(max = nil, timeout: nil)
    #   Waits as {#pop} does, and takes all items that are there then, or the first +max+ of them. If one of them cannot be
    #   loaded, or the process dies, all are back at the front.
    #   @param max [Integer, nil] the most to take
    #   @param timeout [Numeric, nil] seconds
    #   @return [Array, nil] at least one item; nil as {#pop}
    #   @raise [ArgumentError] if +max+ is not positive

    # @!method in_flight
    #   @return [Hash{Integer => Integer}] how many items each process has in flight, by its pid

    # @!method close
    #   Lets nobody add items any more, in all processes, for ever. What is in the queue can be taken; then {#pop} returns nil.
    #   @return [self]

    # @!method closed?
    #   @return [Boolean] whether {#close} was called, by any process

    # @!method clear
    #   Removes all items that are not in flight.
    #   @return [self]

    # @!method size
    #   @return [Integer] items that can be taken: without those in flight

    # @!method length
    #   Same as {#size}.

    # @!method empty?
    #   @return [Boolean] whether there is no item to take

    # @!method num_waiting
    #   @return [Integer] how many threads, in all processes, wait for an item or for room

    # @!method waiters
    #   Same as {#num_waiting}.

    # @!method path
    #   @return [String, nil] the absolute path of its file; nil if it has none

    # @!method release
    #   Ends this handle in this process; others go on using the queue. A thread of this process that waits raises {ClosedError}.
    #   @return [nil]

    # @!method released?
    #   @return [Boolean] whether this handle was released in this process

    # @!method inspect
    #   Says how many items there are and how many threads wait. Never waits, never raises.
    #   @return [String]

    # @!method to_s
    #   Same as {#inspect}.

    # Without a block the same as +new+. With one, yields the queue and releases the handle when the block ends, however that
    # happens. Others go on using the queue.
    # @param args what +new+ takes
    # @return [Object] the block's value, or the queue without a block
    def self.open(*args, **options)
      queue = new(*args, **options)
      return queue unless block_given?

      begin
        yield queue
      ensure
        queue.release
      end
    end

    # As in core: others write to it.
    # @raise [TypeError] always
    def freeze
      raise TypeError, "cannot freeze #{inspect}"
    end
  end
end
