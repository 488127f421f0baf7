# frozen_string_literal: true

module ProcessShared
  # Tells when a thread ends, by whatever way, so that the locks it holds are handed on. Ruby 3.2 and later say so
  # themselves (see ext/process_shared/src/thread.rs); for Ruby 3.1 the blocks of threads are wrapped.
  module ThreadEnd
    # A block that stands where the given one does: Thread#inspect, and Ruby's words on a thread that died, name its place.
    def self.watch(block)
      eval("proc { |*args| ThreadEnd.run(block, args) }", binding, *block.source_location).ruby2_keywords
    end

    def self.run(block, args)
      # What a thread has left here that began before this file was loaded, and whose native thread is used again.
      ProcessShared.__send__(:thread_ends)
      value = block.call(*args)
      # Ruby runs the fibers of a scheduler to their end after the block: before that, the thread has not ended.
      Fiber.set_scheduler(nil) if Fiber.scheduler
      value
    ensure
      ProcessShared.__send__(:thread_ends)
    end

    # Waits for the end of the calling thread, the first of a Ractor: Ruby then ends the Ractor's other threads, this one
    # among them, and waits for them. `memory` is for what does it.
    def self.guard(memory)
      begun = Thread::Queue.new
      Thread.new do
        begun << true
        loop { sleep }
      ensure
        ProcessShared.__send__(:first_thread_ends, memory)
      end
      begun.pop # one that is ended before it began would do nothing
    end

    # For Thread#initialize.
    module Initialize
      ruby2_keywords def initialize(*args, &block)
        block &&= ThreadEnd.watch(block)
        super(*args, &block)
      end
    end

    # For Thread.start and Thread.fork, which do not call initialize.
    module Start
      ruby2_keywords def start(*args, &block)
        block &&= ThreadEnd.watch(block)
        super(*args, &block)
      end

      ruby2_keywords def fork(*args, &block)
        block &&= ThreadEnd.watch(block)
        super(*args, &block)
      end
    end
  end
  private_constant :ThreadEnd

  if RUBY_VERSION < "3.2"
    Thread.prepend(ThreadEnd::Initialize)
    Thread.singleton_class.__send__(:prepend, ThreadEnd::Start)
  end
end
