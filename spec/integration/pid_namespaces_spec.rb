# frozen_string_literal: true

# Other PID namespaces, where thread numbers mean other threads. What was made outside is refused there, and nobody
# outside loses anything; what is made inside works.
RSpec.describe "In another PID namespace", if: !ProcessShared.const_defined?(:Handover, false) do
  include PidNamespaces

  before { skip "this process may not make PID namespaces" unless PidNamespaces.possible? }

  # What a call says that must be refused.
  def refusal
    "it returned #{yield.inspect}"
  rescue ProcessShared::ProcessError => error
    error.message
  end

  SharedClass.objects.each do |entry|
    it "a #{entry.name} of the parent is refused, by every method" do
      object = entry.make
      refusals = in_new_namespace do
        $VERBOSE = nil # Ruby 3.4 warns of a block that is passed to a method without one
        entry.calls.to_h { |name, arguments| [name, refusal { object.public_send(name, *arguments) { :entered } }] }
      end
      expect(refusals).to all(satisfy("be refused") { |_, said| said.include?("another PID namespace") })
      expect { entry.in_use(object) }.not_to change { entry.when_idle(object) }
    end

    it "a #{entry.name} of the parent can be inspected and closed" do
      object = entry.make
      expect(in_new_namespace { [object.inspect, entry.ended?(object), entry.end_of(object), entry.ended?(object)] })
        .to eq ["#<#{entry.klass} out of reach>", false, nil, true]
      expect(entry.ended?(object)).to be false
    end
  end

  it "nobody enters a monitor that the first process of another namespace is in" do
    ProcessShared::Mutex.new.synchronize { nil } # the children inherit a fiber that has used locks
    monitor = ProcessShared::Monitor.new
    said = Array.new(2) { in_new_namespace { [Process.pid, refusal { monitor.synchronize { :entered } }] } }
    expect(said).to all match([1, /another PID namespace/])
    expect(monitor.synchronize { monitor.owned? }).to be true
  end

  it "an unlock releases nothing, and the collector neither" do
    outcome = in_new_namespace do
      holder = Process.pid
      mutexes = Array.new(200) { ProcessShared::Mutex.new.lock }
      unshare_pids
      inner = in_child do
        first = refusal { mutexes.first.unlock }
        mutexes.clear
        10.times { GC.start }
        ProcessShared::Mutex.new.lock # gives up what this thread held and dropped
        [Process.pid, first]
      end
      [holder, inner, mutexes.count { |mutex| mutex.owned? && !mutex.abandoned? }]
    end
    expect(outcome).to match [1, [1, /another PID namespace/], 200]
  end

  it "a child that falls out of the parent's synchronize raises, and unlocks nothing" do
    outcome = in_new_namespace do
      mutex = ProcessShared::Mutex.new
      reader, writer = IO.pipe
      unshare_pids
      pid = owned = nil
      said = refusal do
        mutex.synchronize do
          pid = fork
          pid and (Process.wait(pid) && owned = mutex.owned?)
        end
      end
      pid or (writer.write(said) && writer.flush && exit!(0))
      writer.close
      [reader.read, owned, mutex.locked?]
    end
    expect(outcome).to match [/another PID namespace/, true, false]
  end

  it "objects that are made there work, for grandchildren too" do
    seen = in_new_namespace do
      mutex = ProcessShared::Mutex.new.lock
      held = in_child { [mutex.locked?, mutex.owned?, mutex.owner_pid, mutex.try_lock] }
      mutex.unlock
      in_child { mutex.lock && nil }
      [held, mutex.synchronize { mutex.abandoned? }, mutex.locked?]
    end
    expect(seen).to eq [[true, false, 1, false], true, false]
  end

  it "what the parent holds stays its own, and is usable" do
    mutex = ProcessShared::Mutex.new.lock
    in_new_namespace { mutex.close }
    expect(mutex).to be_owned
    expect(in_child { mutex.try_lock }).to be false
    expect(mutex.unlock).not_to be_locked
  end
end
