# frozen_string_literal: true

module Fuzz
  # Objects that one fiber uses, against what their states should be: results, errors, and all that can be asked after each
  # call. Nothing here ever waits.
  class States
    # A read-write lock that nobody else has.
    class ReadWrite
      def initialize(random)
        @random = random
        @lock = ProcessShared::ReadWriteLock.new
        @levels = { read: 0, write: 0 }
      end

      def call
        kind = %i[read write].sample(random: @random)
        return ["try_#{kind}_lock", @lock.public_send("try_#{kind}_lock"), (@levels[kind] += 1) && true] if @random.rand(2).zero?

        held = @levels[kind].positive?
        @levels[kind] -= 1 if held
        ["release_#{kind}_lock", States.result { @lock.public_send("release_#{kind}_lock") }, held || ProcessShared::ProcessError]
      end

      def actual = [@lock.reader_pids, @lock.owner_pid, @lock.write_locked?, @lock.abandoned?, @lock.waiters]

      def expected
        read, write = @levels.values_at(:read, :write).map(&:positive?)
        [read ? [Process.pid] : [], write ? Process.pid : nil, write, false, 0]
      end
    end

    # Permits, plain or robust.
    class Permits
      def initialize(random)
        @random = random
        @robust = Subjects::ROBUST && random.rand(2).zero?
        @free = random.rand(6)
        @held = 0
        @semaphore = ProcessShared::Semaphore.new(@free, robust: @robust)
      end

      def call
        count = @random.rand(5)
        case @random.rand(6)
        when 0..1 then ["try_acquire(#{count})", @semaphore.try_acquire(count), take(count)]
        when 2..3 then ["release(#{count})", States.result { @semaphore.release(count) }, give(count)]
        when 4 then ["drain_permits", @semaphore.drain_permits, drain]
        else change(count)
        end
      end

      def actual = [@semaphore.available_permits, @robust ? @semaphore.holders.values.sum : @held, @semaphore.waiters]
      def expected = [@free, @held, 0]

      private

      def move(count)
        @free -= count
        @held += count if @robust
      end

      def take(count)
        taken = count.zero? || @free >= count
        move(count) if taken
        taken
      end

      def give(count)
        return ProcessShared::ProcessError if @robust && @held < count

        move(-count) && nil
      end

      def drain
        drained = @robust ? [@free, 0].max : @free
        move(drained)
        drained
      end

      def change(count)
        if @robust && @random.rand(2).zero?
          @free = count - @held
          return ["resize(#{count})", @semaphore.resize(count).equal?(@semaphore), true]
        end
        @free -= count
        ["reduce_permits(#{count})", @semaphore.reduce_permits(count), nil]
      end
    end

    # A number, an event and a latch.
    class Marks
      def initialize(random)
        @random = random
        @number = ProcessShared::AtomicFixnum.new(@value = random.rand(-9..9))
        @event, @set = ProcessShared::Event.new, false
        @latch = ProcessShared::CountDownLatch.new(@count = random.rand(9))
      end

      def call
        by = @random.rand(-3..3)
        case @random.rand(7)
        when 0 then ["increment(#{by})", @number.increment(by), @value += by]
        when 1 then ["compare_and_set", @number.compare_and_set(by, by + 1), @value == by && (@value = by + 1) && true]
        when 2 then ["update", @number.update { |value| value * 2 % 1000 }, @value = @value * 2 % 1000]
        when 3 then ["set", @event.set, @set = true]
        when 4
          @set = false
          ["reset", @event.reset, true]
        when 5 then ["wait(0)", @event.wait(0), @set]
        else ["count_down", @latch.count_down, (@count -= 1 if @count.positive?) && nil]
        end
      end

      def actual = [@number.value, @event.set?, @latch.count, @latch.wait(0)]
      def expected = [@value, @set, @count, @count.zero?]
    end

    # Who is here: this thread and others.
    class Members
      def initialize(random)
        @random = random
        @presence = ProcessShared::Presence.new(random.rand(1..3), bytes: 8)
        @name = nil
      end

      def call
        if @random.rand(2).zero?
          name = %w[a b c].sample(random: @random)
          fails = @name && ProcessShared::ProcessError
          @name ||= name
          ["enter", States.result { @presence.enter(name).name }, fails || name]
        else
          was, @name = @name, nil
          ["leave", States.result { @presence.leave && true }, was ? true : ProcessShared::ProcessError]
        end
      end

      def actual = [@presence.map(&:name), @presence.size, @presence.pids]
      def expected = @name ? [[@name], 1, [Process.pid]] : [[], 0, []]
    end

    # A barrier that nobody else comes to: whoever needs another party breaks it.
    class Rounds
      def initialize(random)
        @random = random
        @parties = random.rand(1..2)
        @broken = false
        @acted = @passed = 0
        @barrier = ProcessShared::CyclicBarrier.new(@parties) { @acted += 1 }
      end

      def call
        if @random.rand(3).zero?
          @broken = false
          return ["reset", @barrier.reset, nil]
        end
        @broken ||= @parties > 1
        @passed += 1 unless @broken
        ["wait(0)", @barrier.wait(0), !@broken]
      end

      def actual = [@barrier.broken?, @barrier.number_waiting, @barrier.waiters, @barrier.parties, @acted]
      def expected = [@broken, 0, 0, @parties, @passed]
    end

    KINDS = [ReadWrite, Permits, Marks, Members, Rounds].freeze
    CALLS = 50 # of one object

    # What a call returned, or the class of what it raised.
    def self.result
      yield
    rescue ProcessShared::ProcessError => error
      error.class
    end

    def initialize(seed)
      @random = Random.new(seed)
    end

    def run(count)
      (count / CALLS).times do
        object = KINDS.sample(random: @random).new(@random)
        CALLS.times do
          call, actual, expected = object.call
          same(actual, expected, "#{object.class}: #{call}")
          same(object.actual, object.expected, "#{object.class}: after #{call}")
        end
      end
    end

    private

    def same(actual, expected, what)
      raise Senseless, "#{what}: #{actual.inspect} instead of #{expected.inspect}" unless actual == expected
    end
  end
end
