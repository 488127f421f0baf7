# frozen_string_literal: true

# close ends the use of an object in this process. What its threads hold at that moment, they give back all the same.
RSpec.describe "An object that is closed while a thread holds it" do
  # A thread in a block of synchronize, and how to let it go on.
  def hold(object)
    inside, go_on = Queue.new, Queue.new
    thread = in_thread { object.synchronize { inside.push(true) && go_on.pop } }
    inside.pop
    [thread, go_on]
  end

  { "Mutex" => -> { ProcessShared::Mutex.new }, "Monitor" => -> { ProcessShared::Monitor.new } }.each do |name, make|
    context "a #{name}" do
      let!(:mutex) { make.call }

      # A child that tells on demand whether it gets the lock at once.
      before { @child = fork_child { |parent| loop { parent.listen && parent.say(mutex.try_lock && mutex.unlock ? true : false) } } }

      def free?
        @child.tell(:try)
        @child.hear
      end

      it "is given back at the end of synchronize" do
        thread, go_on = hold(mutex)
        mutex.close
        expect(free?).to be false
        go_on.push(:value)
        expect(thread.value).to be :value
        expect(free?).to be true
      end

      it "is given back by close within synchronize" do
        expect(mutex.synchronize { mutex.close }).to be_nil
        expect(free?).to be true
      end

      it "is given back by unlock, which says that it is closed" do
        closed = Queue.new
        thread = in_thread do
          mutex.lock
          closed.pop
          mutex.unlock
        rescue ProcessShared::ClosedError
          free?
        end
        wait_until("the lock") { mutex.locked? }
        mutex.close
        closed.push(true)
        expect(thread.value).to be true
      end

      it "is not taken by a thread that waits for it" do
        mutex.lock
        thread = in_thread do
          mutex.lock
        rescue ProcessShared::ClosedError
          free?
        end
        wait_until("a waiter") { mutex.waiters == 1 }
        mutex.close
        expect(thread.value).to be true
      end
    end
  end

  {
    "Semaphore" => ->(semaphore) { semaphore }, "to_mtx lock" => :to_mtx.to_proc
  }.each do |name, lock_of|
    context "a #{name}" do
      let!(:semaphore) { ProcessShared::Semaphore.new(1) }
      let!(:lock) { lock_of.call(semaphore) }
      let!(:child) { fork_child { |parent| loop { parent.listen && parent.say(semaphore.value) } } }

      def value
        child.tell(:value)
        child.hear
      end

      it "is given back at the end of synchronize" do

        thread, go_on = hold(lock)
        [semaphore, lock].each(&:close)
        expect(value).to be 0
        go_on.push(:value)
        expect(thread.value).to be :value
        expect(value).to be 1
      end

      it "is given back if it is closed within synchronize" do

        lock.synchronize { [semaphore, lock].each(&:close) }
        expect(value).to be 1
      end
    end
  end
end
