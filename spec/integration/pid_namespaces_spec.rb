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

  calls = {
    ProcessShared::Mutex => %i[lock try_lock unlock locked? owned? owner_pid abandoned? waiters synchronize wakeup_first],
    ProcessShared::Monitor => %i[lock try_lock unlock locked? owned? owner_pid abandoned? waiters synchronize enter try_enter exit],
    ProcessShared::Semaphore => %i[wait try_wait post value waiters synchronize],
    ProcessShared::BinarySemaphore => %i[wait try_wait post value waiters synchronize],
    ProcessShared::ConditionVariable => %i[signal broadcast waiters]
  }
  calls.each do |klass, names|
    it "a #{klass} of the parent is refused" do
      object = klass.new
      refusals = in_new_namespace { names.map { |name| refusal { object.public_send(name) { :entered } } } }
      expect(refusals).to all match(/another PID namespace/)
      expect(object.waiters).to be 0
    end

    it "a #{klass} of the parent can be inspected and closed" do
      object = klass.new
      expect(in_new_namespace { [object.inspect, object.closed?, object.close, object.closed?] })
        .to eq ["#<#{klass} out of reach>", false, nil, true]
      expect(object).not_to be_closed
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
