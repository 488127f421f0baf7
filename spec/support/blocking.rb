# frozen_string_literal: true

require_relative "stress"

# Tells when a thread or a child process sleeps, so that no spec needs a fixed pause to mean "it is blocked now".
module Blocking
  PATIENCE = 15 # seconds

  # Returns the block's first true value, asked for again and again.
  def wait_until(what = "the condition", within: PATIENCE)
    deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + within
    loop do
      value = yield
      if value
        Stress.waited
        return value
      end
      raise "#{what} did not come true within #{within} s" if Process.clock_gettime(Process::CLOCK_MONOTONIC) > deadline

      sleep 0.001
    end
  end

  # Returns once every given thread or child sleeps: a thread by its status, the main thread of a child by the
  # kernel's word. What it sleeps in is for the spec to know: it must have been told by the child, or see it in `waiters`.
  def wait_until_blocked(*sleepers)
    sleepers.flatten.each do |sleeper|
      wait_until("#{sleeper.inspect} asleep") { asleep?(sleeper) }
    end
  end

  # Runs the block in a thread that ends with the example.
  def in_thread(&block)
    thread = Thread.new(&block)
    thread.report_on_exception = false
    (Thread.current[:spec_threads] ||= []) << thread
    thread
  end

  # Seconds the block takes.
  def seconds
    start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    Stress.lifted { yield }
    Process.clock_gettime(Process::CLOCK_MONOTONIC) - start
  end

  # Context switches a process made of its own will: each wait or poll costs at least one.
  def naps(pid)
    Dir["/proc/#{pid}/task/*/status"].sum { |file| File.read(file)[/^voluntary_ctxt_switches:\s+(\d+)/, 1].to_i }
  end

  def self.end_threads
    threads = Thread.current[:spec_threads] or return
    threads.each(&:kill).each { |thread| thread.join(5) rescue nil }
    threads.clear
  end

  private

  def asleep?(sleeper)
    return process_asleep?(sleeper.respond_to?(:pid) ? sleeper.pid : sleeper) unless sleeper.is_a?(Thread)
    raise "#{sleeper.inspect} ended" unless sleeper.alive?

    sleeper.status == "sleep"
  end

  if File.directory?("/proc/self/task")
    # futex, futex_waitv, futex_wait and restart_syscall, by the numbers that the machine gives them.
    NUMBERS = { "x86_64" => [202, 449, 455, 219], "aarch64" => [98, 449, 455, 128] }[RbConfig::CONFIG["host_cpu"]]
    SLEEPING = NUMBERS && /\A(?:#{NUMBERS.join("|")}) /

    def process_asleep?(pid)
      state = File.read("/proc/#{pid}/task/#{pid}/stat")[/\) (\w)/, 1]
      raise "process #{pid} ended" if "ZX".include?(state)

      state == "S" && in_futex?(pid)
    end

    def in_futex?(pid)
      return true unless SLEEPING # a machine whose numbers are not known here: the state has to do

      File.read("/proc/#{pid}/task/#{pid}/syscall").match?(SLEEPING)
    rescue SystemCallError # not for us to see, or not in this kernel
      true
    end
  else
    def process_asleep?(pid)
      Array.new(2) { `ps -o state= -p #{Integer(pid)}`.start_with?("S") }.all?
    end
  end
end
