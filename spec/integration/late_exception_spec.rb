# frozen_string_literal: true

# What a thread waited for is there, but before it has the GVL again, an exception comes: the exception takes nothing
# with it.
RSpec.describe "An exception that comes when a wait is just over" do
  # Starts a thread that waits, hands it what it waits for, and raises there once it has that. All without giving up the
  # GVL, which the thread needs to return from its wait; if it was given up all the same, tries again.
  #
  # taken tells whether it has it, called until it does.
  # Returns what the block says in that thread, after the exception.
  def raise_late(wait, waiting, hand_over, taken, undo)
    loop do
      returned = false
      thread = Thread.new do
        wait.call
        returned = true
        sleep
      rescue KeyError
        returned ? :returned : (yield if block_given?)
      end
      thread.report_on_exception = false
      Thread.pass until waiting.call
      hand_over.call
      nil until taken.call
      thread.raise(KeyError)
      return thread.value unless thread.value == :returned

      undo.call
    end
  end

  { "#wait" => :wait.to_proc, "#try_wait" => ->(semaphore) { semaphore.try_wait(20) } }.each do |name, wait|
    it "leaves the permit of Semaphore#{name}" do
      semaphore = ProcessShared::Semaphore.new(0)
      raise_late(-> { wait.call(semaphore) }, -> { semaphore.waiters == 1 }, -> { semaphore.post },
                 -> { semaphore.value.zero? }, -> {})
      expect(semaphore.value).to be 1
    end
  end

  it "leaves the lock of Semaphore#to_mtx" do
    lock = ProcessShared::Semaphore.new(0).then { |semaphore| [semaphore, semaphore.to_mtx] }
    raise_late(-> { lock[1].lock }, -> { lock[0].waiters == 1 }, -> { lock[1].unlock }, -> { lock[1].locked? }, -> {})
    expect(lock[1]).not_to be_locked
  end

  {
    "Mutex#lock" => [ProcessShared::Mutex, :lock.to_proc],
    "Mutex#try_lock" => [ProcessShared::Mutex, ->(mutex) { mutex.try_lock(20) }],
    "Monitor#enter" => [ProcessShared::Monitor, :enter.to_proc]
  }.each do |name, (type, lock)|
    it "leaves the lock of #{name}" do
      mutex = type.new
      mutex.lock
      owned = raise_late(
        -> { lock.call(mutex) }, -> { mutex.waiters == 1 }, -> { mutex.unlock }, -> { mutex.locked? }, -> { mutex.lock }
      ) { mutex.owned? }
      expect(owned).to be false
      expect(mutex).not_to be_locked
    end
  end

  it "leaves the signal of ConditionVariable#wait to the next" do
    mutex = ProcessShared::Mutex.new
    condition = ProcessShared::ConditionVariable.new
    second = child = nil
    moments = 0 # nothing shows that a waiter has got its signal, but it does so within microseconds
    raise_late(
      -> { mutex.synchronize { condition.wait(mutex) } },
      lambda do
        condition.waiters == 1 or next
        second, writer = IO.pipe
        child = fork_child { writer.write(mutex.synchronize { condition.wait(mutex, 20) }.inspect) }
        writer.close
        Thread.pass until condition.waiters == 2
        true
      end,
      -> { condition.signal }, -> { (moments += 1) > 20_000 },
      -> { [condition.signal, child.value, second.close, moments = 0] }
    )
    expect(second.read).to match(/\A\d+\z/)
    child.value
  end
end
