# frozen_string_literal: true

RSpec.describe "require \"mach\"" do
  unless ProcessShared.const_defined?(:MachCalls, false)
    it "raises a LoadError that says why, on a system without Mach" do
      expect { require "mach" }.to raise_error(LoadError, /mach is for macOS/)
    end
    next
  end

  require "mach"

  it "gives semaphores with a count" do
    semaphore = Mach::Semaphore.new(value: 1)
    expect(semaphore.wait).to be semaphore
    expect { semaphore.timedwait(0.01) }.to raise_error(Mach::Error::OPERATION_TIMED_OUT) { |error| expect(error.errno).to eq 49 }
    semaphore.signal
    expect(semaphore.timedwait(1)).to be semaphore
    semaphore.destroy
    expect { semaphore.signal }.to raise_error(Mach::Error)
  end

  it "lets other threads run while one waits for a semaphore, and ends the wait for an exception" do
    semaphore = Mach::Semaphore.new(value: 0)
    thread = Thread.new { semaphore.wait }
    Thread.pass until thread.status == "sleep"
    thread.kill
    expect(thread.join(5)).to be thread
  end

  it "refuses a policy it does not know" do
    expect { Mach::Semaphore.new(sync_policy: :random) }.to raise_error(ArgumentError, /unknown sync_policy/)
  end

  it "sends a right from port to port" do
    ports = Array.new(2) { Mach::Port.new.insert_right(:make_send) }
    ports[0].copy_send(ports[1])
    expect(ports[1].receive_right).to eq ports[0]
    ports.each(&:destroy)
    expect { ports[0].destroy }.to raise_error(Mach::Error)
  end

  it "knows this task and its special ports" do
    task = Mach::Task.self
    original = task.get_bootstrap_port
    expect(original).to eq Mach.bootstrap_port
    port = Mach::Port.new.insert_right(:make_send)
    task.set_bootstrap_port(port)
    expect(task.get_special_port(:bootstrap)).to eq port
  ensure
    task.set_bootstrap_port(original)
  end

  it "has a clock" do
    clock = Mach::Host.self.get_clock_service
    first = clock.get_time
    expect([first.tv_sec, first.tv_nsec]).to all be_an(Integer)
    second = clock.get_time
    expect(second.to_a <=> first.to_a).to be >= 0
  end

  it "turns the kernel's numbers into errors" do
    expect(Mach::Error.for(15, "x")).to be_a(Mach::Error::INVALID_NAME).and have_attributes(errno: 15, message: "x")
    expect(Mach::Error.for(12_345, "y")).to be_a(Mach::Error::FAILURE).and have_attributes(errno: 12_345)
  end
end
