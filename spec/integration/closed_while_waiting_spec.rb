# frozen_string_literal: true

# Whoever waits with an object that is closed is told, and waits no longer; other processes are not concerned.
RSpec.describe "An object that is closed while a thread waits" do
  closed = ProcessShared::ClosedError

  BlockingCall.names.each do |name|
    describe "in #{name}" do
      let!(:call) { BlockingCall.named(name) }

      # What becomes of the wait.
      def outcome
        call.enter.call
        call.wait.call
      rescue IOError => error
        error.class
      end

      it "raises ClosedError there" do
        threads = Array.new(call.sleeps ? 1 : 3) { in_thread { outcome } }
        wait_until { threads.all? { |thread| thread.status == "sleep" } }
        call.close.call
        expect(threads.map(&:value)).to all eq(closed)
      end

      it "raises ClosedError in the main thread" do
        child = fork_child do
          main = Thread.current
          Thread.new { wait_until { call.waiting.call && main.status == "sleep" } && call.close.call }
          outcome
        end
        expect(child.value).to eq closed
      end

      it "raises ClosedError when a signal handler closes it" do
        child = fork_child do |parent|
          trap(:USR1) { call.close.call }
          parent.say
          outcome
        end
        child.hear
        wait_until_blocked(child)
        Process.kill(:USR1, child.pid)
        expect(child.value).to eq closed
      end

      it "raises ClosedError in a process that a signal handler forked during the wait" do
        told = ProcessShared::Semaphore.new(0)
        child = fork_child do
          trap(:USR1) do
            fork || Thread.new { wait_until { Thread.main.status == "sleep" } && call.close.call }
          end
          outcome == closed && told.post
          exit!
        end
        wait_until { call.waiting.call }
        wait_until_blocked(child)
        child.signal(:USR1)
        expect(told.try_wait(10)).to be told
      end

      it "raises ClosedError in a fiber under a scheduler" do
        value = Scheduler.run do
          Fiber.schedule do
            sleep 0.001 until call.waiting.call
            call.close.call
          end
          outcome
        end
        expect(value).to eq closed
      end
    end
  end

  it "raises ClosedError for a lock of to_mtx, whose semaphore goes on" do
    semaphore = ProcessShared::Semaphore.new(0)
    lock = semaphore.to_mtx
    thread = in_thread { lock.lock rescue $!.class }
    wait_until { semaphore.waiters == 1 }
    lock.close
    expect(thread.value).to eq closed
    expect(semaphore.post.value).to eq 1
  end

  it "goes on in other processes" do
    semaphore = ProcessShared::Semaphore.new(0)
    waiter = fork_child { |parent| parent.say && semaphore.wait.value }
    poster = fork_child { |parent| parent.listen && semaphore.post && nil }
    waiter.hear
    wait_until { semaphore.waiters == 1 }
    semaphore.close
    wait_until_blocked(waiter)
    poster.tell(:post)
    expect(waiter.value).to eq 0
  end
end
