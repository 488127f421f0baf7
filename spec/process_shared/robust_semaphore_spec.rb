# frozen_string_literal: true

RSpec.describe ProcessShared::Semaphore, "with robust permits" do
  let!(:semaphore) { described_class.new(3, robust: true) }

  def robust(count) = described_class.new(count, robust: true)

  it "does what a plain one does" do
    expect([semaphore.wait, semaphore.try_wait, semaphore.value]).to eq [semaphore, semaphore, 1]
    expect([semaphore.post, semaphore.synchronize { semaphore.value }, semaphore.value]).to eq [semaphore, 1, 2]
    expect([semaphore.acquire(2) { semaphore.value }, semaphore.try_acquire(3), semaphore.try_acquire(2)]).to eq [0, false, true]
    expect { semaphore.try_wait }.to raise_error(Errno::EAGAIN)
    expect { semaphore.try_wait(0.01) }.to raise_error(Errno::ETIMEDOUT)
    expect([semaphore.release(3), semaphore.drain_permits, semaphore.value]).to eq [nil, 3, 0]
    expect(semaphore.inspect).to eq "#<ProcessShared::Semaphore robust, value 0>"
  end

  it "counts what each process holds, in whatever thread it was taken" do
    semaphore.wait
    child = fork_child { |parent| semaphore.acquire(2) || parent.say && parent.listen }
    child.hear
    expect(semaphore.holders).to eq(Process.pid => 1, child.pid => 2)
    in_thread { semaphore.post }.value
    expect(semaphore.holders).to eq(child.pid => 2)
    child.tell(:go)
    child.value
    expect([semaphore.holders, semaphore.value]).to eq [{}, 3]
  end

  it "refuses to give what the process does not hold, and changes nothing" do
    semaphore.wait
    expect { semaphore.release(2) }.to raise_error(ProcessShared::ProcessError, /holds 1 permits, and cannot give back 2/)
    in_child { expect { semaphore.post }.to raise_error(ProcessShared::ProcessError, /holds 0/) }
    expect([semaphore.value, semaphore.holders]).to eq [2, { Process.pid => 1 }]
  end

  describe "when a process ends" do
    { "by SIGKILL" => -> { Process.kill(:KILL, Process.pid) }, "by exit!" => -> { exit! }, "by exit" => -> { exit },
      "by exec" => -> { exec("sleep", "60") }, "by exec in another thread" => -> { Thread.new { exec("sleep", "60") }.join },
      "by a crash" => -> { Process.setrlimit(:CORE, 0) && Process.kill(:SEGV, Process.pid) && sleep } }.each do |how, ends|
      it "gives its permits to those who wait, #{how}" do
        child = fork_child { |parent| semaphore.acquire(3) || parent.say && parent.listen && $stderr.reopen(File::NULL) && ends.call }
        child.hear
        waiter = in_thread { semaphore.acquire(2) }
        wait_until { semaphore.waiters == 1 }
        child.tell(:end)
        waiter.value
        child.kill
        expect([semaphore.value, semaphore.holders]).to eq [1, { Process.pid => 2 }]
      end
    end

    it "gives them back while nobody waits" do
      in_child { semaphore.acquire(3) }
      expect([semaphore.value, semaphore.try_acquire(3)]).to eq [3, true]
    end
  end

  it "lets a child that was forked in a block give nothing back" do
    child = semaphore.acquire(2) { fork || :inside }
    exit! if child == :inside
    Process.wait(child)
    child = semaphore.synchronize { fork || :inside }
    exit! if child == :inside
    Process.wait(child)
    expect([semaphore.value, semaphore.holders]).to eq [3, {}]
  end

  it "can be made larger at once, and smaller as permits come back" do
    semaphore.acquire(3)
    waiter = in_thread { semaphore.acquire(2) }
    wait_until { semaphore.waiters == 1 }
    expect([semaphore.resize(1), semaphore.value]).to eq [semaphore, -2]
    semaphore.resize(5)
    waiter.value
    expect([semaphore.reduce_permits(3), semaphore.value]).to eq [nil, -3]
    expect([semaphore.try_acquire, semaphore.try_acquire(1), semaphore.value]).to eq [false, false, -3]
    semaphore.release(5)
    expect(semaphore.value).to be 2
    [-1, 2**31, 1.0].each { |limit| expect { semaphore.resize(limit) }.to raise_error(ArgumentError) }
  end

  it "can be in a file, is of another kind than a plain one there, and is whole when everybody is gone" do
    Dir.mktmpdir do |dir|
      path = File.join(dir, "limit")
      in_child { described_class.new(2, robust: true, path:).acquire(2) }
      expect { described_class.new(2, path:) }.to raise_error(ArgumentError, /robust/)
      first, second = Array.new(2) { described_class.new(7, robust: true, path:) }
      expect([first.value, first.wait.value, second.value]).to eq [2, 1, 1]
      expect([second.post.value, first.holders]).to eq [2, {}]
    end
  end

  it "works as a lock, with a condition" do
    lock, condition = robust(1).to_mtx, ProcessShared::ConditionVariable.new
    lock.lock
    expect([condition.wait(lock, 0.01), lock.locked?, lock.unlock.locked?]).to eq [nil, true, false]
  end

  it "has nothing taken by an exception that ends a wait" do
    empty = robust(0)
    thread = in_thread { empty.acquire(2) }
    thread.report_on_exception = false
    wait_until_blocked(thread)
    thread.raise(KeyError)
    expect { thread.value }.to raise_error(KeyError)
    empty.resize(2)
    expect([empty.value, empty.waiters]).to eq [2, 0]
  end

  it "gives back what the process holds when the last handle is collected, but not when it is closed" do
    Dir.mktmpdir do |dir|
      path = File.join(dir, "limit")
      semaphore = described_class.new(1, robust: true, path:)
      semaphore.synchronize { semaphore.close }
      expect(described_class.new(1, robust: true, path:).value).to be 1
    end
  end

  it_behaves_like "a line of those who want several permits", { robust: true }, ->(empty) { empty.resize(3) }

  it "says that others are not robust" do
    expect { described_class.new.holders }.to raise_error(ProcessShared::ProcessError, /not robust/)
    expect { described_class.new.resize(1) }.to raise_error(ProcessShared::ProcessError, /not robust/)
    expect { ProcessShared::BinarySemaphore.new(robust: true) }.to raise_error(ArgumentError)
  end

  it "stays within its limit while holders are killed" do
    workers = Array.new(4) { |place| fork_child { loop { semaphore.acquire(1 + place % 3) { Thread.pass } } } }
    60.times do |round|
      held = semaphore.holders.values.sum
      raise "#{held} are held" if held > 3

      workers[place = round % 4].kill
      workers[place] = fork_child { loop { semaphore.acquire(1 + place % 3) { Thread.pass } } }
    end
    workers.each(&:kill)
    expect([semaphore.value, semaphore.holders, semaphore.waiters]).to eq [3, {}, 0]
  end
end
