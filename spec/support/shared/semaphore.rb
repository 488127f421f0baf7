# frozen_string_literal: true

# What both kinds of semaphore do.
#
# The including group's `described_class` is the class.
RSpec.shared_examples "a semaphore" do
  let!(:free) { described_class.new(1) }
  let!(:taken) { described_class.new(0) }

  it "has the value 1 unless told otherwise" do
    expect(described_class.new.value).to be 1
    expect([free.value, taken.value]).to eq [1, 0]
  end

  describe "#wait" do
    it "takes a permit and returns self" do
      expect(free.wait).to be free
      expect(free.value).to be 0
    end

    it "waits for a post of another thread" do
      waiter = in_thread { taken.wait; taken.value }
      wait_until_blocked(waiter)
      taken.post
      expect(waiter.value).to be 0
    end

    it "waits for a post of another process" do
      child = fork_child { |parent| parent.say; taken.wait; taken.value }
      child.hear
      wait_until_blocked(child)
      taken.post
      expect(child.value).to be 0
    end

    it "lets other threads run meanwhile" do
      waiter = in_thread { taken.wait }
      wait_until_blocked(waiter)
      expect(in_thread { 1 + 1 }.value).to be 2
    end
  end

  describe "#try_wait" do
    it "takes a free permit and returns self, whatever the time" do
      [[], [nil], [0], [-1], [0.5], [Rational(1, 2)], [3]].each do |arguments|
        expect(free.try_wait(*arguments)).to be free
        free.post
      end
    end

    it "raises EAGAIN at once without a time" do
      expect { taken.try_wait }.to raise_error(Errno::EAGAIN, /no permit is free/)
      expect { taken.try_wait(nil) }.to raise_error(Errno::EAGAIN)
    end

    it "raises ETIMEDOUT when the time is up" do
      expect(seconds { expect { taken.try_wait(0.05) }.to raise_error(Errno::ETIMEDOUT) }).to be >= 0.05
      expect(taken.value).to be 0
    end

    it "raises ETIMEDOUT at once for 0 and for a negative time" do
      [0, -3].each do |timeout|
        expect { taken.try_wait(timeout) }.to raise_error(Errno::ETIMEDOUT, "no permit came in time") do |error|
          expect(error.errno).to be Errno::ETIMEDOUT::Errno
        end
      end
    end

    it "takes a permit that is posted before the time is up" do
      waiter = in_thread { taken.try_wait(10) }
      wait_until_blocked(waiter)
      in_child { taken.post && nil }
      expect(waiter.value).to be taken
    end
  end

  describe "#post" do
    it "gives a permit and returns self" do
      expect(taken.post).to be taken
      expect(taken.value).to be 1
    end
  end

  describe "#synchronize" do
    it "holds a permit during the block, and returns the block's value" do
      expect(free.synchronize { [free.value, :value] }).to eq [0, :value]
      expect(free.value).to be 1
    end

    it "gives the permit back when the block raises, throws, or its thread is killed" do
      expect { free.synchronize { raise KeyError } }.to raise_error(KeyError)
      catch(:out) { free.synchronize { throw :out } }
      thread = in_thread { free.synchronize { sleep } }
      wait_until_blocked(thread)
      thread.kill.join
      expect(free.value).to be 1
    end

    it "raises without a block, and takes nothing" do
      expect { free.synchronize }.to raise_error(StandardError, /block/)
      expect(free.value).to be 1
    end

    it "lets one in at a time over all processes" do
      memory = ProcessShared::SharedMemory.new(:int)
      children = Array.new(4) do
        fork_child do
          100.times do
            free.synchronize do
              value = memory.read_int
              Thread.pass
              memory.write_int(value + 1)
            end
          end
        end
      end
      children.each(&:value)
      expect(memory.read_int).to be 400
    end
  end

  describe "#waiters" do
    it "counts those who wait, in all processes" do
      expect(taken.waiters).to be 0
      child = fork_child { taken.wait && nil }
      thread = in_thread { taken.wait }
      wait_until { taken.waiters == 2 }
      taken.post
      wait_until { taken.waiters == 1 }
      taken.post
      [child, thread].each(&:value)
      expect([taken.waiters, taken.value]).to eq [0, 0]
    end
  end

  describe "#inspect" do
    it "says the value and how many wait" do
      expect(free.inspect).to match(/\A#<#{described_class}\b.*\b1\b/)
      thread = in_thread { taken.wait }
      wait_until { taken.waiters == 1 }
      expect(taken.inspect).to match(/\A#<#{described_class}\b.*\b0\b.*1 waiting/)
      taken.post
      thread.value
    end
  end

  describe "#initialize" do
    it "raises ArgumentError for a negative value" do
      [-1, -(2**31), -(2**64)].each { |value| expect { described_class.new(value) }.to raise_error(ArgumentError) }
    end

    it "raises ArgumentError for a value too big" do
      [2**31, 2**32, 2**32 + 1, 2**64].each do |value|
        expect { described_class.new(value) }.to raise_error(ArgumentError)
      end
    end

    it "raises TypeError for what is not a number" do
      [nil, "1", :one, [], {}, true].each { |value| expect { described_class.new(value) }.to raise_error(TypeError) }
    end
  end
end
