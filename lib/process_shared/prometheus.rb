# frozen_string_literal: true

require "process_shared/map"
require "process_shared/monitor"

module ProcessShared
  # A data store for the prometheus-client gem: metrics of all workers together, without files. Make it before the
  # workers are forked (in Puma's configuration, or with <tt>preload_app!</tt>); metrics and labels may come later, in
  # any process.
  #
  # Counters, histograms and summaries have one value for all processes, so that what a worker counted stays counted,
  # once, when the worker is gone. A gauge has a value for each process, and they are aggregated over those processes
  # that live:
  #
  #   store_settings: { aggregation: :sum } # or :max, :min, :most_recent, :all; the last, the default, adds the label pid
  #
  # It has no path: the processes that the master forks share it, and it begins anew with the next master, as counters do
  # for Prometheus. The client's <tt>Prometheus::Middleware::Exporter</tt> serves the metrics, from any worker.
  #
  # A worker that is killed in the middle of an observation may have counted a part of it (the bucket of a histogram,
  # and not yet the sum). Nothing else is lost, and nobody waits for it.
  #
  #   require "process_shared/prometheus"
  #   Prometheus::Client.config.data_store = ProcessShared::PrometheusStore.new
  #
  # @example What the client does with it
  #   require "process_shared/prometheus"
  #   requests = ProcessShared::PrometheusStore.new.for_metric(:requests, metric_type: :counter)
  #   2.times { Process.wait(fork { requests.increment(labels: { code: 200 }) }) }
  #   requests.get(labels: { code: 200 }) # => 2.0
  class PrometheusStore
    # A metric was declared with settings that this store does not know, or used against them.
    class InvalidStoreSettingsError < StandardError; end

    AGGREGATIONS = %i[sum max min all most_recent].freeze
    LOCKS = 16
    private_constant :AGGREGATIONS, :LOCKS

    # @param bytes [Integer] memory for all metrics: a label set takes 200 bytes or so, and a gauge's another 100 for
    #   each process. It is taken from the system as it is used. When it is full, a new label set raises {FullError}.
    def initialize(bytes: 64 << 20)
      @map = Map.new(bytes)
      @locks = Array.new(LOCKS) { Monitor.new } # metrics share them, as there may be new metrics after a fork
    end

    # What a metric keeps its values in. The gem calls this; so may you, for values of your own.
    # @param metric_name [Symbol]
    # @param metric_type [Symbol] +:counter+, +:gauge+, +:histogram+ or +:summary+
    # @param metric_settings [Hash] +aggregation+: one of +:sum+ (the default of all but gauges), +:max+, +:min+,
    #   +:all+ (the default of gauges) and, for gauges, +:most_recent+
    # @return [Object] an object with <tt>synchronize { }</tt>, <tt>set(labels:, val:)</tt>, <tt>increment(labels:,
    #   by: 1)</tt>, <tt>get(labels:)</tt> and +all_values+
    # @raise [InvalidStoreSettingsError]
    def for_metric(metric_name, metric_type:, metric_settings: {})
      gauge = metric_type == :gauge
      aggregation = aggregation_of(gauge, **metric_settings)
      series = Series.new(@map, @locks[metric_name.to_s.hash % LOCKS], metric_name.to_s)
      return Totals.new(series) if aggregation == :sum && !gauge

      aggregation == :most_recent ? MostRecent.new(series) : PerProcess.new(series, aggregation)
    end

    # Says how much room its values take.
    # @return [String]
    def inspect
      used, free = @map.stats.values_at(:bytes_used, :bytes_free)
      "#<#{self.class.name} #{used} bytes used, #{free} free>"
    end

    private

    def aggregation_of(gauge, aggregation: gauge ? :all : :sum, **unknown)
      raise InvalidStoreSettingsError, "no settings but :aggregation are known: #{unknown.keys.inspect}" unless unknown.empty?
      raise InvalidStoreSettingsError, "no such aggregation: #{aggregation.inspect}" unless AGGREGATIONS.include?(aggregation)
      raise InvalidStoreSettingsError, "only gauges have :most_recent" if aggregation == :most_recent && !gauge

      aggregation
    end

    # The label sets of a metric, and the keys under which the map has their values.
    class Series
      attr_reader :map, :lock, :name

      def initialize(map, lock, name)
        @map = map
        @lock = lock
        @name = name
        @keys = {}
      end

      # Lists the label set for all processes, with a first value, unless it is listed.
      def key(labels, first)
        @keys[labels] || list(labels, first)
      end

      # Its parts have their sizes before them, so that no two label sets have the same key. No metric's name begins
      # with a digit.
      def key_of(labels)
        parts = labels.sort_by { |label, _| label }.flatten(1).map(&:to_s)
        [name, *parts].map { |part| "#{part.bytesize}:#{part}" }.join
      end

      def each
        1.upto(map["#{name} series"] || 0) do |number|
          labels = map["#{name} series #{number}"] # nil if its process was killed before it stored them
          yield labels, key_of(labels) if labels
        end
      end

      private

      def list(labels, first)
        key = key_of(labels)
        lock.synchronize do
          unless map.key?(key)
            map.store("#{name} series #{map.increment("#{name} series")}", labels.transform_values(&:to_s))
            map.store(key, first)
          end
        end
        @keys[labels.dup.freeze] = key
      end
    end

    # One value for all processes.
    class Totals
      def initialize(series)
        @series = series
        @map = series.map
      end

      # Several changes in one step, for those who read all values.
      def synchronize(&block) = @series.lock.synchronize(&block)

      # prometheus-client sets a counter to 0 to make its labels known. What others have counted stays.
      def set(labels:, val:)
        key = @series.key(labels, 0.0)
        @map.store(key, val.to_f) unless val.zero?
      end

      def increment(labels:, by: 1) = @map.increment(@series.key(labels, 0.0), by.to_f, initial: 0.0)
      def get(labels:) = @map[@series.key_of(labels)] || 0.0

      def all_values
        synchronize do
          values = Hash.new(0.0)
          @series.each { |labels, key| values[labels] = @map[key] || 0.0 }
          values
        end
      end
    end

    # A value for each process, aggregated over those that live.
    class PerProcess
      def initialize(series, aggregation)
        @series = series
        @map = series.map
        @aggregation = aggregation
      end

      def synchronize(&block) = @series.lock.synchronize(&block)
      def set(labels:, val:) = @map.store(cell(labels), pack(val.to_f))
      def increment(labels:, by: 1) = @map.increment(cell(labels), by.to_f, initial: 0.0)
      def get(labels:) = (packed = @map[cell(labels)]) ? unpack(packed) : 0.0

      def all_values
        synchronize do
          processes = living
          values = Hash.new(0.0)
          @series.each do |labels, key|
            cells = processes.filter_map { |process| (packed = @map["#{key} #{process}"]) && [process, packed] }
            cells.empty? || aggregate(labels, cells, values)
          end
          values
        end
      end

      private

      def pack(value) = value
      def unpack(packed) = packed

      def aggregate(labels, cells, values)
        case @aggregation
        when :all then cells.each { |process, value| values[labels.merge(pid: process.to_i.to_s)] = value }
        when :sum then values[labels] = cells.sum(&:last)
        else values[labels] = cells.map(&:last).public_send(@aggregation)
        end
      end

      # The key of this process's own value.
      def cell(labels)
        enter unless @pid == Process.pid
        @cells[labels] || @cells[labels.dup.freeze] = "#{@series.key(labels, true)} #{@process}"
      end

      # Puts this process among those that have values.
      def enter
        synchronize do
          @cells = {}
          @process = Life.of(Process.pid)
          @map.store(processes_key, living | [@process])
          @pid = Process.pid
        end
      end

      # The processes that live; forgets the others, and their values.
      def living
        alive, dead = (@map[processes_key] || []).partition { |process| Life.of(process.to_i) == process }
        return alive if dead.empty?

        @series.each { |_, key| dead.each { |process| @map.delete("#{key} #{process}") } }
        @map.store(processes_key, alive)
      end

      def processes_key = "#{@series.name} processes"
    end

    # The value that was set last, of those of processes that live.
    class MostRecent < PerProcess
      def initialize(series) = super(series, :most_recent)

      def increment(**)
        raise InvalidStoreSettingsError, "a gauge with aggregation :most_recent can only be set"
      end

      private

      def pack(value) = [Process.clock_gettime(Process::CLOCK_MONOTONIC), value].pack("EE")
      def unpack(packed) = packed.unpack1("E", offset: 8)

      def aggregate(labels, cells, values)
        values[labels] = unpack(cells.map(&:last).max_by { |packed| packed.unpack1("E") })
      end
    end

    # Tells processes apart, also those that have the same number one after the other.
    module Life
      PROC = File.exist?("/proc/self/stat")

      # Number and time of start of a process, or nil if it is gone. Without /proc (macOS) the number alone.
      def self.of(pid)
        unless PROC
          Process.kill(0, pid)
          return pid.to_s
        end

        # after the name, in brackets: the third field is the state, the 22nd the time of start
        fields = File.read("/proc/#{pid}/stat").rpartition(")").last.split
        "#{pid} #{fields[19]}" unless %w[Z X].include?(fields[0])
      rescue Errno::EPERM
        pid.to_s
      rescue Errno::ENOENT, Errno::ESRCH
        nil
      end
    end

    private_constant :Series, :Totals, :PerProcess, :MostRecent, :Life
  end
end
