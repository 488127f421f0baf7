# frozen_string_literal: true

# The lock that Semaphore#to_mtx and BinarySemaphore#to_mtx make.
[ProcessShared::Semaphore, ProcessShared::BinarySemaphore].each do |kind|
  RSpec.describe kind, "#to_mtx" do
    let!(:semaphore) { kind.new }
    let!(:lock) { semaphore.to_mtx }

    it_behaves_like "a lock"

    it "takes and gives the semaphore's permit" do
      lock.lock
      expect([semaphore.value, lock.locked?]).to eq [0, true]
      lock.unlock
      expect([semaphore.value, lock.locked?]).to eq [1, false]
      semaphore.wait
      expect([lock.locked?, lock.try_lock]).to eq [true, false]
    end

    it "keeps the semaphore alive" do
      lock = kind.new.to_mtx
      GC.start
      expect(lock.synchronize { lock.locked? }).to be true
    end

    it "can be unlocked by another thread and by another process" do
      lock.lock
      in_thread { lock.unlock }.join
      expect(lock).not_to be_locked
      lock.lock
      in_child { lock.unlock && nil }
      expect(lock).not_to be_locked
    end

    it "keeps other processes out" do
      lock.lock
      child = fork_child { |parent| parent.say; lock.synchronize { :in } }
      child.hear
      wait_until_blocked(child)
      lock.unlock
      expect(child.value).to be :in
    end

    it "is shared by all locks made of one semaphore" do
      lock.lock
      expect(semaphore.to_mtx.try_lock).to be false
    end

    it "tries for as long as it is told to" do
      lock.lock
      expect(seconds { expect(lock.try_lock(0.03)).to be false }).to be >= 0.03
      waiter = in_thread { lock.try_lock(10) }
      wait_until_blocked(waiter)
      lock.unlock
      expect(waiter.value).to be true
    end
  end
end
