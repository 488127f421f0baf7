# frozen_string_literal: true

module Storm
  # A counter under a read-write lock: nobody reads beside a writer.
  class Pages < Counter
    def step(me, random)
      case random.rand(12)
      when 0..5 then anywhere { @lock.with_read_lock { read(random) } }
      when 6 then @lock.try_read_lock(random.rand * 0.002) && hold { read(random) && @lock.release_read_lock }
      when 7 then @lock.try_write_lock(random.rand * 0.002) && hold { write(me) && @lock.release_write_lock }
      when 8 then hold { Thread.new { random.rand(2).zero? ? @lock.acquire_read_lock : @lock.acquire_write_lock && write(me) }.join }
      when 9 then anywhere { upgrade(me) }
      else anywhere { @lock.with_write_lock { write(me) } }
      end
    end

    # The interrupted thread may hold it in any way.
    def ring(_random)
      @lock.release_read_lock if @lock.try_read_lock
    end

    def verdict(_kills)
      check(@lock.try_write_lock(1), "still held")
      @lock.release_write_lock
      check_sum
      check(@lock.waiters.zero? && @lock.reader_pids.empty?, "waiters or readers left")
    end

    private

    def make_lock(repair) = ProcessShared::ReadWriteLock.new(on_abandoned: repair)

    def anywhere(&block) = Thread.handle_interrupt(ANYWHERE, &block)

    def read(random)
      hold do
        before = @cells[VALUE]
        check(@cells[INSIDE].zero?, "a writer beside a reader")
        random.rand(2).zero? ? Thread.pass : @lock.with_read_lock { nil }
        check(@cells[VALUE] == before && @cells[INSIDE].zero?, "a writer came in beside a reader")
        true
      end
    end

    def write(me)
      hold { count(me) }
    end

    def upgrade(me)
      @lock.with_upgradable_lock do
        before = hold { @cells[VALUE] }
        @lock.with_write_lock { hold { check(@cells[VALUE] == before, "a writer came before the upgrader") && write(me) } }
      end
    end
  end

  # A barrier that is broken by those who die or are interrupted there, and made whole by others. Nobody passes alone.
  class Gatherings < Scene
    PARTIES = 3

    def initialize(slots)
      super
      @epochs = ProcessShared::AtomicFixnum.new(0) # in which all have come
      @passed = cells(slots)
      @barrier = ProcessShared::CyclicBarrier.new(PARTIES) { hold { @epochs.increment } }
    end

    def step(me, random)
      timeout = random.rand * 0.02 if random.rand(4).zero?
      if @barrier.wait(timeout)
        hold { @passed[me] += 1 }
        check(@passed.sum(0) <= PARTIES * @epochs.value, "somebody passed alone")
      elsif @barrier.broken?
        @barrier.reset
      end
    end

    def ring(_random) = @barrier.number_waiting

    # A wait that is broken is none.
    def progress = @epochs.value

    def verdict(_kills)
      check(@passed.sum(0) <= PARTIES * @epochs.value, "somebody passed alone")
      check(@barrier.number_waiting.zero? && @barrier.waiters.zero?, "parties left")
    end
  end

  # Members that come, look at each other, and are killed.
  class Members < Scene
    def initialize(slots)
      super
      @members = ProcessShared::Presence.new(slots, bytes: 8)
    end

    def step(me, random)
      hold do
        @members.enter(me.to_s) do |member|
          check(member.memory.get_int64(0).zero?, "memory of another member")
          member.memory.put_int64(0, me + 1)
          @members.each { |other| look_at(other) }
          Thread.pass if random.rand(2).zero?
          check(member.memory.get_int64(0) == me + 1, "another member wrote here")
        end
      end
    end

    def ring(_random) = @members.size

    def verdict(_kills)
      check(@members.none?, "members left: #{@members.to_a}")
    end

    private

    def look_at(member)
      check(member.name&.match?(/\A\d+\z/) && member.name.to_i < slots && member.since <= Time.now + 1, "half a member: #{member.inspect}")
      return unless gone?(member)

      still = @members.any? { |other| other.tid == member.tid && other.since == member.since }
      check(!still, "a dead member: #{member.inspect}")
    end

    # A thread that is a zombie has done all that its end does. (A process is one as soon as its first thread is.)
    def gone?(member)
      return false unless File.directory?("/proc/self")

      File.read("/proc/#{member.pid}/task/#{member.tid}/stat").rpartition(")").last.start_with?(" Z", " X")
    rescue SystemCallError
      true
    end
  end

  # Events, numbers and a latch, which nobody owns.
  class Marks < Scene
    MANY = 2_000_000_000

    def initialize(slots)
      super
      @event = ProcessShared::Event.new
      @number = ProcessShared::AtomicFixnum.new(0)
      @flag = ProcessShared::AtomicBoolean.new(false)
      @latch = ProcessShared::CountDownLatch.new(MANY)
      @counted = cells(slots)
    end

    def step(me, random)
      if (me / Worker::THREADS).even?
        @event.wait(random.rand * 0.01)
        @latch.wait(random.rand * 0.001)
      else
        hold do
          @number.increment
          @latch.count_down
          @counted[me] += 1
          @flag.value ? @flag.make_false : @flag.make_true
          random.rand(2).zero? ? @event.set : @event.reset
        end
      end
    end

    def ring(_random) = @event.set

    # Who is killed has done some of its step.
    def verdict(kills)
      counted, slack = @counted.sum(0), kills * Worker::THREADS
      check((@number.value - counted).between?(0, slack), "#{@number.value} incremented, #{counted} counted")
      check((MANY - @latch.count - counted).between?(0, slack), "#{MANY - @latch.count} counted down, #{counted} counted")
      check(@event.waiters.zero? && @latch.waiters.zero?, "waiters left")
    end
  end
end
