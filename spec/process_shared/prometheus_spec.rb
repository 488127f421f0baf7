# frozen_string_literal: true

require "process_shared/prometheus"

# What prometheus-client asks of a data store, and what its files cannot do.
RSpec.describe ProcessShared::PrometheusStore do
  let!(:store) { described_class.new(bytes: 4 << 20) }

  def metric(type = :counter, name: :name, **settings) = store.for_metric(name, metric_type: type, metric_settings: settings)

  invalid = described_class::InvalidStoreSettingsError

  %i[counter gauge histogram summary].each do |type|
    describe "a #{type}" do
      let(:values) { type == :gauge ? metric(type, aggregation: :sum) : metric(type) }

      it "has the value that was set for each label set, and 0 for others" do
        values.set(labels: { foo: "bar" }, val: 5)
        values.set(labels: { foo: "baz" }, val: 2)
        expect(%w[bar baz bat].map { |foo| values.get(labels: { foo: foo }) }).to eq [5.0, 2.0, 0.0]
        expect(values.all_values).to eq({ foo: "bar" } => 5.0, { foo: "baz" } => 2.0)
        expect(values.all_values[{ foo: "bat" }]).to eq 0.0
      end

      it "is incremented, also what was never set, and by less than 0" do
        values.set(labels: { foo: "bar" }, val: 5)
        values.increment(labels: { foo: "bar" })
        values.increment(labels: { foo: "zzz" }, by: 2.5)
        values.increment(labels: { foo: "zzz" }, by: -1)
        expect(values.all_values).to eq({ foo: "bar" } => 6.0, { foo: "zzz" } => 1.5)
      end

      it "changes and is read inside of synchronize" do
        expect(values.synchronize { values.increment(labels: {}) && values.synchronize { values.all_values } }).to eq({ {} => 1.0 })
      end

      it "takes labels in any order, with any values, as the Strings that they are" do
        values.increment(labels: { a: 1, b: :x })
        values.increment(labels: { b: "x", a: "1" })
        values.increment(labels: { a: "1:", b: "1:x" })
        labels = { a: +"mutable", b: "ü" }
        values.increment(labels: labels)
        labels[:a] << "!"
        values.increment(labels: labels)
        expect(values.all_values).to eq({ a: "1", b: "x" } => 2.0, { a: "1:", b: "1:x" } => 1.0,
                                        { a: "mutable", b: "ü" } => 1.0, { a: "mutable!", b: "ü" } => 1.0)
      end

      it "has nothing to do with another metric" do
        values.increment(labels: { a: "1" })
        expect(metric(type, name: :"name:a").all_values).to eq({})
      end
    end
  end

  describe "totals" do
    it "count what all processes count, exactly, also those that are gone" do
      children = Array.new(4) do |number|
        fork_child do
          requests = metric
          1000.times { requests.increment(labels: { code: 200 }) }
          requests.increment(labels: { code: 200 + number })
        end
      end
      children.each(&:value)
      expect(metric.all_values).to eq({ code: "200" } => 4001.0, { code: "201" } => 1.0, { code: "202" } => 1.0, { code: "203" } => 1.0)
    end

    it "stay when a new worker declares its labels" do
      metric.increment(labels: { code: "200" }, by: 5)
      in_child { metric.set(labels: { code: "200" }, val: 0) }
      in_child { metric.set(labels: { code: "500" }, val: 0) }
      expect(metric.all_values).to eq({ code: "200" } => 5.0, { code: "500" } => 0.0)
    end

    it "are read between two observations, never within one" do
      observing = fork_child do |parent|
        observed = metric(:histogram)
        parent.say(:begun)
        loop { observed.synchronize { %w[1 sum].each { |le| observed.increment(labels: { le: le }) } } }
      end
      observing.hear
      seen = Array.new(200) { metric(:histogram).all_values.values_at({ le: "1" }, { le: "sum" }) }
      expect(seen).to all(satisfy { |one, sum| one == sum })
    end

    it "go on when an observer is killed" do
      observer = fork_child { |parent| metric.synchronize { metric.increment(labels: {}) && parent.say(:inside) && sleep } }
      observer.hear
      observer.kill
      expect(metric.all_values).to eq({ {} => 1.0 })
    end
  end

  describe "gauges" do
    # Runs the block in a child that lives on; the child.
    def living
      fork_child { |parent| parent.say(yield) && parent.listen }.tap(&:hear)
    end

    { sum: 9.0, max: 6.0, min: 1.0 }.each do |aggregation, expected|
      it "have the #{aggregation} over the processes that live" do
        gauge = metric(:gauge, aggregation: aggregation)
        children = [1, 2, 6, 100].map { |value| living { gauge.set(labels: { a: 1 }, val: value) } }
        children.last.kill
        expect(gauge.all_values).to eq({ { a: "1" } => expected })
        expect(gauge.get(labels: { a: 1 })).to eq 0.0
        children.each(&:kill)
        expect(gauge.all_values).to eq({})
      end
    end

    it "have all values with their processes, which is what they do by default" do
      gauge = metric(:gauge)
      children = [1, 2].map { |value| living { gauge.set(labels: { a: 1 }, val: value) } }
      expect(gauge.all_values).to eq({ a: "1", pid: children[0].pid.to_s } => 1.0, { a: "1", pid: children[1].pid.to_s } => 2.0)
      children.first.kill
      expect(gauge.all_values.keys).to eq [{ a: "1", pid: children[1].pid.to_s }]
    end

    it "have the most recent value, and cannot be incremented then" do
      gauge = metric(:gauge, aggregation: :most_recent)
      children = [1, 2].map { |value| living { gauge.set(labels: {}, val: value) } }
      gauge.set(labels: {}, val: 3)
      expect([gauge.all_values, gauge.get(labels: {})]).to eq [{ {} => 3.0 }, 3.0]
      last = living { gauge.set(labels: {}, val: 4) }
      expect(gauge.all_values).to eq({ {} => 4.0 })
      [last, *children].each(&:kill)
      expect(gauge.all_values).to eq({ {} => 3.0 })
      expect { gauge.increment(labels: {}) }.to raise_error(invalid)
    end

    it "are not those of the process that forked" do
      gauge = metric(:gauge, aggregation: :sum)
      gauge.set(labels: {}, val: 5)
      expect(in_child { [gauge.get(labels: {}), gauge.increment(labels: {}), gauge.all_values] }).to eq [0.0, 1.0, { {} => 6.0 }]
      expect(gauge.all_values).to eq({ {} => 5.0 })
    end

    it "leave out a process that ended and is not reaped yet" do
      gauge = metric(:gauge, aggregation: :sum)
      child = living { gauge.set(labels: {}, val: 1) }
      expect(gauge.all_values).to eq({ {} => 1.0 })
      child.signal(:KILL)
      wait_until("its end") { gauge.all_values.empty? }
    end

    it "take no room for the dead" do
      gauge = metric(:gauge, aggregation: :sum)
      map = store.instance_variable_get(:@map)
      in_child { 10.times { |a| gauge.set(labels: { a: a }, val: 1) } }
      expect(gauge.all_values).to eq({})
      before = map.size
      3.times { in_child { 10.times { |a| gauge.set(labels: { a: a }, val: 1) } } }
      expect(gauge.all_values).to eq({})
      expect(map.size).to eq before
    end
  end

  describe "a process that is killed at any step", :unstressed, limit: 120 do
    include Recipes

    # A metric of a store that is made anew for each step.
    def fresh(type) = described_class.new(bytes: 1 << 20).for_metric(:name, metric_type: type, metric_settings: { aggregation: :sum })

    it "leaves a total that counts on" do
      counter = nil
      steps = kill_at_every_step(-> { counter.increment(labels: { a: 1 }) }, stride: 5) do
        counter = fresh(:counter)
        lambda do
          before = counter.all_values[{ a: "1" }]
          expect(before).to be(0.0).or be(1.0)
          counter.increment(labels: { a: 1 })
          expect(counter.all_values).to eq({ { a: "1" } => before + 1 })
        end
      end
      expect(steps).to be > 20
    end

    it "leaves no value of its own in a gauge, and the others theirs" do
      gauge = nil
      steps = kill_at_every_step(-> { gauge.set(labels: { a: 1 }, val: 5) }, stride: 5) do
        gauge = fresh(:gauge)
        gauge.set(labels: { b: 1 }, val: 1)
        lambda do
          expect(gauge.all_values).to eq({ { b: "1" } => 1.0 })
          gauge.set(labels: { a: 1 }, val: 2)
          expect(gauge.all_values).to eq({ { b: "1" } => 1.0, { a: "1" } => 2.0 })
        end
      end
      expect(steps).to be > 20
    end
  end

  it "refuses settings that it does not know" do
    expect { metric(:counter, aggregation: :average) }.to raise_error(invalid, /average/)
    expect { metric(:counter, aggregation: :most_recent) }.to raise_error(invalid)
    expect { metric(:counter, bucket: 1) }.to raise_error(invalid, /bucket/)
  end

  it "raises when it is full, and goes on counting what it has" do
    small = described_class.new(bytes: 8192)
    counter = small.for_metric(:name, metric_type: :counter)
    counter.increment(labels: { number: "first" })
    expect { 10_000.times { |number| counter.increment(labels: { number: number }) } }.to raise_error(ProcessShared::FullError)
    counter.increment(labels: { number: "first" })
    expect(counter.all_values[{ number: "first" }]).to eq 2.0
  end

  it "says what it takes" do
    metric.increment(labels: {})
    expect(store.inspect).to match(/\A#<ProcessShared::PrometheusStore \d+ bytes used, \d+ free>\z/)
  end

  it "is loaded by those who ask for it" do
    script = "require 'process_shared'; print [defined?(ProcessShared::PrometheusStore), defined?(ActiveSupport)].inspect"
    expect(ruby(script, loaded: false)).to eq "[nil, nil]"
  end
end
