# frozen_string_literal: true

require "io/wait"

# What may hang, fails instead. After LIMIT seconds an example's thread gets an exception, its children are killed, and
# what every thread and child was doing is printed. Should even that not help (a thread stuck with the GVL held runs no
# other thread), a process outside prints what the kernel knows, and kills the run.
class Watchdog
  class Expired < Exception; end # rubocop:disable Lint/InheritException -- no rescue of an example may swallow it

  LIMIT = 25 # seconds an example may take unless it says `limit: N`
  GRACE = 20 # more seconds until the process outside steps in

  class << self
    def start
      reader, @heartbeat = IO.pipe
      @outside = fork { new(reader, @heartbeat).guard(Process.ppid) }
      reader.close
    end

    def stop
      @heartbeat.close
      Process.wait(@outside)
    end

    def watch(limit)
      say(limit + GRACE)
      watched = Thread.current
      dog = Thread.new do
        sleep limit
        report(watched)
        Child.reap_all
        watched.raise(Expired, "hung for #{limit} s")
      end
      yield
    ensure
      dog&.kill&.join
    end

    private

    def say(limit)
      @heartbeat&.puts(limit)
    end

    def report(watched)
      Thread.list.each do |thread|
        next if thread == Thread.current

        warn "#{"example's " if thread == watched}#{thread.inspect}:", *thread.backtrace&.first(20)&.map { |line| "  #{line}" }
      end
      Child.living.each { |child| warn "child #{child.pid}: #{Watchdog.kernel_view(child.pid)}" }
    end
  end

  # What each thread of the process does, as far as the kernel tells.
  def self.kernel_view(pid)
    Dir["/proc/#{pid}/task/*"].map do |task|
      %w[comm wchan syscall].map { |name| File.read("#{task}/#{name}").strip rescue "?" }.join(" ")
    end.inspect
  end

  def initialize(reader, writer)
    writer.close
    @reader = reader
  end

  # Runs in the process outside, until the run ends or an example is silent for too long.
  def guard(run)
    limit = nil
    loop do
      unless @reader.wait_readable(limit)
        warn "The run #{run} is stuck: #{Watchdog.kernel_view(run)}"
        Process.kill(:KILL, run)
        break
      end
      limit = Float(@reader.gets || break)
    end
  ensure
    exit!
  end
end
