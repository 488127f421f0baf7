# frozen_string_literal: true

require_relative "../support/shared/queue"

[Thread::Queue, ProcessShared::Queue].each do |klass|
  RSpec.describe klass do
    define_method(:make) { klass.new }
    include_examples "a queue of core's kind"

    it "begins with what it is given" do
      expect(klass.new([1, 2]).size).to be 2
      expect(klass.new(1..3).pop).to be 1
      expect { klass.new(5) }.to raise_error(TypeError, "can't convert Integer into Array")
    end
  end
end

[Thread::SizedQueue, ProcessShared::SizedQueue].each do |klass|
  RSpec.describe klass do
    define_method(:make) { klass.new(10) }
    include_examples "a queue of core's kind"

    it "has a limit" do
      queue = klass.new(1) << 1
      expect(queue.max).to be 1
      expect { queue.push(2, true) }.to raise_error(ThreadError, "queue full")
      thread = in_thread { queue.push(2) }
      wait_until { queue.num_waiting == 1 }
      expect(queue.pop).to be 1
      expect(thread.value).to be queue
      queue.max = 2
      queue << 3
      expect([queue.size, queue.max]).to eq [2, 2]
    end

    it "has a timeout, also to push", if: klass == ProcessShared::SizedQueue || RUBY_VERSION >= "3.2" do
      queue = klass.new(1) << 1
      expect([queue.push(2, timeout: 0), queue.push(2, timeout: 0.001)]).to eq [nil, nil]
      expect { queue.push(2, true, timeout: 1) }.to raise_error(ArgumentError, "can't set a timeout if non_block is enabled")
      expect([queue.pop, queue.push(2, timeout: 1)]).to eq [1, queue]
    end

    it "refuses a limit that is none" do
      [0, -1].each do |max|
        expect { klass.new(max) }.to raise_error(ArgumentError, "queue size must be positive")
        expect { klass.new(1).max = max }.to raise_error(ArgumentError, "queue size must be positive")
      end
      expect { klass.new("1") }.to raise_error(TypeError)
    end

    it "raises in a pusher that waits when it is closed" do
      queue = klass.new(1) << 1
      thread = in_thread { queue.push(2) }
      wait_until { queue.num_waiting == 1 }
      queue.close
      expect { thread.value }.to raise_error(ClosedQueueError)
    end
  end
end

