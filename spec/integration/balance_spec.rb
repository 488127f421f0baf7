# frozen_string_literal: true

# Waits that end by an exception take nothing, so that waits, posts and the value always balance, to the last one.
RSpec.describe "Waits and posts under a hail of exceptions" do
  enough = Class.new(Exception) # rubocop:disable Lint/InheritException -- must not be taken for an error of the wait

  # Threads that wait, with exceptions coming in whenever they block, and threads that post, for a moment. The block says
  # whether a post succeeded. Returns how many waits and how many posts did.
  define_method(:hail) do |semaphore, wait, &post|
    over = false
    waited = [0] * 3
    waiters = Thread.handle_interrupt(enough => :on_blocking) do
      Array.new(waited.size) do |number|
        Thread.new do
          until over
            begin
              wait.call(semaphore)
              waited[number] += 1
            rescue enough
              nil
            end
          end
        end.tap { |waiter| waiter.report_on_exception = false } # one more may come at its end
      end
    end
    posted = [0] * 2
    posters = Array.new(posted.size) { |number| in_thread { (posted[number] += 1 if post.call) until over } }
    2_000.times do
      waiters.sample.raise(enough)
      sleep 0.0001 if rand(3).zero? # gives the others a turn; nothing depends on it
    end
    over = true
    posters.each(&:join)
    until waiters.none?(&:alive?)
      waiters.each { |waiter| waiter.raise(enough) }
      sleep 0.001
    end
    [waited.sum, posted.sum]
  end

  ways = { "wait" => :wait.to_proc, "try_wait with a timeout" => ->(semaphore) { semaphore.try_wait(60) } }
  ways.each do |name, wait|
    it "balance for BinarySemaphore##{name}" do
      semaphore = ProcessShared::BinarySemaphore.new(0)
      waited, posted = hail(semaphore, wait) do
        semaphore.post
      rescue ProcessShared::ProcessError
        Thread.pass
        false
      end
      expect(waited + semaphore.value).to be posted
      expect(semaphore.waiters).to be 0
    end

    it "balance for Semaphore##{name}" do
      semaphore = ProcessShared::Semaphore.new(0)
      waited, posted = hail(semaphore, wait) { semaphore.value > 2 ? (Thread.pass && false) : semaphore.post }
      expect(waited + semaphore.value).to be posted
      expect(semaphore.waiters).to be 0
    end
  end

  it "balance for the lock of a BinarySemaphore" do
    semaphore = ProcessShared::BinarySemaphore.new(0)
    lock = semaphore.to_mtx
    waited, posted = hail(lock, :lock.to_proc) do
      lock.unlock
    rescue ProcessShared::ProcessError
      Thread.pass
      false
    end
    expect(waited + semaphore.value).to be posted
  end
end
