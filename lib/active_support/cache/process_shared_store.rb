# frozen_string_literal: true

require "active_support"
require "active_support/cache"
require "active_support/core_ext/object/blank"
require "active_support/notifications"
require "process_shared/cache"

# Rails' library, where it is installed.
module ActiveSupport
  # Its cache, and the stores of it.
  module Cache
    # A cache store that all workers of a host share. It costs what MemoryStore costs, and there is one instead of one
    # in each worker. It is a +ProcessShared::Cache+: its size is fixed, it drops what has expired and then what is
    # least worth keeping, and a worker that is killed, at whatever instruction, costs nobody anything. For
    # ActiveSupport 6.1 and newer.
    #
    #   config.cache_store = :process_shared_store, { size: 64.megabytes }
    #
    # The process that made it and all that it forked since then share it. Under Puma and Unicorn that takes
    # <tt>preload_app!</tt>: without that each worker makes one of its own. With <tt>path:</tt> it is in a file: all
    # processes that name the file share it, related or not, and it outlives restarts of the server.
    #
    #   config.cache_store = :process_shared_store, { size: 64.megabytes, path: Rails.root.join("tmp/cache/shared") }
    #
    # It has all that ActiveSupport's own stores have: versions, <tt>race_condition_ttl</tt>, <tt>unless_exist</tt>,
    # LocalCache, instrumentation, <tt>coder</tt>, <tt>serializer</tt> and <tt>compressor</tt>. What differs from
    # them:
    #
    # - Values are not compressed unless you ask for it (<tt>compress: true</tt>), as in MemoryStore.
    # - {#increment} and {#decrement} count in one step, exactly, over all processes. A full cache may drop a counter as
    #   any other entry: where limits have to hold, give them a store of their own.
    # - With <tt>raw: true</tt> values are Strings when they are read, as in RedisCacheStore. What looks like an
    #   Integer takes the room of one, and can be counted. Read without <tt>raw</tt> it is an Integer.
    # - A value that is larger than the cache can ever hold is not stored: +write+ returns false and says so in the
    #   log, and what was stored under that name before is gone.
    # - With <tt>race_condition_ttl</tt> an entry takes room for that many seconds after it has expired. An entry that was
    #   written without it is gone when it expires, as in RedisCacheStore.
    # - With <tt>path:</tt> another <tt>size</tt> than that of the file raises ArgumentError. Delete the file to change it.
    # - {#clear} of a store with a namespace deletes the entries of that namespace only.
    class ProcessSharedStore < Store
      # An entry that was read. It costs a fraction of what it takes to make a new one, which asks for the time.
      class Read < Entry
        attr_reader :value, :expires_at

        def initialize(value, expires_at = nil, version = nil)
          @value = value
          @expires_at = expires_at
          @version = version
        end

        def expires_at=(time)
          @expires_at = time&.to_f
        end

        def expired? = @expires_at && @expires_at <= Time.now.to_f
      end
      private_constant :Read

      # How values are stored that are written without compression, and without a coder of the user's. It takes a
      # fraction of the time that a marshalled Entry takes, and does not change with ActiveSupport's version.
      module Frame
        # The kind of value, the time at which the entry expires or -1, the size of the version or -1, the version,
        # the value.
        FORMAT = "CEl<a*a*"
        HEADER = "CEl<"
        HEADER_BYTES = 13

        # Kinds. Nothing that Marshal or ActiveSupport's own coders write begins with one of these bytes.
        ENCODINGS = { 0xf8 => Encoding::UTF_8, 0xf9 => Encoding::BINARY, 0xfa => Encoding::US_ASCII }.freeze
        KINDS = ENCODINGS.invert.freeze
        MARSHALLED = 0xfb

        class << self
          def dump(entry) = pack(entry.value, entry.expires_at, entry.version)

          def pack(value, expires_at, version)
            kind = KINDS[value.encoding] if value.instance_of?(String)
            [kind || MARSHALLED, expires_at || -1.0, version ? version.bytesize : -1, version || "",
             kind ? value : Marshal.dump(value)].pack(FORMAT)
          end

          def frame?(payload) = payload.getbyte(0)&.between?(0xf8, MARSHALLED)
          def expires_at(payload) = payload.unpack1("E", offset: 1)

          # Nil where the class of what was marshalled is not there any more.
          def load(payload)
            kind, expires_at, version_bytes = payload.unpack(HEADER)
            start = HEADER_BYTES
            unless version_bytes.negative?
              version = payload.byteslice(start, version_bytes).force_encoding(Encoding::UTF_8)
              start += version_bytes
            end
            value = payload.byteslice(start, payload.bytesize)
            value = kind == MARSHALLED ? Marshal.load(value) : value.force_encoding(ENCODINGS[kind])
            Read.new(value, expires_at.negative? ? nil : expires_at, version)
          rescue ArgumentError, TypeError
            nil
          end
        end
      end
      private_constant :Frame

      # A raw String that is binary: it is not to be taken for what a coder has made.
      Bytes = Struct.new(:string)
      private_constant :Bytes

      # Around ActiveSupport: a call that comes to the same without its preparations does without them.
      module Direct
        # As all stores have it.
        def read(name, options = nil)
          return super unless options.nil? && direct?(name, "cache_read.active_support")

          payload = @cache[name]
          return payload if payload.nil? || itself?(payload)

          entry = deserialize_entry(payload)
          entry.nil? || entry.expired? ? super : entry.value
        end

        # As all stores have it.
        def write(name, value, options = nil)
          expires_in = options[:expires_in] if options
          return super unless lasting?(options, expires_in) && direct?(name, "cache_write.active_support")

          return write_payload(name, Frame.pack(value, Time.now.to_f + expires_in, nil), expires_in, false) if expires_in

          @cache[name] = itself?(value) ? value : Frame.pack(value, nil, nil)
          true
        rescue ::ProcessShared::FullError
          super
        end

        private

        # Whether the name is the key, no option changes what is stored, and nobody wants to hear of it.
        def direct?(name, event)
          @direct && name.instance_of?(String) && name.encoding == UTF_8 && !name.empty? && plain_options? &&
            !local_cache && !logger&.debug? && !Notifications.notifier.listening?(event)
        end

        # Whether the user has given no options to the store.
        def plain_options? = @options.size == 1 && @options[:compress] == false

        # A store has no local cache in any thread until somebody has asked for the key of those.
        def local_cache = @has_local_caches && super

        def local_cache_key
          @has_local_caches = true
          super
        end

        # Whether there are no options but a plain number of seconds.
        def lasting?(options, expires_in)
          return true if options.nil?

          options.size == 1 && (expires_in.instance_of?(Integer) || expires_in.instance_of?(Float)) && expires_in.positive?
        end

        def read_entry(key, **options)
          return super if local_cache

          payload = @cache[key]
          payload && deserialize_entry(payload, raw: options[:raw])
        end

        # ActiveSupport 6.1 keeps the entry itself in its local cache: a raw one has to be the String that others read.
        def write_entry(key, entry, **options)
          return super(key, options[:raw] && LOCAL_ENTRIES ? raw_entry(entry) : entry, **options) if local_cache

          payload = plain?(entry, options) ? plain_payload(entry) : serialize_entry(entry, **options)
          write_payload(key, payload, entry.expires_at && lifetime(entry, options), options[:unless_exist])
        end
      end
      private_constant :Direct

      # What ActiveSupport 6.1 does otherwise: its local cache keeps entries, and its coders take no options.
      LOCAL_ENTRIES = Strategy::LocalCache.private_method_defined?(:write_entry)
      OPTIONLESS = Store.instance_method(:serialize_entry).arity == 1
      INTEGERS = (-2**62...2**62).freeze # those that Ruby has no object for
      UTF_8 = Encoding::UTF_8
      BINARY = Encoding::BINARY
      private_constant :LOCAL_ENTRIES, :OPTIONLESS, :INTEGERS, :UTF_8, :BINARY

      prepend Strategy::LocalCache
      prepend Direct

      # Says that entries can have versions.
      # @return [true]
      def self.supports_cache_versioning? = true

      # @param options [Hash, nil] those of all stores, and
      #   <tt>size</tt>, the bytes of memory: 32 MB if it is not given. It is taken from the system as it is first used;
      #   <tt>path</tt> and <tt>mode</tt>, those of its file: see +ProcessShared::Map+
      def initialize(options = nil)
        options = { compress: false }.merge(options || {})
        size = options.delete(:size) || (32 << 20)
        file = options.slice(:path, :mode)
        @framed = (options.keys & %i[coder serializer compressor]).empty?
        @direct = @framed && instance_of?(ProcessSharedStore)
        @has_local_caches = false
        @cache = ::ProcessShared::Cache.new(size, **file)
        super(options.except(*file.keys))
      end

      # Adds to a number in one step, over all processes. One that is not there begins at 0, and then +expires_in+
      # counts from now on; later calls do not change when it expires.
      # @param name [Object] the key
      # @param amount [Integer] how much to add
      # @param options [Hash, nil] +expires_in+, +namespace+
      # @return [Integer] the new number
      # @raise [RangeError] if it is too large for 64 bits, or was when it was written
      def increment(name, amount = 1, options = nil)
        count(:increment, name, amount, 1, options)
      end

      # Subtracts from a number in one step: see {#increment}.
      # @return [Integer] the new number
      def decrement(name, amount = 1, options = nil)
        count(:decrement, name, amount, -1, options)
      end

      # Deletes the entries whose keys match.
      # @param matcher [Regexp, String] a String is a pattern as shells have it: <tt>*</tt>, <tt>?</tt>, <tt>[a-z]</tt>
      # @param options [Hash, nil] +namespace+
      # @return [Integer] how many
      def delete_matched(matcher, options = nil)
        options = merged_options(options)
        instrument(:delete_matched, matcher.inspect) do
          if matcher.is_a?(Regexp)
            pattern = key_matcher(matcher, options)
            delete_if { |key| key.match?(pattern) }
          else
            pattern = namespace_key(matcher, options)
            delete_if { |key| File.fnmatch?(pattern, key, File::FNM_DOTMATCH) }
          end
        end
      end

      # Deletes what has expired. The cache does that by itself when it needs room.
      # @param _options [Hash, nil] none
      # @return [nil]
      def cleanup(_options = nil)
        instrument(:cleanup, nil, size: @cache.size) do
          @cache.each_pair { |key, payload| @cache.delete_pair(key, payload) if expired?(payload) }
          nil
        end
      end

      # Deletes all entries, for all processes; those of one namespace, where the store or the options name one.
      # @param options [Hash, nil] +namespace+
      # @return [nil]
      def clear(options = nil)
        prefix = namespace_key("", merged_options(options))
        prefix.empty? ? @cache.clear : delete_if { |key| key.start_with?(prefix) }
        nil
      end

      # @return [Hash{Symbol => Integer}] what +ProcessShared::Cache#stats+ counts, over all processes: hits, misses,
      #   stores, evictions, expirations, entries, bytes_used, bytes_free
      def stats = @cache.stats

      # Says how many entries there are, how much room they take, and the options.
      # @return [String]
      def inspect
        used, entries = @cache.stats.values_at(:bytes_used, :entries)
        "#<#{self.class.name} entries=#{entries}, size=#{used}, options=#{@options.inspect}>"
      end

      private

      def read_entry(key, **options)
        deserialize_entry(read_serialized_entry(key, **options), **options)
      end

      def read_serialized_entry(key, **)
        @cache[key]
      end

      def write_entry(key, entry, **options)
        options[:expires_in] = entry.expires_at && lifetime(entry, options)
        write_serialized_entry(key, serialize_entry(entry, **options), **options)
      end

      def write_serialized_entry(key, payload, unless_exist: false, expires_in: nil, **)
        write_payload(key, payload, expires_in, unless_exist)
      end

      def write_payload(key, payload, expires_in, unless_exist)
        return write_new(key, payload, expires_in) if unless_exist

        expires_in ? @cache.store(key, payload, expires_in: expires_in) : @cache[key] = payload
        true
      rescue ::ProcessShared::FullError => error
        @cache.delete(key)
        logger&.warn("#{self.class.name}: #{key} is not stored: #{error.message}")
        false
      end

      def delete_entry(key, **)
        !@cache.delete(key).nil?
      end

      def serialize_entry(entry, **options)
        return plain_payload(entry) if plain?(entry, options)
        return raw_payload(entry.value) if options[:raw]

        payload = OPTIONLESS ? super(entry) : super(entry, **options)
        payload.is_a?(String) ? payload.b : payload
      end

      # Numbers and Strings in an encoding are the value itself; what a coder has made is binary.
      def deserialize_entry(payload, raw: false, **)
        case payload
        when String
          return Read.new(payload) if payload.encoding != Encoding::BINARY
          return Frame.load(payload) if @framed && Frame.frame?(payload)
        when Numeric then return Read.new(raw ? payload.to_s : payload)
        when Bytes then return Read.new(payload.string)
        end
        super(payload)
      end

      def plain?(entry, options)
        @framed && !options[:raw] && !options[:compress] && (entry.version.nil? || entry.version.is_a?(String))
      end

      # The value itself wherever it says all there is to say.
      def plain_payload(entry)
        value = entry.value
        entry.expires_at || entry.version || !itself?(value) ? Frame.dump(entry) : value
      end

      def itself?(value)
        case value
        when String then value.instance_of?(String) && value.encoding != BINARY
        when Integer then INTEGERS.cover?(value)
        when Float then true
        end
      end

      # An Integer wherever the String can be had back from it.
      def raw_payload(value)
        text = value.to_s
        number = text.to_i if text.bytesize <= 20
        return number if number && INTEGERS.cover?(number) && number.to_s == text

        text.encoding == Encoding::BINARY ? Bytes.new(text) : text
      end

      def raw_entry(entry) = Read.new(entry.value.to_s, entry.expires_at)

      # Seconds that the cache keeps an entry: its life, and the time in which a fetch may still ask for it. The entry
      # itself tells the instant at which it expires.
      def lifetime(entry, options)
        seconds = options[:expires_in]
        seconds = entry.expires_at - Time.now.to_f if seconds.nil? || options[:expires_at] # as ActiveSupport 7.0 has it
        options[:raw] ? seconds.to_f : seconds.to_f + options[:race_condition_ttl].to_f
      end

      # An entry that has expired, but is still there for a fetch with race_condition_ttl, counts as absent.
      def write_new(key, payload, expires_in)
        there = @cache.put_if_absent(key, payload, expires_in: expires_in)
        return true if there.nil?
        return false unless expired?(there)

        @cache.compute(key, expires_in: expires_in) do |old|
          return false unless old.nil? || expired?(old)

          payload
        end
        true
      end

      def expired?(payload)
        return false if payload.is_a?(Numeric)

        if @framed && payload.is_a?(String) && Frame.frame?(payload)
          expires_at = Frame.expires_at(payload)
          return expires_at >= 0 && expires_at <= Time.now.to_f
        end
        deserialize_entry(payload)&.expired?
      end

      def count(operation, name, amount, sign, options)
        options = merged_options(options)
        key = normalize_key(name, options)
        step = sign * (amount.is_a?(Float) ? amount : Integer(amount))
        expires_at = options[:expires_at]
        expires_in = expires_at ? expires_at - Time.now : options[:expires_in]
        instrument(operation, key, amount: amount) { change(key, step, expires_in&.to_f) }
      end

      def change(key, step, expires_in)
        @cache.increment(key, step, expires_in: expires_in)
      rescue TypeError
        make_number(key)
        retry
      end

      # Makes an entry that was written without raw the number that it holds, unless somebody else changes it meanwhile.
      def make_number(key)
        payload = @cache[key]
        return if payload.nil? || INTEGERS.cover?(payload)

        entry = deserialize_entry(payload)
        return @cache.delete_pair(key, payload) if entry.nil? || entry.expired?

        number = entry.value.to_i
        raise RangeError, "#{number} is too large to be counted" unless INTEGERS.cover?(number)

        expires_in = entry.expires_at && entry.expires_at - Time.now.to_f
        @cache.compute(key, expires_in: expires_in) do |there|
          break unless Marshal.dump(there) == Marshal.dump(payload)

          number
        end
      end

      def delete_if
        deleted = 0
        @cache.each_key { |key| deleted += 1 if yield(key) && !@cache.delete(key).nil? }
        deleted
      end
    end
  end
end
