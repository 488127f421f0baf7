# frozen_string_literal: true

RSpec.describe ProcessShared::RateLimiter do
  # One a day, so many at once: none comes back during a spec.
  def slow(burst) = described_class.new(1, per: 86_400, burst: burst)

  def now = Process.clock_gettime(Process::CLOCK_MONOTONIC)

  it "gives a burst at once, and no more" do
    limiter = slow(3)
    expect(Array.new(5) { limiter.try_acquire }).to eq [true, true, true, false, false]
    expect(limiter.retry_after).to be_between(86_000, 86_400)
    expect(limiter.inspect).to match(/\A#<ProcessShared::RateLimiter free in 86\d{3}\.\d{3} s>\z/)
  end

  it "takes as many as the rate for a burst, and at least one" do
    expect(Array.new(4) { |index| (@limiter ||= described_class.new(3, per: 86_400)).try_acquire && index }).to eq [0, 1, 2, false]
    expect((limiter = described_class.new(0.5, per: 86_400)).try_acquire).to be true
    expect(limiter.try_acquire).to be false
  end

  it "takes several or none" do
    limiter = slow(5)
    expect([limiter.try_acquire(3), limiter.try_acquire(3), limiter.try_acquire(2), limiter.try_acquire]).to eq [true, false, true, false]
  end

  it "is free before anybody has taken anything" do
    limiter = slow(2)
    expect([limiter.retry_after, limiter.inspect]).to eq [0.0, "#<ProcessShared::RateLimiter free>"]
  end

  it "gives all processes together no more than burst + rate * time" do
    limiter = described_class.new(2000, burst: 20)
    start = now
    taken = Array.new(3) { fork_child { 40_000.times.count { limiter.try_acquire } } }.sum(&:value)
    expect(taken).to be_between(20, 20 + 2000 * (now - start))
  end

  it "gives those who wait no more either, and each its turn" do
    limiter = described_class.new(1000, burst: 1)
    start = now
    waiting = Array.new(4) { fork_child { 50.times { limiter.acquire } } }
    waiting.each(&:value)
    expect(now - start).to be >= 0.199
    expect(limiter.waiters).to be 0
  end

  it "waits for as long as the permits take" do
    limiter = described_class.new(100, burst: 5)
    expect(seconds { expect([limiter.try_acquire(5), limiter.acquire(3)]).to eq [true, limiter] }).to be >= 0.03
  end

  it "knows at once that a timeout is too short, and then takes nothing" do
    limiter = slow(1)
    limiter.acquire
    before = limiter.retry_after
    expect([limiter.try_acquire(1, 60), limiter.try_acquire(1, 0), limiter.try_acquire(1, -1)]).to eq [false] * 3
    expect(limiter.retry_after).to be_between(before - 60, before)
    quick = described_class.new(100, burst: 1)
    expect(seconds { expect([quick.try_acquire, quick.try_acquire(1, 60)]).to eq [true, true] }).to be >= 0.01
  end

  it "gets back what an interrupted waiter had reserved, if nobody came after it" do
    limiter = slow(1)
    limiter.acquire
    before = limiter.retry_after
    first, last = Array.new(2) do |number|
      in_thread { limiter.acquire }.tap { wait_until { limiter.waiters == number + 1 } }
    end
    expect(limiter.retry_after).to be > before + 2 * 86_000
    [last, first].each { |thread| thread.kill.join }
    expect([limiter.waiters, limiter.retry_after <= before]).to eq [0, true]
  end

  it "costs what a killed waiter had reserved, and nothing else" do
    limiter = described_class.new(50, burst: 1)
    limiter.acquire
    killed = fork_child { loop { limiter.acquire } }
    wait_until { limiter.waiters == 1 }
    killed.kill
    expect(limiter.try_acquire(1, 60)).to be true
    expect(limiter.waiters).to be 0
  end

  it "ends a wait by Timeout, close and signal handlers that raise, and goes on after those that return" do
    limiter = slow(1)
    limiter.acquire
    before = limiter.retry_after
    expect { Timeout.timeout(0.01) { limiter.acquire } }.to raise_error(Timeout::Error)
    child = fork_child do |parent|
      trap(:USR1) { parent.say(:handled) }
      trap(:USR2) { raise KeyError }
      limiter.acquire
    end
    wait_until { limiter.waiters == 1 }
    3.times { child.signal(:USR1).then { expect(child.hear).to be :handled } }
    child.signal(:USR2)
    expect { child.value }.to raise_error(Child::Failed, /KeyError/)
    thread = in_thread { limiter.acquire }
    wait_until { limiter.waiters == 1 }
    limiter.close
    expect { thread.value }.to raise_error(ProcessShared::ClosedError)
    expect(before).to be > 86_000
  end

  it "does not wait in a signal handler, where it may try" do
    limiter = slow(2)
    expect(in_child do
      said = []
      trap(:USR1) { 3.times { said << limiter.try_acquire } && (limiter.acquire rescue said << $!.class) }
      Process.kill(:USR1, Process.pid)
      Thread.pass until said.size == 4
      said
    end).to eq [true, true, false, ThreadError]
    expect(limiter.retry_after).to be < 86_400
  end

  it "lets a process that a signal handler forked wait for a turn of its own" do
    limiter = described_class.new(1, per: 2, burst: 1)
    start = now
    limiter.acquire
    child = fork_child do |parent|
      me = Process.pid
      trap(:USR1) { fork }
      parent.say(:ready)
      limiter.acquire
      next exit!(true) if Process.pid != me

      Process.wait && now
    end
    child.hear
    wait_until { limiter.waiters == 1 }
    child.signal(:USR1)
    expect(child.value - start).to be >= 4
  end

  it "lets the other fibers of a thread go on" do
    logs = Array.new(10) do
      log = []
      in_thread do
        limiter = described_class.new(20, burst: 1).acquire
        Fiber.set_scheduler(Scheduler.new)
        Fiber.schedule { log << limiter.acquire.class }
        Fiber.schedule { log << :other }
      end.join
      log
    end
    expect(logs).to include [:other, described_class] # not each time: a stalled thread asks when the permit has come
  end

  it "refuses numbers that make no sense" do
    [[0], [-1], [Float::INFINITY], [Float::NAN], [1, { per: 0 }], [1, { burst: 0 }], [1, { burst: 0.5 }], [1, { per: 1e10 }],
     [2e9], [1, { burst: Float::NAN }]].each do |rate, options|
      expect { described_class.new(rate, **options.to_h) }.to raise_error(ArgumentError)
    end
    ["1", nil].each { |rate| expect { described_class.new(rate) }.to raise_error(TypeError) }
    expect { described_class.new(1, unknown: 1) }.to raise_error(ArgumentError, /unknown/)
    expect(described_class.new(1r / 3, per: 2r, burst: 2).try_acquire(2)).to be true
  end

  it "refuses numbers of permits that there never are" do
    limiter = slow(2)
    [0, -1, 3, 2**70].each do |permits|
      [-> { limiter.acquire(permits) }, -> { limiter.try_acquire(permits, 0) }].each do |call|
        expect { call.call }.to raise_error(ArgumentError, /from 1 to the burst, which is 2, not #{permits}/)
      end
    end
    expect { limiter.acquire(1.5) }.to raise_error(TypeError)
    expect { limiter.try_acquire(1, "1") }.to raise_error(TypeError)
    expect(limiter.try_acquire(2)).to be true
  end
end