RSpec.describe ProcessShared::Queue do
  let!(:queue) { described_class.new }

  # An object whose code runs while it is written and read.
  class Coded
    class << self
      attr_accessor :writes, :reads
    end

    def marshal_dump = Coded.writes&.call && nil
    def marshal_load(_) = Coded.reads&.call
  end

  after { Coded.writes = Coded.reads = nil }

  it "copies items, with their encodings, and gives fresh Strings" do
    all = [0, -1, 2**62 - 1, 2**62, -2**62, 2**70, 1.5, -0.0, Float::INFINITY, :name, :"ü", :"a b", "", "ü", "\xff".b, "a".encode("US-ASCII"),
           "ü".encode("UTF-16LE"), "x" * 20_000, "y" * 3_000_000, nil, true, false, [1, { a: "b" }], 1r, 1..2, Class]
    queue.concat(all)
    out = in_child { Array.new(all.size) { queue.pop } }
    expect(out).to eq all
    expect(out.grep(String).map(&:encoding)).to eq all.grep(String).map(&:encoding)
    string = queue.push("frozen").pop
    expect(string).not_to be_frozen
    special = Class.new(String).tap { |klass| stub_const("Special", klass) }.new("a")
    expect(queue.push(special).pop.class).to be Special
    expect(queue.push("a".dup.tap { |text| text.instance_variable_set(:@a, 1) }).pop.instance_variable_get(:@a)).to be 1
  end

  it "refuses what Marshal cannot write, and what never fits, and has nothing of it" do
    small = described_class.new(bytes: 100_000)
    expect { queue.push(proc {}) }.to raise_error(TypeError)
    expect { small.push("x" * 200_000) }.to raise_error(IndexError, /takes 200000 bytes, and the queue has 100000/)
    expect { small.concat([1, "x" * 200_000]) }.to raise_error(IndexError)
    expect([queue.size, small.size]).to eq [0, 0]
    expect(small.push("x" * 100_000).pop.size).to be 100_000
    expect { described_class.new(bytes: -1) }.to raise_error(ArgumentError)
  end

  it "waits for room, and not where it must not" do
    full = described_class.new(bytes: 100_000)
    item = "x" * 50_000
    count = 0
    expect { loop { full.push(item, true) && count += 1 } }.to raise_error(ThreadError, "queue full")
    expect(count).to be > 0
    expect(full.push(item, timeout: 0.001)).to be_nil
    child = fork_child { full.push(item) && :done }
    wait_until { full.waiters == 1 }
    full.pop
    expect(child.value).to be :done
    expect(full.size).to be count
  end

  it "moves many at once" do
    expect(queue.concat((1..2000).to_a)).to be queue
    expect(queue.pop_all(3)).to eq [1, 2, 3]
    expect(queue.pop_all).to eq((4..2000).to_a)
    expect(queue.pop_all(timeout: 0.001)).to be_nil
    expect { queue.pop_all(0) }.to raise_error(ArgumentError)
    sized = ProcessShared::SizedQueue.new(3)
    child = fork_child { Array.new(10) { sized.pop } }
    sized.concat((1..10).to_a)
    expect(child.value).to eq((1..10).to_a)
  end

  it "takes all items together, whatever they are, also beside one in flight" do
    short, long = [1, nil, true, -2**61, false], Array.new(50) { |number| number.to_s * 300 }
    [short, [*short, "a" * 1000, :b, 2.5, [3], 2**62, 1], Array.new(5000) { |number| number }, long].each do |items|
      queue.concat([:first, *items])
      expect(queue.pop { queue.pop_all }).to eq items
      expect(queue.concat(items).pop_all).to eq items
    end
    expect([queue.size, queue.in_flight]).to eq [0, {}]
  end

  it "runs the code of objects outside of any lock" do
    Coded.writes = -> { queue.push(:inner) }
    queue.push(Coded.new)
    expect(queue.pop).to be :inner
    Coded.reads = -> { queue.push(:from_load) }
    queue.pop
    expect(queue.pop).to be :from_load
    Coded.writes = -> { raise KeyError }
    expect { queue.push(Coded.new) }.to raise_error(KeyError)
    Coded.writes = -> { throw :out }
    catch(:out) { queue.push(Coded.new) }
    expect(queue).to be_empty
  end

  it "is held up by no code of an object that takes long, and loses nothing when that is killed" do
    [:writes, :reads].each do |side|
      queue.push(Coded.new) if side == :reads
      child = fork_child do |parent|
        Coded.public_send(:"#{side}=", -> { parent.say && parent.listen })
        side == :reads ? queue.pop { :never } : queue.push(Coded.new)
      end
      child.hear
      expect(queue.push(1).push(2).pop_all).to eq [1, 2]
      child.kill
    end
    expect(queue.pop { |item, deliveries| [item.class, deliveries] }).to eq [Coded, 2]
    expect(queue).to be_empty
  end

  it "is the same in a child that the code of an object forks" do
    Coded.writes = -> { fork_child { queue.push(:from_the_child) }.value }
    queue.push(Coded.new).push(:for_the_child)
    expect(queue.pop).to be :from_the_child
    Coded.reads = -> { @read = fork_child { queue.pop } }
    expect(queue.pop { @read.value }).to be :for_the_child
    expect([queue.size, queue.in_flight]).to eq [0, {}]
  end

  describe "#pop with a block" do
    before { queue.push(:job) }

    it "is done with the item when the block ends, by value, next, break or return" do
      expect(queue.pop { |item, deliveries| [item, deliveries, queue.size, queue.in_flight] }).to eq [:job, 1, 0, { Process.pid => 1 }]
      expect(queue.push(1).pop { |item| next item + 1 }).to be 2
      expect(queue.push(1).pop { |item| break item + 2 }).to be 3
      queue.push(1)
      -> { queue.pop { return } }.call
      expect([queue.size, queue.in_flight]).to eq [0, {}]
    end

    it "puts the item back at the front when the block is left otherwise" do
      queue.push(:next)
      expect { queue.pop { raise KeyError } }.to raise_error(KeyError)
      catch(:out) { queue.pop { throw :out } }
      thread = in_thread { queue.pop { sleep } }
      wait_until { queue.in_flight == { Process.pid => 1 } }
      thread.kill.join
      expect(queue.pop { |item, deliveries| [item, deliveries] }).to eq [:job, 4]
      expect(queue.pop).to be :next
    end

    it "leaves the item to the parent in a child that is forked in it" do
      queue.pop do
        in_child { nil } # whose blocks end too
        pid = fork { raise SystemExit }
        Process.wait(pid)
        expect(queue.in_flight).to eq(Process.pid => 1)
      end
      expect([queue.size, queue.in_flight]).to eq [0, {}]
    end

    it "gives the item to one that waits when the process is killed, exits or becomes another" do
      ends = [-> { Process.kill(:KILL, Process.pid) }, -> { exit!(0) }, -> { exec("true") }]
      ends.each.with_index(1) do |finish, number|
        child = fork_child { |parent| queue.pop { parent.say && parent.listen && finish.call } }
        child.hear
        thread = in_thread { queue.pop { |item, deliveries| [item, deliveries] } }
        wait_until { queue.waiters == 1 }
        child.tell(:go)
        expect(thread.value).to eq [:job, 2]
        child.wait
        queue.push(:job) if number < ends.size
      end
    end

    it "puts back what cannot be loaded" do
      queue.clear
      Coded.reads = -> { raise KeyError }
      queue.push(Coded.new)
      2.times { expect { queue.pop { :never } }.to raise_error(KeyError) }
      expect(queue.size).to be 1
      expect { queue.pop }.to raise_error(KeyError)
      expect(queue.size).to be 0
    end

    it "ends well when the handle is released in it" do
      handle = queue
      child = fork_child { |parent| parent.listen && handle.in_flight.size + handle.size }
      expect(queue.pop { queue.release && :value || :value }).to be :value
      child.tell(:go)
      expect(child.value).to be 0
    end
  end

  it "sets poison aside" do
    aside = described_class.new
    queue.push(:poison)
    4.times do
      child = fork_child do
        queue.pop(timeout: 5) { |item, deliveries| deliveries > 3 ? aside.push(item) : Process.kill(:KILL, Process.pid) }
      end
      child.wait
    end
    expect([aside.pop(timeout: 0), queue.size]).to eq [:poison, 0]
  end

  it "loses and doubles nothing while its workers are killed", :unstressed, limit: 60 do
    done = described_class.new
    work = proc { loop { queue.pop { |job| done.push(job) } } }
    crew = Array.new(4) { fork_child(&work) }
    producer = fork_child { 1000.times { |job| queue.push(job.odd? ? job : [job]) } }
    30.times do
      number = rand(4)
      sleep Random.rand(0.01)
      crew[number].kill
      crew[number] = fork_child(&work)
    end
    producer.value
    jobs = []
    wait_until { jobs.concat(done.pop_all(timeout: 0.01) || []) && jobs.uniq.size == 1000 }
    crew.each(&:kill)
    jobs.concat(done.pop_all(timeout: 0) || [])
    expect(jobs.uniq.size).to be 1000
    expect(jobs.size).to be_between(1000, 1030) # a job may be begun twice, once for each kill
    expect([queue.size, queue.in_flight]).to eq [0, {}]
  end

  describe "with a path" do
    around { |example| Dir.mktmpdir { |folder| (@path = "#{folder}/queue") && example.run } }

    def at_path(items = nil, **options) = described_class.new(items, bytes: 100_000, path: @path, **options)

    # Runs the script in a process that is not related to this one; `killed` if it does not end by itself.
    def elsewhere(script, killed: false)
      making = "queue = ProcessShared::Queue.new(bytes: 100_000, path: #{@path.inspect})"
      output, status = ruby_with_status("#{making}\n#{script}")
      expect([status.termsig, output]).to eq([9, ""]) if killed
      output
    end

    it "begins once, and survives a restart of all its users" do
      queue = at_path([1, :two, "three" * 2000])
      expect([queue.size, queue.path]).to eq [3, @path]
      queue.push([4]).close
      queue.release
      expect(elsewhere("p queue.pop, queue.size")).to eq "1\n3\n"
      queue = at_path([9])
      expect([*Array.new(3) { queue.pop }, queue.pop, queue.closed?]).to eq [:two, "three" * 2000, [4], nil, true]
    end

    it "has what everybody had in flight who is gone, at the front, with one delivery more" do
      at_path([1, "2" * 20_000, 3, 4]).release
      dying = "queue.pop { |one| queue.pop { |two| queue.pop(timeout: 0) { Process.kill(:KILL, $$) } } }"
      2.times { elsewhere(dying, killed: true) }
      queue = at_path
      taken = Array.new(4) { queue.pop { |item, deliveries| [item, deliveries] } }
      expect(taken).to eq [[1, 3], ["2" * 20_000, 3], [3, 3], [4, 1]]
      expect([queue.size, queue.in_flight]).to eq [0, {}]
      expect(queue.push("x" * 100_000).pop.size).to be 100_000
    end

    it "hands what a stranger had who was killed to one who waits" do
      queue = at_path
      thread = in_thread { queue.pop { |item, deliveries| [item, deliveries] } }
      wait_until { queue.waiters == 1 }
      elsewhere("queue.push(:job); queue.release", killed: false)
      expect(thread.value).to eq [:job, 1]
      elsewhere("queue.push(:next); queue.pop { Process.kill(:KILL, $$) }", killed: true)
      expect(queue.pop { |item, deliveries| [item, deliveries] }).to eq [:next, 2]
    end

    it "is one queue however often it is opened" do
      one, two = at_path, at_path
      one.push(1).push(2)
      expect(two.pop { |item| [item, one.in_flight, two.size] }).to eq [1, { Process.pid => 1 }, 1]
      one.release
      expect(two.pop).to be 2
    end

    it "takes all its memory when it is made, and refuses another size, or more items than it has room for" do
      at_path
      expect(File.stat(@path).blocks * 512).to be >= 100_000
      expect { at_path(nil, bytes: 50_000) }.to raise_error(ArgumentError, /100000 bytes.*50000 bytes/)
      expect { described_class.new(["x" * 5000] * 9, bytes: 5000, path: "#{@path}2") }.to raise_error(ArgumentError, /fit/)
      expect { described_class.new(["x" * 5001], bytes: 5000, path: "#{@path}2") }.to raise_error(IndexError)
      expect(Dir.children(File.dirname(@path))).to eq ["queue"]
    end

    it "says so where the file has been overwritten" do
      at_path.push(1).release
      File.binwrite(@path, "overwritten", File.binread(@path).index("psqueue1"))
      expect { at_path }.to raise_error(ProcessShared::IncompatibleError, /overwritten/)
    end
  end

  it "is used in signal handlers, where it does not wait" do
    child = fork_child do |parent|
      results = nil
      trap(:USR1) do
        queue.push(1)
        results = [queue.pop(true), queue.pop(timeout: 0), (queue.pop rescue $!.class)]
      end
      parent.say # which holds the pipe's lock: the handler cannot say anything
      sleep 0.001 until results
      results
    end
    child.hear
    child.signal(:USR1)
    expect(child.value).to eq [1, nil, ThreadError]
  end

  it "costs no descriptor, and gives memory back when it drains" do
    GC.disable # which would unmap what other examples have left
    before = Dir.children("/dev/fd").size
    shared = -> { File.read("/proc/self/status")[/^RssShmem:\s+(\d+)/, 1].to_i }
    start = shared.call
    3.times { queue.push("x" * 10_000_000) }
    expect(shared.call - start).to be > 25_000
    3.times { queue.pop }
    expect(shared.call - start).to be < 1_000
    expect(Dir.children("/dev/fd").size).to be <= before
  ensure
    GC.enable
  end

  describe "a handle" do
    calls = SharedClass.shared.find { |entry| entry.name == :Queue }.calls

    calls.each do |name, with|
      it "refuses #{name} when released, or not initialized" do
        queue.release
        expect { queue.public_send(name, *with) }.to raise_error(ProcessShared::ClosedError)
        expect { described_class.allocate.public_send(name, *with) }.to raise_error(TypeError, /not initialized/)
      end
    end

    it "is released here only, and says so" do
      child = fork_child { |parent| parent.listen && queue.push(1).pop }
      expect(queue.released?).to be false
      expect(queue.release).to be_nil
      expect(queue.release).to be_nil
      expect([queue.released?, queue.inspect]).to eq [true, "#<ProcessShared::Queue closed>"]
      child.tell(:go)
      expect(child.value).to be 1
    end

    it "cannot be copied, frozen, marshalled or initialized again" do
      [:dup, :clone, :freeze, -> { Marshal.dump(_1) }, -> { _1.send(:initialize) }].each do |call|
        expect { call.to_proc.call(queue) }.to raise_error(TypeError)
      end
    end

    it "says what is in it, and who waits" do
      expect(queue.inspect).to eq "#<ProcessShared::Queue 0 items>"
      expect(queue.push(1).close.to_s).to eq "#<ProcessShared::Queue 1 item, closed>"
    end
  end

  it "is shared by Ractors as it is" do
    expect(ruby(<<~RUBY, options: ["-W:no-experimental"])).to eq "[[2, 4, 6], true]\n"
      queue, results = ProcessShared::Queue.new([1, 2, 3]), ProcessShared::Queue.new
      queue.close
      ractors = Array.new(2) { Ractor.new(queue, results) { |q, r| while (n = q.pop) do r << n * 2 end } }
      ractors.each { |r| r.respond_to?(:value) ? r.value : r.take }
      p [results.pop_all.sort, Ractor.make_shareable(queue).equal?(queue)]
    RUBY
  end
end
