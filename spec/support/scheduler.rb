# frozen_string_literal: true

# A small fiber scheduler over IO.select: enough to show that other fibers run while one waits. Every hook that may
# put a fiber to sleep parks it in `@waiting` (until a time or for ever) or among the readable and writable IOs.
class Scheduler
  def initialize
    @readable = {}
    @writable = {}
    @waiting = {}          # fiber => monotonic time to wake it, or nil
    @ready = []            # fibers unblocked, perhaps by other threads
    @guard = Thread::Mutex.new
    @alarm, @bell = IO.pipe
    @closed = false
  end

  # Runs the block in a thread whose scheduler this is, in the first of its fibers; returns its value when all are done.
  def self.run
    value = nil
    thread = Thread.new do
      Fiber.set_scheduler(new)
      Fiber.schedule { value = yield }
    end
    thread.report_on_exception = false
    thread.join
    value
  ensure
    thread&.kill
  end

  def run
    turn until @readable.empty? && @writable.empty? && @waiting.empty? && @guard.synchronize { @ready.empty? }
  end

  def close
    return if @closed

    run
    @closed = true
    [@alarm, @bell].each(&:close)
  end

  def fiber(&block)
    Fiber.new(blocking: false, &block).tap(&:resume)
  end

  def block(_blocker, timeout = nil)
    me = Fiber.current
    @waiting[me] = timeout && now + timeout
    Fiber.yield
  ensure
    @waiting.delete(me)
  end

  def unblock(_blocker, fiber)
    @guard.synchronize { @ready << fiber }
    @bell.write_nonblock(".", exception: false)
  end

  def kernel_sleep(duration = nil)
    block(:sleep, duration)
    true
  end

  def io_wait(io, events, timeout = nil)
    me = Fiber.current
    @readable[io] = me if events.anybits?(IO::READABLE)
    @writable[io] = me if events.anybits?(IO::WRITABLE)
    @waiting[me] = now + timeout if timeout
    Fiber.yield
  ensure
    @waiting.delete(me)
    @readable.delete(io)
    @writable.delete(io)
  end

  def process_wait(pid, flags)
    Thread.new { Process::Status.wait(pid, flags) }.value
  end

  def timeout_after(duration, error, message)
    me = Fiber.current
    timer = Fiber.new(blocking: false) do
      kernel_sleep(duration)
      me.raise(error, message) if timer
    end
    timer.resume
    yield duration
  ensure
    timer = nil
  end

  private

  def turn
    readable, writable, = IO.select([@alarm, *@readable.keys], @writable.keys, [], patience)
    @alarm.read_nonblock(64, exception: false) if readable&.delete(@alarm)
    fibers = (readable || []).filter_map { |io| @readable[io] } + (writable || []).filter_map { |io| @writable[io] }
    fibers += @guard.synchronize { @ready.shift(@ready.size) }.select { |fiber| @waiting.key?(fiber) }
    fibers += @waiting.filter_map { |fiber, time| fiber if time && time <= now }
    fibers.uniq.each { |fiber| fiber.resume if fiber.alive? }
  end

  # Seconds until the next fiber is due; nil when none is.
  def patience
    return 0 unless @guard.synchronize { @ready.empty? }

    due = @waiting.values.compact.min
    due && [due - now, 0].max
  end

  def now
    Process.clock_gettime(Process::CLOCK_MONOTONIC)
  end
end
