# frozen_string_literal: true

RSpec.describe ProcessShared::ReadWriteLock do
  let!(:lock) { described_class.new }

  # A child that has called `take`, and stays until it is told to call `give`.
  def holding(take, give, shared = lock)
    child = fork_child do |parent|
      shared.public_send(take)
      parent.say(:taken)
      parent.listen
      shared.public_send(give)
    end
    child.hear
    child
  end

  def reader(shared = lock) = holding(:acquire_read_lock, :release_read_lock, shared)
  def writer(shared = lock) = holding(:acquire_write_lock, :release_write_lock, shared)

  def let_go(*children)
    children.each { |child| child.tell(:go) && child.value }
  end

  it "is free at first, and says what it is" do
    expect([lock.write_locked?, lock.owner_pid, lock.reader_pids, lock.has_waiters?, lock.abandoned?]).to eq [false, nil, [], false, false]
    expect(lock.inspect).to eq "#<ProcessShared::ReadWriteLock free>"
    child = reader
    expect([lock.reader_pids, lock.inspect]).to eq [[child.pid], "#<ProcessShared::ReadWriteLock read by #{child.pid}>"]
    let_go(child)
    child = writer
    expect([lock.write_locked?, lock.owner_pid, lock.inspect])
      .to eq [true, child.pid, "#<ProcessShared::ReadWriteLock written by #{child.pid}>"]
    let_go(child)
    expect([lock.write_locked?, lock.owner_pid, lock.reader_pids]).to eq [false, nil, []]
  end

  it "lets many read at a time" do
    children = Array.new(3) { reader }
    expect([lock.with_read_lock { :read }, lock.reader_pids]).to eq [:read, children.map(&:pid).sort]
    expect(lock.try_write_lock).to be false
    let_go(*children)
    expect(lock.try_write_lock).to be true
    lock.release_write_lock
  end

  it "lets one write at a time" do
    child = writer
    expect([lock.try_read_lock, lock.try_write_lock, lock.try_read_lock(0.01), lock.try_write_lock(0.01)]).to eq [false] * 4
    let_go(child)
    expect([lock.try_write_lock, in_child { [lock.try_read_lock, lock.try_write_lock] }]).to eq [true, [false, false]]
    lock.release_write_lock
  end

  it "gives each what it waits for" do
    child = writer
    waiting = [fork_child { lock.with_read_lock { :read } }, fork_child { lock.with_write_lock { :written } }, fork_child { lock.with_read_lock { :read } }]
    wait_until { lock.waiters == 3 }
    expect(lock).to have_waiters
    let_go(child)
    expect(waiting.map(&:value)).to eq %i[read written read]
  end

  it "lets no new reader in while a writer waits, but those who read already" do
    child = fork_child do |parent|
      lock.acquire_read_lock
      parent.say(:reading) && parent.listen
      again = lock.try_read_lock
      lock.release_read_lock if again
      lock.release_read_lock
      again
    end
    child.hear
    waiting = fork_child { lock.with_write_lock { :written } }
    wait_until { lock.waiters == 1 }
    wait_until_blocked(waiting)
    expect([lock.try_read_lock, lock.try_read_lock(0.01)]).to eq [false, false]
    child.tell(:again)
    expect([child.value, waiting.value, lock.try_read_lock]).to eq [true, :written, true]
    lock.release_read_lock
  end

  it "can be taken several times, and read by the writer" do
    lock.with_read_lock { lock.with_read_lock { expect(lock.reader_pids).to eq [Process.pid] } }
    lock.with_write_lock { lock.with_write_lock { lock.with_read_lock { expect(lock).to be_write_locked } } }
    expect(in_child { lock.try_write_lock }).to be true
    lock.acquire_write_lock
    lock.acquire_read_lock
    lock.release_write_lock
    expect(in_child { [lock.try_read_lock, lock.try_write_lock] }).to eq [true, false]
    lock.release_read_lock
  end

  it "belongs to a fiber of a thread of a process" do
    lock.acquire_read_lock
    expect { in_thread { lock.release_read_lock }.value }.to raise_error(ProcessShared::ProcessError, /not read by this fiber/)
    expect { Fiber.new { lock.release_read_lock }.resume }.to raise_error(ProcessShared::ProcessError)
    expect { in_child { lock.release_read_lock } }.to raise_error(Child::Failed, /not read by this fiber/)
    expect(Fiber.new { lock.acquire_read_lock && lock.release_read_lock }.resume).to be true
    lock.release_read_lock
    lock.acquire_write_lock
    expect { Fiber.new { lock.release_write_lock }.resume }.to raise_error(ProcessShared::ProcessError)
    expect { Fiber.new { lock.acquire_read_lock }.resume }.to raise_error(ProcessShared::ProcessError, /deadlock/)
    expect { Fiber.new { lock.acquire_write_lock }.resume }.to raise_error(ProcessShared::ProcessError, /deadlock/)
    expect { in_child { lock.release_write_lock } }.to raise_error(Child::Failed, /written by process/)
    lock.release_write_lock
    expect { lock.release_write_lock }.to raise_error(ProcessShared::ProcessError, /not written/)
  end

  it "gives back what a block has, however it ends" do
    %i[with_read_lock with_write_lock with_upgradable_lock].each do |with|
      expect(lock.public_send(with) { :value }).to be :value
      expect { lock.public_send(with) { raise IOError } }.to raise_error(IOError)
      catch(:out) { lock.public_send(with) { throw :out } }
      expect { lock.public_send(with) }.to raise_error(ArgumentError, "no block given")
      expect(in_child { lock.try_write_lock }).to be true
      pid = nil
      lock.public_send(with) { pid = fork }
      exit!(true) unless pid
      expect(Process.wait2(pid).last).to be_success
      expect(in_child { lock.try_write_lock }).to be true
    end
  end

  it "lets an upgrader read beside readers, and become the writer without a writer in between" do
    numbers = ProcessShared::SharedArray.new(:int64, 1)
    children = Array.new(3) do
      fork_child do
        200.times do
          lock.with_upgradable_lock do
            before = numbers[0]
            lock.with_write_lock { numbers[0] = before + 1 }
          end
        end
      end
    end
    children.each(&:value)
    expect(numbers[0]).to be 600
    lock.with_upgradable_lock do
      expect(in_child { [lock.try_read_lock, lock.try_write_lock] }).to eq [true, false]
      lock.with_write_lock { expect(in_child { lock.try_read_lock }).to be false }
      expect(in_child { lock.try_read_lock }).to be true
    end
  end

  it "refuses two that read and both would write" do
    other = reader
    expect(lock.with_read_lock { lock.try_write_lock }).to be false
    waiting = fork_child { lock.with_read_lock { lock.with_write_lock { :written } } }
    wait_until { lock.waiters == 1 }
    other.tell(:go)
    expect([other.value, waiting.value]).to eq [true, :written]
    upgrader = fork_child { |parent| lock.with_upgradable_lock { parent.say(:in) && parent.listen } && nil }
    upgrader.hear
    expect { lock.with_read_lock { lock.acquire_write_lock } }.to raise_error(ProcessShared::ProcessError, /with_upgradable_lock/)
    upgrader.tell(:go)
    upgrader.value
  end

  it "is had by others when a reader dies, at once" do
    child = reader
    waiting = fork_child { lock.with_write_lock { lock.abandoned? } }
    wait_until { lock.waiters == 1 }
    wait_until_blocked(waiting)
    child.kill
    expect([waiting.value, lock.reader_pids]).to eq [false, []]
  end

  it "is handed on, abandoned, when a writer dies" do
    child = writer
    waiting = [fork_child { lock.with_read_lock { lock.abandoned? } }, fork_child { lock.with_read_lock { lock.abandoned? } }]
    wait_until { lock.waiters == 2 }
    child.kill
    expect(waiting.map(&:value)).to eq [true, true]
    expect([lock.abandoned?, lock.write_locked?, lock.inspect]).to eq [true, false, "#<ProcessShared::ReadWriteLock free, abandoned>"]
    expect(lock.with_write_lock { lock.abandoned? }).to be true
    expect([lock.abandoned?, lock.with_read_lock { lock.abandoned? }]).to eq [false, false]
  end

  it "has what a dead writer left repaired before anybody sees it, once" do
    repairs = []
    lock = described_class.new(on_abandoned: ->(given) { repairs << [given.equal?(lock), lock.write_locked?, lock.abandoned?] })
    writer(lock).kill
    expect([lock.with_read_lock { lock.abandoned? }, repairs]).to eq [false, [[true, true, true]]]
    writer(lock).kill
    expect([lock.with_write_lock { lock.abandoned? }, repairs.size]).to eq [false, 2]
    writer(lock).kill
    expect([lock.with_upgradable_lock { lock.abandoned? }, repairs.size, lock.try_write_lock]).to eq [false, 3, true]
    lock.release_write_lock
  end

  it "stays abandoned when the repair raises" do
    lock = described_class.new(on_abandoned: ->(_) { raise IOError, "no" })
    writer(lock).kill
    2.times { expect { lock.with_read_lock { nil } }.to raise_error(IOError) }
    expect { lock.acquire_write_lock }.to raise_error(IOError)
    expect([lock.abandoned?, lock.write_locked?, in_child { lock.reader_pids }]).to eq [true, false, []]
  end

  it "is not abandoned by the death of a writer that waits, or of an upgrader" do
    child = reader
    waiting = fork_child { lock.acquire_write_lock }
    wait_until { lock.waiters == 1 }
    wait_until_blocked(waiting)
    waiting.kill
    expect([lock.try_read_lock, lock.release_read_lock, lock.abandoned?]).to eq [true, true, false]
    let_go(child)
    upgrader = fork_child { |parent| lock.with_upgradable_lock { parent.say(:in) && parent.listen } }
    upgrader.hear
    upgrader.kill
    expect([lock.try_write_lock, lock.abandoned?]).to eq [true, false]
    lock.release_write_lock
  end

  it "keeps a count right that processes change and look at, while some are killed" do
    cells = ProcessShared::SharedArray.new(:int64, 2)
    lock = described_class.new(on_abandoned: ->(_) { cells[1] = cells[0] })
    work = lambda do
      loop do
        lock.with_write_lock { (cells[0] += 1) && (cells[1] = cells[0]) }
        3.times { lock.with_read_lock { cells[0] == cells[1] or raise "torn" } }
      end
    end
    children = Array.new(3) { fork_child { work.call } }
    20.times do
      sleep 0.01
      children.shift.kill
      children << fork_child { work.call }
    end
    children.each(&:kill)
    expect(lock.with_read_lock { cells[0] == cells[1] && cells[0] > 0 }).to be true
  end

  it "lets a thread that ends go" do
    in_thread { lock.acquire_read_lock }.join
    in_thread { lock.acquire_write_lock }.join
    expect(lock.try_write_lock(5)).to be true
    lock.release_write_lock
  end

  it "lets the other fibers of a thread go on" do
    log = []
    in_thread do
      Fiber.set_scheduler(Scheduler.new)
      Fiber.schedule { lock.with_write_lock { sleep(0.02) && log << :first } }
      Fiber.schedule { lock.with_read_lock { log << :read } }
      Fiber.schedule { lock.with_write_lock { log << :written } }
    end.join
    expect(log).to match_array %i[first read written]
    expect(log.first).to be :first
  end

  it "ends a wait by exceptions, with nothing taken" do
    child = writer
    [-> { lock.acquire_read_lock }, -> { lock.acquire_write_lock }, -> { lock.with_upgradable_lock { nil } }].each do |wait|
      expect { Timeout.timeout(0.02) { wait.call } }.to raise_error(Timeout::Error)
    end
    expect(lock.waiters).to be 0
    let_go(child)
    expect(in_child { lock.try_write_lock }).to be true
  end

  it "can be tried, and not waited for, in a signal handler" do
    child = writer
    said = in_child do
      said = nil
      trap(:USR1) { said = [lock.try_read_lock, lock.try_write_lock, (lock.acquire_read_lock rescue $!.class), (lock.acquire_write_lock rescue $!.class)] }
      Process.kill(:USR1, Process.pid)
      Thread.pass until said
      said
    end
    expect(said).to eq [false, false, ThreadError, ThreadError]
    let_go(child)
  end

  it "is given back when it is closed or collected" do
    lock.acquire_read_lock
    twin = in_child { lock.reader_pids }
    lock.close
    expect(twin).to eq [Process.pid]
    100.times { described_class.new.acquire_read_lock && described_class.new.acquire_write_lock }
    GC.start
    expect { lock.acquire_read_lock }.to raise_error(ProcessShared::ClosedError)
  end

  it "takes no argument but on_abandoned:" do
    expect { described_class.new(1) }.to raise_error(ArgumentError)
    expect { described_class.new(on_abandoned: 1) }.to raise_error(TypeError)
    expect { lock.try_read_lock("1") }.to raise_error(TypeError)
  end
end
