# frozen_string_literal: true

require "io/wait"
require "timeout"

# Child processes for specs. A child runs a block, talks to the parent over two pipes, and always ends by exit!, so
# that nothing of RSpec runs in it. Whatever an example leaves behind is killed and reaped after it: each child leads
# a process group, and its own children stay in it, so that they go with it.
#
#   child = fork_child { |parent| mutex.lock; parent.say(:locked); parent.listen }
#   child.hear            # => :locked
#   child.tell(:go)
#   child.value           # the block's value, or its exception
class Child
  # The block of a child raised, or the child ended without a word.
  class Failed < StandardError; end

  PATIENCE = 15 # seconds for a child to say something

  # One end of the two pipes. Messages are marshalled objects.
  class Link
    def initialize(reader, writer)
      @reader = reader.binmode
      @writer = writer.binmode
    end

    def say(message)
      bytes = Marshal.dump(message)
      @writer.write([bytes.bytesize].pack("N") + bytes)
      @writer.flush
      message
    end

    # The other side's next message; nil when it is gone.
    def listen
      header = @reader.read(4) or return
      Marshal.load(@reader.read(header.unpack1("N")))
    end

    def listen_within(seconds)
      @reader.wait_readable(seconds) or raise Timeout::Error, "nothing heard within #{seconds} s"
      listen
    end

    def close
      [@reader, @writer].each(&:close)
    end
  end

  @living = []
  @nested = false

  class << self
    attr_reader :living

    def nested? = @nested

    def reap_all
      living.dup.each(&:kill)
    end

    # In a child: forgets what is the parent's.
    def begin_anew
      Process.setpgid(0, 0) unless nested?
      @nested = true
      living.clear
      Watchdog.forget
    end
  end

  attr_reader :pid

  def initialize(&block)
    from_child, to_parent = IO.pipe
    from_parent, to_child = IO.pipe
    @pid = fork do
      [from_child, to_child].each(&:close)
      run(Link.new(from_parent, to_parent), &block)
    end
    Process.setpgid(@pid, @pid) rescue nil unless Child.nested? # either of the two does it first
    [to_parent, from_parent].each(&:close)
    @link = Link.new(from_child, to_child)
    Child.living << self
    Watchdog.born(@pid)
  end

  def tell(message)
    @link.say(message)
  end

  # The child's next message.
  def hear(within: PATIENCE)
    kind, message = @link.listen_within(within)
    Stress.waited
    case kind
    when :said then message
    when nil then raise Failed, "child #{pid} ended without a word: #{wait.inspect}"
    else raise Failed, "child #{pid} is done (#{kind}) and says no more: #{message}"
    end
  end

  # The block's value, once the child is done.
  def value(within: PATIENCE)
    loop do
      kind, message = @link.listen_within(within)
      next if kind == :said

      wait
      return message if kind == :done
      raise Failed, kind ? "in child #{pid}: #{message}" : "child #{pid} ended without a word: #{@status.inspect}"
    end
  end

  def alive?
    return false if @status

    @status = Process.waitpid2(pid, Process::WNOHANG)&.last
    @status.nil?
  end

  def signal(name)
    Process.kill(name, pid)
  end

  # Ends the child, and whatever it forked, by SIGKILL; returns once it is reaped. Its number may be another's after that.
  def kill
    return @status if @status

    (Child.nested? ? [pid] : [-pid, pid]).each do |target|
      Process.kill(:KILL, target)
    rescue Errno::ESRCH, Errno::EPERM
      nil
    end
    wait
  end

  # Process::Status of the ended child; kills one that does not end.
  def wait(within: PATIENCE)
    deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + within
    while alive?
      if Process.clock_gettime(Process::CLOCK_MONOTONIC) > deadline
        Process.kill(:KILL, pid)
        raise Failed, "child #{pid} did not end within #{within} s"
      end
      sleep 0.001
    end
    Child.living.delete(self)
    Watchdog.gone(@pid)
    @link.close
    @status
  end

  private

  def run(link)
    Child.begin_anew
    Stress.begin_anew
    talker = Talker.new(link)
    value = yield(talker)
    link.say([:done, marshallable?(value) ? value : nil])
    exit!(0)
  rescue Exception => error # rubocop:disable Lint/RescueException -- the parent is told of anything at all
    link.say([:failed, "#{error.class}: #{error.message}\n  #{Array(error.backtrace).first(8).join("\n  ")}"])
    exit!(1)
  end

  def marshallable?(value)
    !Marshal.dump(value).nil?
  rescue TypeError
    false
  end

  # What the block of a child gets: the parent.
  class Talker
    def initialize(link)
      @link = link
    end

    def say(message = true)
      @link.say([:said, message])
    end

    def listen
      @link.listen
    end
  end
end

module Children
  # Forks a child that runs the block with the link to the parent.
  def fork_child(&block)
    Child.new(&block)
  end

  # The block's value, computed in a child.
  def in_child(&block)
    Child.new { block.call }.value
  end

  # A child that holds `lock` until it is killed or told to go on.
  def child_holding(lock)
    child = fork_child do |parent|
      lock.lock
      parent.say(:locked)
      parent.listen
      lock.unlock
    end
    child.hear
    child
  end
end
