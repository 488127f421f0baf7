# frozen_string_literal: true

module Storm
  # A counter under a lock that is handed on when its holder dies. Who dies between the two writes leaves them unequal;
  # on_abandoned makes them equal again before anybody looks.
  class Counter < Scene
    VALUE, INSIDE, COMMITTED = 0, 1, 2

    def initialize(slots)
      super
      @cells = cells(COMMITTED + slots)
      @lock = make_lock(->(_) { repair })
    end

    def step(me, random)
      case random.rand(8)
      when 0 then timed(me, random.rand * 0.002)
      when 1 then @lock.lock && hold { enter(me) && @lock.unlock }
      when 2 then ended_with_it(me)
      else Thread.handle_interrupt(ANYWHERE) { @lock.synchronize { enter(me) } }
      end
    end

    # In a signal handler, the interrupted thread may be the holder: then it must not get the lock again.
    def ring(_random)
      held = @lock.owned?
      return unless @lock.try_lock

      check(!held || @lock.is_a?(ProcessShared::Monitor), "locked twice")
      @lock.unlock
    end

    def verdict(_kills)
      check(@lock.try_lock(1), "still held")
      @lock.unlock
      check_sum
      check(@lock.waiters.zero?, "waiters left")
    end

    private

    def make_lock(repair) = ProcessShared::Mutex.new(on_abandoned: repair)

    def check_sum
      check(@cells[VALUE] == @cells.sum(COMMITTED), "#{@cells[VALUE]} counted, #{@cells.sum(COMMITTED)} committed")
    end

    def repair
      @cells[VALUE] = @cells.sum(COMMITTED)
      @cells[INSIDE] = 0
    end

    def enter(me)
      hold do
        check(@lock.owned?, "not owned")
        count(me)
      end
    end

    # Nobody else is inside meanwhile.
    def count(me)
      check(@cells[INSIDE].zero?, "two inside")
      @cells[INSIDE] = me + 1
      @cells[COMMITTED + me] += 1
      @cells[VALUE] += 1
      check(@cells[INSIDE] == me + 1, "somebody else came in")
      @cells[INSIDE] = 0
      true
    end

    def timed(me, seconds)
      return unless @lock.try_lock(seconds)

      hold { enter(me) && @lock.unlock }
    end

    def ended_with_it(me)
      hold { Thread.new { @lock.lock && enter(me) }.join }
    end
  end

  # The same with a Monitor, entered several times over.
  class DeepCounter < Counter
    private

    def make_lock(repair) = ProcessShared::Monitor.new(on_abandoned: repair)

    def enter(me)
      hold { @lock.synchronize { @lock.try_enter && super && !@lock.exit } }
    end
  end

  # Counters under what has no owner, and so must not be killed.
  class BareCounter < Scene
    VALUE, COMMITTED = 0, 1

    def initialize(slots)
      super
      @semaphore = ProcessShared::BinarySemaphore.new
      @lock = ProcessShared::Semaphore.new(1).to_mtx
      @cells = Array.new(2) { cells(COMMITTED + slots) }
    end

    def step(me, random)
      if random.rand(2).zero?
        @semaphore.synchronize { enter(@cells[0], me) }
      elsif random.rand(4).zero?
        @lock.try_lock(random.rand * 0.002) && hold { enter(@cells[1], me) && @lock.unlock }
      else
        @lock.synchronize { enter(@cells[1], me) }
      end
    end

    def verdict(_kills)
      check(@semaphore.value == 1 && !@lock.locked?, "permit lost")
      @cells.each { |cells| check(cells[VALUE] == cells.sum(COMMITTED), "lost counts") }
    end

    private

    def enter(cells, me)
      hold do
        cells[VALUE] += 1
        cells[COMMITTED + me] += 1
      end
    end
  end
end
