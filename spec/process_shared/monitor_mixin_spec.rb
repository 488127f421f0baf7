# frozen_string_literal: true

require "monitor"

[MonitorMixin, ProcessShared::MonitorMixin].each do |mixin|
  RSpec.describe mixin do
    including = Class.new do
      include mixin

      attr_reader :arguments

      def initialize(*arguments, **options, &block)
        super()
        @arguments = [arguments, options, block&.call]
      end
    end

    context "when included" do
      let!(:object) { including.new(1, two: 2) { 3 } }
      let!(:monitor) { object }

      it "leaves the arguments of initialize alone" do
        expect(object.arguments).to eq [[1], { two: 2 }, 3]
      end

      it_behaves_like "a monitor mixin"
      it_behaves_like "a monitor's condition variable"
    end

    context "when included in a subclass of a class that takes arguments" do
      let!(:object) { Class.new(Array) { include mixin }.new(2, :x) }

      it "passes them on" do
        expect(object).to eq %i[x x]
        expect(object.synchronize { object.mon_owned? }).to be true
      end
    end

    context "when an object is extended" do
      let!(:object) { Object.new.extend(mixin) }
      let!(:monitor) { object }

      it_behaves_like "a monitor mixin"
      it_behaves_like "a monitor's condition variable"
    end

    it "gives every object a monitor of its own" do
      one, two = including.new, including.new
      one.mon_enter
      expect(two).not_to be_mon_locked
    end

    it "lets new_cond come before super in initialize" do
      early = Class.new do
        include mixin

        attr_reader :condition

        def initialize
          @condition = new_cond
          super
        end
      end
      object = early.new
      expect { object.synchronize { object.condition.wait(0.01) } }.not_to raise_error
    end

    it "lets a copy have a monitor of its own by mon_initialize" do
      copying = Class.new(including) do
        def initialize_copy(_other)
          mon_initialize
        end
      end
      original = copying.new
      original.mon_enter
      expect(original.dup).not_to be_mon_locked
    end

    it "names its condition variable's class" do
      expect(including.new.new_cond).to be_an_instance_of(mixin::ConditionVariable)
    end
  end
end

RSpec.describe ProcessShared::MonitorMixin, "across processes" do
  let!(:object) { Object.new.extend(described_class) }

  it "is false when the time is up" do
    object.synchronize { expect(object.new_cond.wait(0.02)).to be false }
  end

  it "keeps other processes out" do
    object.mon_enter
    expect(in_child { [object.mon_locked?, object.mon_owned?, object.mon_try_enter] }).to eq [true, false, false]
    object.mon_exit
    expect(in_child { object.mon_try_enter }).to be true
  end

  it "cannot be left by another process, which is told the holder's pid" do
    child = fork_child { |parent| object.mon_enter && nil || parent.say && parent.listen }
    child.hear
    expect { object.mon_exit }.to raise_error(ProcessShared::ProcessError, /\b#{child.pid}\b/)
  end

  it "wakes other processes" do
    condition = object.new_cond
    children = Array.new(3) do
      child = fork_child { |parent| object.synchronize { [parent.say, condition.wait].last } }
      child.hear
      child
    end
    wait_until_blocked(children)
    object.synchronize { condition.broadcast }
    expect(children.map(&:value)).to eq [true, true, true]
  end

  it "keeps a bounded buffer between processes" do
    buffer = Class.new do
      include ProcessShared::MonitorMixin

      def initialize
        super
        @memory = ProcessShared::SharedMemory.new(:int, 2) # full?, item
        @empty = new_cond
        @full = new_cond
      end

      def put(item)
        synchronize do
          @empty.wait_while { @memory.get_int(0) == 1 }
          @memory.put_array_of_int(0, [1, item])
          @full.signal
        end
      end

      def take
        synchronize do
          @full.wait_until { @memory.get_int(0) == 1 }
          @memory.put_int(0, 0)
          @empty.signal
          @memory.get_int(4)
        end
      end
    end.new
    producers = Array.new(2) { |i| fork_child { 50.times { |n| buffer.put(i * 50 + n) } } }
    consumers = Array.new(2) { fork_child { Array.new(50) { buffer.take } } }
    producers.each(&:value)
    expect(consumers.flat_map(&:value)).to match_array [*0...100]
  end
end
