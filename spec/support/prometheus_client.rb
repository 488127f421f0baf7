# frozen_string_literal: true

# Stands in for the prometheus-client gem where that is not installed: the registry and the metrics, as far as they ask
# something of the data store.
module Prometheus
  module Client
    Config = Struct.new(:data_store)

    def self.config = @config ||= Config.new
    def self.registry = @registry ||= Registry.new

    # What it makes is known by its name.
    class Registry
      attr_reader :metrics

      def initialize = @metrics = []
      def counter(name, **options) = add(:counter, name, **options)
      def gauge(name, **options) = add(:gauge, name, **options)

      private

      def add(type, name, **options) = Metric.new(type, name, **options).tap { |metric| @metrics << metric }
    end

    # A counter or gauge.
    class Metric
      attr_reader :name

      def initialize(type, name, docstring:, labels: [], store_settings: {})
        raise ArgumentError, "docstring must be given" if docstring.empty?

        @name = name
        @labels = labels
        @store = Client.config.data_store.for_metric(name, metric_type: type, metric_settings: store_settings)
      end

      def increment(by: 1, labels: {}) = @store.increment(labels: checked(labels), by: by)
      def set(value, labels: {}) = @store.set(labels: checked(labels), val: value.to_f)
      def get(labels: {}) = @store.get(labels: checked(labels))
      def values = @store.all_values

      private

      def checked(labels)
        labels.keys.sort == @labels.sort or raise ArgumentError, "labels are #{@labels}, not #{labels.keys}"
        labels
      end
    end
  end
end
