# frozen_string_literal: true

require "fileutils"
require "tmpdir"

module Fuzz
  # A queue against an Array that should hold the same items: what each call returns and raises, in which order items come,
  # how often they were delivered, and what is left after every call.
  class QueueModel
    # Leaves a block with an item.
    class Left < StandardError; end

    # An item, its number, and how often it was taken before.
    Entry = Struct.new(:number, :item, :deliveries)

    DEPTH = 4 # blocks in blocks
    CALLS = { push: 8, concat: 3, pop: 6, take: 8, pop_all: 3, kill: 0.1, clear: 0.2, close: 0.3, resize: 1, reopen: 0.3 }.freeze

    def initialize(seed)
      @random = Random.new(seed)
      begin_anew
    end

    def run(count)
      count.times { call(0) }
    ensure
      FileUtils.remove_entry(@folder) if @folder
    end

    private

    def begin_anew
      FileUtils.remove_entry(@folder) if @folder
      @folder = @random.rand(4).zero? ? Dir.mktmpdir : nil
      @max = @random.rand(3).zero? ? @random.rand(1..20) : nil
      @bytes = [5000, 50_000, 1 << 20].sample(random: @random)
      @there, @flying, @number, @closed = [], [], 0, false
      open
    end

    def open
      options = { bytes: @bytes }
      options[:path] = File.join(@folder, "queue") if @folder
      @queue = @max ? ProcessShared::SizedQueue.new(@max, **options) : ProcessShared::Queue.new(**options)
    end

    def call(depth)
      name = choose
      send(name, depth)
      state = [@queue.size, @queue.empty?, @queue.closed?, @queue.in_flight, @queue.num_waiting]
      flying = @flying.empty? ? {} : { Process.pid => @flying.size }
      same(state, [@there.size, @there.empty?, @closed, flying, 0], "the state after #{name}")
    end

    def choose
      point = @random.rand * CALLS.values.sum
      CALLS.each { |name, weight| return name if (point -= weight) < 0 }
      :push
    end

    def same(actual, expected, what)
      raise Senseless, "#{what}: #{actual.inspect[0, 500]} instead of #{expected.inspect[0, 500]}" unless actual == expected
    end

    def item
      case @random.rand(8)
      when 0..2 then @random.rand(-2**63..2**63)
      when 3 then @random.bytes(@random.rand(300))
      when 4 then ("ü" * @random.rand(3000)).encode(%w[UTF-8 UTF-16LE].sample(random: @random))
      when 5 then @random.bytes(@random.rand(@bytes))
      when 6 then [nil, true, false, :symbol, 1.5, 0.1 + 0.2].sample(random: @random)
      else { "key" => [@random.rand(100)] * @random.rand(100) }
      end
    end

    def added(items) = @there.concat(items.map { |item| Entry.new(@number += 1, item, 0) })

    def push(_depth)
      given = item
      result = attempt { @queue.push(given, true) }
      if Marshal.dump(given).bytesize > @bytes && result == IndexError then nil
      elsif @closed then same(result, ClosedQueueError, "push to a closed queue")
      elsif @max && @there.size >= @max then same(result, "queue full", "push to a full queue")
      elsif result == "queue full" then refuse_nothing
      else
        same(result, @queue, "push")
        added([given])
      end
    end

    # There is room for any item when there is no other.
    def refuse_nothing
      raise Senseless, "an empty queue is full" if @there.empty? && @flying.empty?
    end

    # Few small ones, because it waits for room.
    def concat(_depth)
      given = Array.new(@random.rand(5)) { |index| @random.rand(2).zero? ? index : "text #{index}" }
      return if given.size > room

      result = attempt { @queue.concat(given) }
      return same(result, given.empty? ? @queue : ClosedQueueError, "concat to a closed queue") if @closed

      same(result, @queue, "concat")
      added(given)
    end

    def room
      bytes = (@there + @flying).sum { |entry| Marshal.dump(entry.item).bytesize + 4096 }
      return 0 if bytes + 8192 > @bytes

      @max ? [@max - @there.size, 0].max : 5
    end

    def pop(_depth)
      result = attempt { @queue.pop(true) }
      return same(result, "queue empty", "pop from an empty queue") if @there.empty?

      same(result, @there.shift.item, "pop")
    end

    # In a block, with other calls in it, which is left in one of many ways.
    def take(depth)
      return if depth == DEPTH

      entry = @there.first
      given = nil
      result = attempt do
        catch(:out) do
          @queue.pop(true) do |item, deliveries|
            given = [item, deliveries]
            @flying << @there.shift
            entry.deliveries += 1
            @random.rand(4).times { call(depth + 1) }
            case @random.rand(5)
            when 0 then raise Left
            when 1 then throw :out, :thrown
            when 2 then break :broken
            when 3 then next :next
            else :value
            end
          end
        end
      end
      return same(result, "queue empty", "pop with a block from an empty queue") unless entry

      same(given, [entry.item, entry.deliveries], "what the block got")
      @flying.delete_if { |other| other.equal?(entry) }
      back(entry) if [Left, :thrown].include?(result)
    end

    def back(entry)
      @there.insert(@there.index { |other| other.number > entry.number } || @there.size, entry)
    end

    def pop_all(_depth)
      most = @random.rand(1..10)
      expected = @there.shift(most).map(&:item)
      same(@queue.pop_all(most, timeout: 0), expected.empty? ? nil : expected, "pop_all")
    end

    # A process that is killed with some items.
    def kill(_depth)
      count = [@random.rand(1..3), @there.size].min
      pid = fork do
        die = lambda do |left|
          Process.kill(:KILL, Process.pid) if left.zero?
          @queue.pop { die.call(left - 1) }
        end
        die.call(count)
      end
      Process.wait(pid)
      @there.first(count).each { |entry| entry.deliveries += 1 }
    end

    def clear(_depth)
      @queue.clear
      @there.clear
    end

    def close(depth)
      return begin_anew if @closed && depth.zero?

      @queue.close
      @closed = true
    end

    def resize(_depth)
      @queue.max = @max = @random.rand(1..20) if @max
    end

    def reopen(depth)
      return unless @folder && depth.zero?

      @queue.release
      open
    end

    # The value; the message of a ThreadError; the class of another exception.
    def attempt
      yield
    rescue ClosedQueueError, IndexError, Left => error
      error.class
    rescue ThreadError => error
      error.message
    end
  end
end
