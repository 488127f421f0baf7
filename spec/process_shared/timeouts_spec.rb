# frozen_string_literal: true

# Every call that takes a timeout takes the same ones, and refuses the same ones.
RSpec.describe "Timeouts" do
  # What Kernel#sleep raises for the value; nil where it would sleep.
  def self.refusal(value)
    sleep(value)
  rescue StandardError => error
    error.class
  end

  refused = {
    "NaN" => Float::NAN, "Infinity" => Float::INFINITY, "1e30" => 1e30, "10**30" => 10**30, "a String" => "1", "a Symbol" => :one,
    "an Array" => [1], "a Hash" => { timeout: 1 }, "true" => true, "an object" => Object.new, "a Complex" => Complex(1, 0)
  }.transform_values { |value| [value, refusal(value)] }

  shared_examples "a timeout" do
    refused.each do |name, (value, error)|
      it "refuses #{name} with #{error}, as Kernel#sleep does" do
        expect { call(value) }.to raise_error(error)
        check_untouched
      end
    end

    { "an Integer" => 0, "a Float" => 0.02, "a Rational" => Rational(2, 100) }.each do |name, value|
      it "may be #{name}" do
        passed = nil
        expect(seconds { passed = passed?(value) }).to be >= value
        expect(passed).to be true
        check_untouched
      end
    end

    it "is over at once for 0" do
      expect(passed?(0)).to be true # what waits for ever, the watchdog ends
    end

    it "may be very small" do
      [1e-9, 1e-300, Rational(1, 10**12), 0.0, -0.0].each { |value| expect(passed?(value)).to be true }
    end
  end

  shared_examples "a timeout that signals do not change" do
    it "is neither cut short nor stretched by signals" do
      me = Process.pid
      trap(:USR1) { nil }
      prodder = fork_child { Process.kill(:USR1, me) && sleep(0.005) while Process.ppid == me }
      # Stretched by each of them, it would not end before they do.
      expect(seconds { expect(passed?(0.2)).to be true }).to be >= 0.2
    ensure
      prodder.kill
      trap(:USR1, "IGNORE")
    end
  end

  shared_examples "a timeout of a try" do
    it "counts as passed when negative" do
      [-1, -0.5, -Rational(1, 3), -(2**40), -1e30, -Float::INFINITY].each do |value|
        expect(passed?(value)).to be true
      end
    end
  end

  shared_examples "a timeout of a sleep" do
    it "is refused when negative, with ArgumentError" do
      [-1, -0.5, -Rational(1, 3), -(2**40), -Float::INFINITY].each do |value|
        expect { call(value) }.to raise_error(ArgumentError, /negative/)
      end
      check_untouched
    end
  end

  shared_examples "a timeout of a try of a lock" do
    before { child_holding(lock) }

    def call(value) = lock.try_lock(value)
    def passed?(value) = !call(value)
    def check_untouched = expect(lock).to be_locked

    it_behaves_like "a timeout"
    it_behaves_like "a timeout that signals do not change"
    it_behaves_like "a timeout of a try"
  end

  shared_examples "a timeout of a try of a semaphore" do
    def call(value) = semaphore.try_wait(value)
    def check_untouched = expect([semaphore.value, semaphore.waiters]).to(eq([0, 0]))

    def passed?(value)
      call(value) && false
    rescue Errno::ETIMEDOUT
      true
    end

    it_behaves_like "a timeout"
    it_behaves_like "a timeout that signals do not change"
    it_behaves_like "a timeout of a try"
  end

  shared_examples "a timeout of a sleep on a lock" do
    before { lock.lock }

    def call(value) = lock.sleep(value)
    def passed?(value) = call(value).nil?
    def check_untouched = expect(lock).to be_locked

    it_behaves_like "a timeout"
    it_behaves_like "a timeout that signals do not change"
    it_behaves_like "a timeout of a sleep"
  end

  shared_examples "a timeout of a wait" do |core: false|
    before { lock.lock }

    def call(value) = condition.wait(lock, value)
    def passed?(value) = call(value).nil?

    def check_untouched
      expect([lock.locked?, condition.waiters]).to eq [true, 0]
    end

    it_behaves_like "a timeout"
    it_behaves_like "a timeout that signals do not change" unless core
    it_behaves_like "a timeout of a sleep"
  end

  describe "Mutex#try_lock" do
    let!(:lock) { ProcessShared::Mutex.new }
    it_behaves_like "a timeout of a try of a lock"
  end

  describe "Monitor#try_lock" do
    let!(:lock) { ProcessShared::Monitor.new }
    it_behaves_like "a timeout of a try of a lock"
  end

  describe "the try_lock of a semaphore's lock" do
    let!(:lock) { ProcessShared::Semaphore.new.to_mtx }
    it_behaves_like "a timeout of a try of a lock"
  end

  describe "Semaphore#try_wait" do
    let!(:semaphore) { ProcessShared::Semaphore.new(0) }
    it_behaves_like "a timeout of a try of a semaphore"
  end

  describe "BinarySemaphore#try_wait" do
    let!(:semaphore) { ProcessShared::BinarySemaphore.new(0) }
    it_behaves_like "a timeout of a try of a semaphore"
  end

  describe "Mutex#sleep" do
    let!(:lock) { ProcessShared::Mutex.new }
    it_behaves_like "a timeout of a sleep on a lock"
  end

  describe "Monitor#sleep" do
    let!(:lock) { ProcessShared::Monitor.new }
    it_behaves_like "a timeout of a sleep on a lock"
  end

  describe "the sleep of a semaphore's lock" do
    let!(:lock) { ProcessShared::Semaphore.new.to_mtx }
    it_behaves_like "a timeout of a sleep on a lock"
  end

  describe "ConditionVariable#wait" do
    let!(:condition) { ProcessShared::ConditionVariable.new }

    context "with a Mutex" do
      let!(:lock) { ProcessShared::Mutex.new }
      it_behaves_like "a timeout of a wait"
    end

    context "with a Monitor" do
      let!(:lock) { ProcessShared::Monitor.new }
      it_behaves_like "a timeout of a wait"
    end

    context "with the lock of a semaphore" do
      let!(:lock) { ProcessShared::Semaphore.new.to_mtx }
      it_behaves_like "a timeout of a wait"
    end

    context "with a Thread::Mutex" do
      let!(:lock) { Thread::Mutex.new }
      it_behaves_like "a timeout of a wait", core: true # its sleep ends at a signal, as always in Ruby
    end
  end

  describe "Monitor#wait_for_cond" do
    let!(:monitor) { ProcessShared::Monitor.new.tap(&:enter) }
    let!(:condition) { ProcessShared::ConditionVariable.new }

    def call(value) = monitor.wait_for_cond(condition, value)
    def passed?(value) = call(value) == false
    def check_untouched = expect([monitor.mon_owned?, condition.waiters]).to(eq([true, 0]))

    it_behaves_like "a timeout"
    it_behaves_like "a timeout that signals do not change"
    it_behaves_like "a timeout of a sleep"
  end

  describe "MonitorMixin::ConditionVariable#wait" do
    let!(:monitor) { Object.new.extend(ProcessShared::MonitorMixin).tap(&:mon_enter) }
    let!(:condition) { monitor.new_cond }

    def call(value) = condition.wait(value)
    def passed?(value) = call(value) == false
    def check_untouched = expect(monitor).to be_mon_owned

    it_behaves_like "a timeout"
    it_behaves_like "a timeout that signals do not change"
    it_behaves_like "a timeout of a sleep"
  end
end
