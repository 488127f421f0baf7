# frozen_string_literal: true

RSpec.describe ProcessShared::OpenWithSelf do
  let(:opened) do
    Class.new do
      extend ProcessShared::OpenWithSelf

      attr_reader :arguments

      def initialize(*arguments, **options, &block)
        @arguments = [arguments, options, block]
        @closed = 0
      end

      def close = @closed += 1
      def closed? = @closed == 1
    end
  end

  it "is new without a block" do
    object = opened.open(1, :two, three: 3)
    expect(object.arguments).to eq [[1, :two], { three: 3 }, nil]
    expect(object).not_to be_closed
  end

  it "yields the object, closes it afterwards, and returns the block's value" do
    inside = nil
    expect(opened.open(1, two: 2) { |object| (inside = object).closed? || :value }).to be :value
    expect(inside.arguments).to eq [[1], { two: 2 }, nil]
    expect(inside).to be_closed
  end

  it "closes the object when the block raises" do
    inside = nil
    expect { opened.open { |object| raise KeyError if inside = object } }.to raise_error(KeyError)
    expect(inside).to be_closed
  end

  it "closes the object when the block throws, breaks or returns, or its thread is killed" do
    insides = []
    catch(:out) { opened.open { |object| insides << object && throw(:out) } }
    opened.open { |object| insides << object && break }
    -> { opened.open { |object| insides << object && return } }.call
    thread = in_thread { opened.open { |object| insides << object && sleep } }
    wait_until_blocked(thread)
    thread.kill.join
    expect(insides.map(&:closed?)).to eq [true] * 4
  end

  it "does not close what was never made" do
    expect { ProcessShared::Semaphore.open(-1) { raise "not reached" } }.to raise_error(ArgumentError)
  end

  SharedClass.shared.each do |entry|
    describe "#{entry.klass}.open" do
      let(:named) { entry.klass }
      let(:arguments) { entry.arguments }

      it "is new without a block" do
        expect(named.open(*arguments)).to be_an_instance_of(named)
      end

      it "yields, closes, and returns the block's value" do
        inside = nil
        expect(named.open(*arguments) { |object| entry.ended?(inside = object) }).to be false
        expect(inside).to be_an_instance_of(named)
        expect(entry.ended?(inside)).to be true
      end

      it "closes when the block raises" do
        inside = nil
        expect { named.open(*arguments) { |object| raise KeyError if inside = object } }.to raise_error(KeyError)
        expect(entry.ended?(inside)).to be true
      end

      it "does not mind a block that closes the object itself" do
        expect(named.open(*arguments) { |object| entry.end_of(object); 5 }).to be 5
      end

      it "makes objects of a subclass" do
        subclass = Class.new(named)
        expect(subclass.open(*arguments) { |object| object.class }).to be subclass
      end
    end
  end

  it "lets a forked child go on with an object that the parent's block closed" do
    child = nil
    ProcessShared::Semaphore.open(0) do |semaphore|
      child = fork_child { |parent| parent.listen && semaphore.post.value }
    end
    child.tell(:go)
    expect(child.value).to be 1
  end
end
