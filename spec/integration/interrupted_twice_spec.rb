# frozen_string_literal: true

# Whatever is raised into a thread, and however often, while it waits for its lock to come back: it has the lock then.
RSpec.describe "A thread that is killed while it waits, and raised into while it takes its lock again" do
  # nil, or the message of the exception it ended with.
  def ending_of(thread)
    thread.join(10) or raise "it does not end"
    nil
  rescue RuntimeError => error
    error.message
  end

  {
    "ConditionVariable#wait" => ->(lock, condition) { condition.wait(lock) },
    "Mutex#sleep" => ->(lock, _) { lock.sleep }
  }.each do |name, wait|
    [ProcessShared::Mutex, ProcessShared::Monitor].each do |klass|
      it "has the #{klass} again after #{name}, and ends" do
        lock = klass.new
        condition = ProcessShared::ConditionVariable.new
        ready = Thread::Queue.new
        owned = nil
        thread = Thread.new do
          lock.lock
          ready << true
          wait.call(lock, condition)
        ensure
          owned = lock.owned?
          lock.unlock
        end
        thread.report_on_exception = false
        ready.pop
        Thread.pass until lock.try_lock
        thread.kill
        Thread.pass until lock.waiters == 1
        3.times do |i|
          thread.raise("raised #{i}")
          sleep 0.01 # time to notice; nothing depends on whether it does
        end
        lock.unlock
        expect(ending_of(thread)).to be_nil.or match(/raised/)
        expect(owned).to be true
        expect(lock).not_to be_locked
      end
    end
  end
end
