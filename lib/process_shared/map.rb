# frozen_string_literal: true

require "process_shared/native"
require "process_shared/full_error"

module ProcessShared
  # Keys and values that processes share, with the interface of +Concurrent::Map+. It has a fixed size, and never drops an
  # entry: where there is no room it raises {FullError}. {Cache} drops entries instead.
  #
  # Differences from +Concurrent::Map+: {#fetch} stores what its block computes, and one process computes it for all; +new+
  # takes the size, and no block for default values. The methods of Enumerable come by +each+, as there: <tt>map.each.to_h</tt>.
  #
  # Readers take no lock, and wait for nobody. Writers of different keys seldom wait for one another. A process that is
  # killed in the middle of whatever it does with the map leaves the entry that it was writing as it was, or written;
  # all others as they are; and takes no memory with it.
  #
  # - *Keys*: Strings, Symbols, Integers, or whatever Marshal can write, of at most 4 MB. They are equal as +eql?+ has it.
  #   Where Marshal writes equal objects in different ways, as it does for Hashes in another order, they are different keys.
  # - *Values*: Integers, Floats, Symbols, Strings (with their encoding), true, false and nil are copied as they are; all
  #   else by Marshal, outside of any lock. What is read is a fresh object: changing it changes nothing in the map.
  # - <b>Time</b>: an entry with <tt>expires_in:</tt> (seconds) is gone at its instant, also if the machine slept meanwhile.
  #   A call that stores a new value sets the instant anew: without <tt>expires_in:</tt> the entry does not expire any more. Only
  #   {#increment} and {#decrement} leave the instant as it is.
  # - *Memory*: +bytes+ is for keys, values, and up to 40 bytes beside them for each entry; an index of about a tenth comes on
  #   top. It is taken from the system as it is first touched, and has neither a name nor a descriptor.
  #   What the index takes beyond that for very many tiny entries is there for others when those are gone.
  # - <b>With a path</b> the map is in a file, and processes that are not related share it. It survives all of them, also if
  #   they are killed. The file takes all its room when it is made. After a reboot the map is new.
  #
  # @example Sessions that all workers of a server know
  #   sessions = ProcessShared::Map.new(1 << 20)
  #   fork { sessions.store("4711", { user: 1 }, expires_in: 3600) }
  #   Process.wait
  #   sessions["4711"].fetch(:user) # => 1
  #
  # @example State that outlives its users
  #   require "tmpdir"
  #   Dir.mktmpdir do |folder|
  #     Process.wait(fork { ProcessShared::Map.new(1 << 16, path: "#{folder}/state").store(:last_run, 42) })
  #     ProcessShared::Map.new(1 << 16, path: "#{folder}/state")[:last_run] # => 42
  #   end
  #
  # @example Count, exactly
  #   counts = ProcessShared::Map.new(1 << 20)
  #   counts.increment("requests")     # => 1
  #   counts.increment("requests", 10) # => 11
  class Map
    # Stands for "no value".
    NONE = Object.new.freeze
    private_constant :NONE

    # @!method marshal_dump
    #   Refuses to be marshalled: the object is the shared thing, not a description of it.
    #   @raise [TypeError] always

    # @!parse extend OpenWithSelf

    # @!method initialize(bytes, path: nil, mode: 0600)
    #   @param bytes [Integer] room for so many bytes of entries: for each its key, its value, and up to 40 bytes
    #   @param path [String, Pathname, nil] opens the map in this file, or makes it: see {ProcessShared}
    #   @param mode [Integer] permissions of a new file
    #   @raise [ArgumentError] if it is below 1 or above 120 GB; if another class's file, or a map of another number of bytes, is at
    #     +path+
    #   @raise [ProcessError, IncompatibleError, SystemCallError] if there is a +path+ that cannot be used: see {ProcessShared}
    #   @raise [SystemCallError] if the system has no memory for it

    # @!method [](key)
    #   Takes no lock. Allowed in +trap+ handlers, as all methods without a block.
    #   @return [Object, nil] a copy of the value, or nil if there is none

    # @!method get(key)
    #   Same as {#[]}.

    # @!method []=(key, value)
    #   Stores a value that does not expire, in place of the one that was there.
    #   @raise [FullError] if there is no room; then nothing has changed
    #   @raise [ArgumentError] if the key is too long
    #   @raise [TypeError] if Marshal cannot write key or value

    # @!method store(key, value, expires_in: nil)
    #   As {#[]=}.
    #   @param expires_in [Numeric, nil] seconds until it is gone; nil: never
    #   @return [Object] value

    # @!method key?(key)
    #   Counts as neither a hit nor a miss.
    #   @return [Boolean]

    # @!method expires_in(key)
    #   @return [Float, nil] seconds until the entry is gone; nil if there is none, or it does not expire

    # @!method put_if_absent(key, value, expires_in: nil)
    #   @return [Object, nil] the value that is there, or nil if this one has been stored

    # @!method replace_if_exists(key, value, expires_in: nil)
    #   Stores the value if there is one already.
    #   @return [Object, nil] the old value, or nil if there is none

    # @!method get_and_set(key, value, expires_in: nil)
    #   @return [Object, nil] the old value, or nil if there was none

    # @!method replace_pair(key, old, new, expires_in: nil)
    #   Stores +new+ if the value is +old+: if both are written in the same bytes.
    #   @return [Boolean] whether it was

    # @!method delete(key)
    #   @return [Object, nil] the old value, or nil if there was none

    # @!method delete_pair(key, value)
    #   Deletes the entry if it has this value: if both are written in the same bytes.
    #   @return [Boolean] whether it had

    # @!method touch(key, expires_in: nil)
    #   Has the entry expire so many seconds from now, or never.
    #   @return [Boolean] whether there is one

    # @!method increment(key, by = 1, initial: 0, expires_in: nil)
    #   Adds to the number of a key, in one step. Where there is none, it begins with +initial+, and expires in so many
    #   seconds; later increments do not change when. No increment that has returned is lost, and none counts twice, whoever
    #   is killed.
    #   @param by [Integer, Float]
    #   @param initial [Integer, Float]
    #   @return [Integer, Float] the new number
    #   @raise [TypeError] if the value is no Float, and no Integer of 64 bits, signed
    #   @raise [RangeError] if the Integer would be beyond 64 bits, signed
    #   @raise [FullError] if there is none, and no room for it

    # @!method decrement(key, by = 1, initial: 0, expires_in: nil)
    #   As {#increment}, but subtracts.
    #   @return [Integer, Float] the new number

    # @!method size
    #   @return [Integer] how many entries there are, those that have expired not among them

    # @!method clear
    #   Removes all entries. Entries that others store meanwhile may stay.
    #   @return [self]

    # @!method bytes
    #   @return [Integer] what it was made with

    # @!method stats
    #   What all processes have done so far, and how full it is: +:hits+ and +:misses+ of reads, +:stores+, +:evictions+ (dropped
    #   to make room) and +:expirations+ (dropped since they had expired), +:entries+, +:bytes_used+ by them, and +:bytes_free+.
    #   @return [Hash{Symbol => Integer}]

    # @!method waiters
    #   @return [Integer] how many threads, in all processes, wait for a value that another one computes

    # @!method path
    #   @return [String, nil] the absolute path of its file; nil if it has none

    # @!method close
    #   Closes this handle in this process; others go on using the map. A thread of this process that waits raises
    #   {ClosedError}.
    #   @return [nil]

    # @!method closed?
    #   @return [Boolean] whether it was closed in this process

    # @!method inspect
    #   Says how many entries there are, how much room they take, and how many reads found something. Never waits, never raises.
    #   @return [String]

    # @!method to_s
    #   Same as {#inspect}.

    # Same as {#[]=}.
    def put(key, value) = self[key] = value

    # Same as {#put_if_absent}.
    def add(key, value, expires_in: nil) = put_if_absent(key, value, expires_in:)

    # Same as {#size}.
    def length = size

    # The value of a key. Where there is none, the block computes it: once over all processes, while others that want the same
    # key wait for it, and no other key does. If the block raises, or its process is killed, the next one that waits computes.
    # The block may use the map.
    #
    # @param default [Object] what to return if there is none; it is not stored
    # @param expires_in [Numeric, nil] seconds until what the block computes is gone
    # @yieldparam key
    # @return [Object]
    # @raise [KeyError] if there is none, and neither a default nor a block
    # @raise [ProcessError] if the block of this key fetches the same key
    # @raise [ThreadError] if it would have to wait in a +trap+ handler
    def fetch(key, default = NONE, expires_in: nil, &block)
      return compute_if_absent(key, expires_in:, &block) if block

      value = read_or(key, NONE)
      return value unless NONE.equal?(value)
      raise KeyError.new("key not found: #{key.inspect}", receiver: self, key:) if NONE.equal?(default)

      default
    end

    # As {#fetch}, but stores the default too.
    # @return [Object]
    # @raise [KeyError] if there is no value, and neither a default nor a block
    def fetch_or_store(key, default = NONE, expires_in: nil, &block)
      return fetch(key, expires_in:, &block) if block || NONE.equal?(default)

      compute_if_absent(key, expires_in:) { default }
    end

    # The value of a key. Where there is none, what the block computes, as in {#fetch}.
    # @yieldparam key
    # @return [Object]
    def compute_if_absent(key, expires_in: nil)
      value = read_or(key, NONE)
      return value unless NONE.equal?(value)

      computing(key) do
        value = peek_or(key, NONE) # somebody else may have computed it
        NONE.equal?(value) ? store(key, yield(key), expires_in:) : value
      end
    end

    # Replaces the value of a key by what the block makes of it; nil deletes the entry. Where there is none it does nothing.
    # If somebody else changes the value meanwhile, the block is called again.
    # @yieldparam value a copy, which the block may change
    # @return [Object, nil] the new value
    def compute_if_present(key, expires_in: nil)
      update(key, expires_in) { |old, stored| stored ? yield(old) : (return nil) }
    end

    # As {#compute_if_present}; where there is no value the block gets nil.
    # @yieldparam value [Object, nil]
    # @return [Object, nil] the new value
    def compute(key, expires_in: nil)
      update(key, expires_in) { |old| yield(old) }
    end

    # Stores the value where there is none; else what the block makes of the one that is there; nil deletes the entry.
    # @yieldparam value
    # @return [Object, nil] the new value
    def merge_pair(key, value, expires_in: nil)
      update(key, expires_in) { |old, stored| stored ? yield(old) : value }
    end

    # @return [Time, nil] when the entry is gone; nil if there is none, or it does not expire
    def expires_at(key)
      seconds = expires_in(key)
      seconds && Time.now + seconds
    end

    # Calls the block with each key and value. Takes no lock: an entry that is there all the time is seen once; one that comes
    # or goes meanwhile may be seen or not.
    # @yieldparam key
    # @yieldparam value
    # @return [self, Enumerator]
    def each_pair
      return enum_for(:each_pair) { size } unless block_given?

      each_part(true) { |keys, values| keys.each_with_index { |key, index| yield key, values[index] } }
    end
    alias each each_pair

    # Calls the block with each key.
    # @return [self, Enumerator]
    def each_key(&block)
      return enum_for(:each_key) { size } unless block

      each_part(false) { |keys, _| keys.each(&block) }
    end

    # Calls the block with each value.
    # @return [self, Enumerator]
    def each_value(&block)
      return enum_for(:each_value) { size } unless block

      each_part(true) { |_, values| values.each(&block) }
    end

    # @return [Array] all keys, frozen
    def keys = each_key.to_a

    # @return [Array] all values
    def values = each_value.to_a

    # @return [Boolean] whether there is no entry
    def empty? = size.zero?

    # @return [Object, nil] a key that has this value
    def key(value)
      each_pair { |key, other| return key if other == value }
      nil
    end

    # @return [Boolean] whether a key has this value
    def value?(value) = each_value.any?(value)

    private

    def each_part(with_values)
      part = 0
      while part
        part, keys, values = some(part, with_values)
        yield keys, values
      end
      self
    end

    # Replaces the value of a key by what the block makes of it and of what is stored, until nobody changes it meanwhile.
    # Kernel#loop would end when the block raises StopIteration.
    def update(key, expires_in)
      computing(key) do
        is_done = false
        until is_done
          old, stored = peek_stored(key)
          new = yield(old, stored)
          is_done = replace(key, stored, new, expires_in)
        end
        new
      end
    end

    # Puts new in place of what was stored, or of nothing, if that is still so.
    def replace(key, stored, new, expires_in)
      return exchange_stored(key, stored, new, expires_in) if stored

      new.nil? ? !key?(key) : put_if_absent(key, new, expires_in:).nil?
    end
  end
end
