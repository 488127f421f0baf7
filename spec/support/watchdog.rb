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
      say("limit #{limit + GRACE}")
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

    # Children are named to the process outside, which ends them if the run itself is killed.
    def born(pid) = say("born #{pid}")
    def gone(pid) = say("gone #{pid}")

    # In a child, whose life must not keep the process outside waiting.
    def forget
      @heartbeat&.close
      @heartbeat = nil
    end

    private

    def say(line)
      @heartbeat&.puts(line)
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
    trap(:INT, "IGNORE")
    limit = nil
    children = []
    loop do
      unless @reader.wait_readable(limit)
        warn "The run #{run} is stuck: #{Watchdog.kernel_view(run)}"
        Process.kill(:KILL, run)
        break
      end
      word, number = (@reader.gets || break).split
      case word
      when "limit" then limit = Float(number)
      when "born" then children << Integer(number)
      when "gone" then children.delete(Integer(number))
      end
    end
    children.each { |pid| Process.kill(:KILL, -pid) rescue nil }
  ensure
    exit!
  end
end
