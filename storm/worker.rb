# frozen_string_literal: true

require "timeout"

module Storm
  # One process: a thread for each scene, which another thread pokes, wakes up and kills, until the round is over.
  class Worker
    THREADS = 6 # slots of one process

    # `scenes`: what each of its threads does; `first`: the slot of the first of them.
    def initialize(scenes, first, board, seed)
      @scenes = scenes
      @first = first
      @board = board
      @random = Random.new(seed)
      @threads = []
    end

    def run
      Signal.trap(:USR1) { @scenes.sample(random: @random).ring(@random) }
      Signal.trap(:QUIT) { Thread.list.each { |thread| $stderr.syswrite("#{Process.pid} #{thread.inspect}\n  #{thread.backtrace&.first(8)&.join("\n  ")}\n") } }
      Thread.report_on_exception = false
      Thread.handle_interrupt(Poke => :never, Stop => :never) do # but for what `live` lets in; all threads inherit it
        supervisor = Thread.new { supervise(Process.ppid) }
        live(0)
        @main_is_done = true
        supervisor.join
        exit!(0)
      end
    rescue Exception => error # rubocop:disable Lint/RescueException -- of whatever kind, the round has failed
      fail_with(error)
    end

    private

    # Plays one scene, over and over.
    def live(index)
      random = Random.new(@random.rand(1 << 30))
      Thread.handle_interrupt(Scene::BLOCKING) do
        attempt(@scenes[index], @first + index, random) until @board.over?
      end
    rescue Stop, Poke
      nil
    end

    def attempt(scene, slot, random)
      if random.rand(10).zero?
        Timeout.timeout(random.rand * 0.01, Poke) { scene.run(slot, random) }
      else
        scene.run(slot, random)
      end
    rescue Poke
      @board.count_interrupt(slot)
    end

    def supervise(parent)
      until @board.over?
        exit!(0) if Process.ppid != parent
        revive
        heckle((@threads.compact << Thread.main).sample(random: @random))
        sleep(@random.rand * 0.005)
      end
      stop
    rescue Exception => error # rubocop:disable Lint/RescueException -- as above
      fail_with(error)
    end

    def fail_with(error)
      @board.complain("#{error.class}: #{error.message}\n  #{Array(error.backtrace).first(12).join("\n  ")}")
      exit!(1)
    end

    def revive
      (1...@scenes.size).each do |index|
        next if @threads[index]&.alive?

        @threads[index]&.join # raises what it died of
        @threads[index] = Thread.new { live(index) }
      end
    end

    def heckle(thread)
      case @random.rand(10)
      when 0..5 then thread.raise(Poke)
      when 6..7 then thread.wakeup
      when 8 then thread.kill unless thread == Thread.main
      end
    rescue ThreadError
      nil # it has ended meanwhile
    end

    def stop
      loop do
        living = @threads.compact.select(&:alive?)
        living << Thread.main unless @main_is_done
        break if living.empty?

        living.each { |thread| thread.raise(Stop) }
        sleep 0.002
      end
      @threads.compact.each(&:join)
    end
  end
end
