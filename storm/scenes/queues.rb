# frozen_string_literal: true

require "fileutils"
require "tmpdir"

module Storm
  # Jobs in a queue, which workers take for a time. Each job has a number of its own, and memory says what became of it:
  #
  #   SURE     its push has returned: it is there, or was done
  #   LAST     the last delivery that somebody saw: each is one more than the one before, at least
  #   ENDING   the block of a worker came to its end: now the job may be gone
  #   DONE     its pop has returned: now nobody may see it again
  class Jobs < Scene
    SURE, LAST, ENDING, DONE = 0, 1, 2, 3
    EACH = 40_000 # the most jobs of one producer
    BYTES = 1 << 18
    SIZES = [10, 100, 1000, 5000, 60_000].freeze

    def initialize(slots)
      super
      @begun = cells(slots) # jobs of each producer that may have been pushed
      @jobs = ProcessShared::SharedMemory.new(:uint8, slots * EACH * 4)
      @queue = make
    end

    def step(me, random)
      if (me / Worker::THREADS).even?
        @begun[me] < EACH - 5 ? produce(me, random) : sleep(0.01)
      else
        consume(random)
      end
    end

    def verdict(_kills)
      left = Hash.new(0)
      while (taken = queue.pop(timeout: 0) { |item, count| [read(item), count] })
        job, deliveries = taken
        left[job] += 1
        check(get(job, DONE).zero?, "job #{job} is done, and there")
        check(deliveries > get(job, LAST), "job #{job}: delivery #{deliveries} after #{get(job, LAST)}")
      end
      check(left.values.all?(1), "a job is there twice")
      check(queue.in_flight.empty? && queue.size.zero?, "something is left")
      slots.times do |slot|
        (slot * EACH...slot * EACH + @begun[slot]).each do |job|
          check(get(job, ENDING) == 1 || left[job] == 1, "job #{job} is lost") if get(job, SURE) == 1
        end
      end
    end

    private

    def make = ProcessShared::Queue.new(bytes: BYTES)
    def queue = @queue
    def get(job, what) = @jobs.get_uint8(job * 4 + what)
    def set(job, what, value) = @jobs.put_uint8(job * 4 + what, value)

    # The job as one of the kinds of items that take different ways.
    def item(job, random)
      case random.rand(4)
      when 0 then [job, "by Marshal"]
      when 1 then job.to_s.ljust(SIZES.sample(random:), "x")
      else job
      end
    end

    def read(item)
      return item if item.is_a?(Integer)

      job = item.is_a?(Array) ? item.first : Integer(item[/\A\d+/])
      check(item == [job, "by Marshal"] || item == job.to_s.ljust(item.size, "x"), "job #{job} is not whole")
      job
    end

    def produce(me, random)
      first = me * EACH + @begun[me]
      jobs = (first...first + (random.rand(8).zero? ? 3 : 1)).to_a
      @begun[me] += jobs.size
      items = jobs.map { |job| item(job, random) }
      timeout = random.rand * 0.01 if random.rand(4).zero?
      done = items.size > 1 ? queue.concat(items) : queue.push(items.first, timeout:)
      jobs.each { |job| set(job, SURE, 1) } if done
    end

    def consume(random)
      timeout = random.rand * 0.01 if random.rand(4).zero?
      job = catch(:back) { queue.pop(timeout:) { |item, deliveries| work(read(item), deliveries, random) } }
      set(job, DONE, 1) if job
    end

    def work(job, deliveries, random)
      check(get(job, DONE).zero?, "job #{job} comes again, and is done")
      check(deliveries > get(job, LAST), "job #{job}: delivery #{deliveries} after #{get(job, LAST)}")
      set(job, LAST, [deliveries, 255].min)
      case random.rand(30)
      when 0 then throw :back
      when 1 then sleep(random.rand * 0.005)
      when 2 then hold { fork_inside }
      end
      hold { set(job, ENDING, 1) && job }
    end

    # A child neither finishes the job nor puts it back.
    def fork_inside
      Process.wait(fork { exit!(0) })
    end
  end

  # The same with a path: each worker opens the queue for itself, again and again.
  class Spool < Jobs
    def verdict(kills)
      super
      Thread.current[:spool] = nil # the next round's workers would inherit it
      FileUtils.remove_entry(@folder)
    end

    private

    def make
      @folder = Dir.mktmpdir("process_shared-storm", File.directory?("/dev/shm") ? "/dev/shm" : nil)
      nil
    end

    def queue
      own = Thread.current[:spool]
      return own if own && rand(50).positive?

      hold do
        own&.release if rand(2).zero?
        Thread.current[:spool] = ProcessShared::Queue.new(bytes: BYTES, path: "#{@folder}/queue")
      end
    end
  end
end
