# frozen_string_literal: true

module Storm
  # A few seconds with new objects and new processes: some are killed at random and replaced, some are spared, because
  # what they do has no owner that a death could be told from.
  class Round
    MORTALS = 5
    SPARED = 2
    FOR_MORTALS = [Counter, DeepCounter, ConditionBuffer, MonitorBuffer, MortalBuffer, Turns, Sleepers, Strangers,
                   Maps, Jobs, Spool, Permits, Pages, Gatherings, Members, Marks].freeze
    FOR_SPARED = [BareCounter, SemaphoreBuffer, Relay, ConditionBuffer, MonitorBuffer].freeze
    STALL = 5 # seconds without progress after which nobody is killed: a loaded machine may need longer to replace the dead
    STUCK = 30 # seconds without progress

    attr_reader :kills, :signals

    def initialize(random)
      @random = random
      slots = (MORTALS + SPARED) * Worker::THREADS
      @board = Board.new(slots)
      mortal, spared = [FOR_MORTALS, FOR_SPARED].map { |choice| pick(choice).map { |scene| scene.new(slots) } }
      @casts = [mortal] * MORTALS + [spared] * SPARED
      @casts.reject!(&:empty?)
      @scenes = mortal + spared
      @workers = {} # number => pid
      @kills = @signals = 0
    end

    # Raises Broken if it fails.
    def run(seconds)
      Signal.trap(:USR1) {} # workers have it from the start
      @casts.each_index { |number| enter(number) }
      @progress = {}
      finish = now + seconds
      until now > finish && @progress.each_value.all? { |_, time| time > finish - seconds }
        strike unless ENV["SPARE"] || slow?
        examine
        sleep(@random.rand * 0.02)
      end
      leave
      @scenes.each { |scene| scene.verdict(@kills) }
    ensure
      @workers.each_value do |pid|
        Process.kill(:KILL, pid)
      rescue Errno::ESRCH
        nil
      end
      Process.waitall
    end

    def operations = @scenes.sum { |scene| scene.instance_variable_get(:@steps).then { |steps| steps.get_array_of_int64(0, steps.count).sum } }

    def interrupts = @board.interrupts

    private

    def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

    # SCENES=Turns,Relay leaves only those, to find out what a failure is about.
    def pick(choice)
      wanted = ENV["SCENES"]&.split(",")
      return [*choice.sample(Worker::THREADS - 1, random: @random), Churn] unless wanted

      choice.select { |scene| wanted.include?(scene.title) } + (wanted.include?("Churn") ? [Churn] : [])
    end

    def enter(number)
      seed = @random.rand(1 << 30)
      @workers[number] = fork do
        srand(seed)
        Worker.new(@casts[number].rotate(number), number * Worker::THREADS, @board, seed).run
      end
    end

    def strike
      number = @random.rand(@casts.size)
      if number < MORTALS && @random.rand(2).zero?
        Process.kill(:KILL, @workers[number])
        Process.wait(@workers[number])
        check_status(number, $?)
        @kills += 1
        enter(number)
      else
        Process.kill(:USR1, @workers[number])
        @signals += 1
      end
    end

    def check_status(number, status)
      return if status.termsig == 9

      raise Broken, "worker #{number} ended by itself: #{status.inspect}\n#{@board.complaints}"
    end

    def examine
      complaints = @board.complaints
      raise Broken, complaints if complaints

      @scenes.each do |scene|
        last, time = @progress[scene]
        current = scene.progress
        @progress[scene] = [current, now] if current != last
        give_up("#{scene.class.title} stands still") if time && current == last && now - time > STUCK
      end
    end

    def slow? = @progress.each_value.any? { |_, time| now - time > STALL }

    # Stops the workers by exceptions, which take nothing.
    def leave
      @board.call_it_over
      give_up("workers do not end") unless @board.deserted?(STUCK)
      @workers.each do |number, pid|
        Process.wait(pid)
        raise Broken, "worker #{number}: #{$?.inspect}\n#{@board.complaints}" unless $?.success?
      end
      @workers.clear
    end

    def give_up(what)
      @workers.each_value { |pid| Process.kill(:QUIT, pid) } # each says what its threads do
      sleep 0.3
      @workers.each_value { |pid| Process.kill(:STOP, pid) }
      sleep 0.1
      Stall.report(@scenes, @workers.values)
      raise Broken, "#{what}\n#{@board.complaints}"
    end
  end
end
