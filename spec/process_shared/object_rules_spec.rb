# frozen_string_literal: true

# What is the same for every class but those of memory: copies, half-made objects, subclasses, closing, freezing.
SharedClass.objects.each do |entry|
  klass, arguments, calls = entry.klass, entry.arguments, entry.calls

  RSpec.describe klass do
    # Ruby 3.4 warns of a block that a method written in Ruby does not take.
    def call(object, name, arguments)
      verbose, $VERBOSE = $VERBOSE, nil
      object.public_send(name, *arguments) { :block }
    ensure
      $VERBOSE = verbose
    end

    let!(:object) { klass.new(*arguments) }

    it "cannot be copied by dup or clone" do
      expect { object.dup }.to raise_error(TypeError, /can't copy #{klass}: .* make it before the fork/)
      expect { object.clone }.to raise_error(TypeError, /can't copy/)
      expect { object.clone(freeze: true) }.to raise_error(TypeError, /can't copy/)
    end

    it "cannot be marshalled" do
      expect { Marshal.dump(object) }.to raise_error(TypeError, /can't dump #{klass}: .* make it before the fork/)
    end

    it "cannot be initialized again" do
      expect { object.send(:initialize, *arguments) }.to raise_error(TypeError, /already initialized/)
    end

    it "takes no arguments it does not know" do
      expect { klass.new(*arguments, 1, 2) }.to raise_error(ArgumentError)
      expect { klass.new(*arguments, unknown: 1) }.to raise_error(StandardError)
    end

    it "refuses a block given to new, which open takes", unless: klass == ProcessShared::CyclicBarrier do
      expect { klass.new(*arguments) { nil } }.to raise_error(ArgumentError, "#{klass}.new takes no block: #{klass}.open does")
      subclass = stub_const("Sub", Class.new(klass))
      expect { subclass.new(*arguments) { nil } }.to raise_error(ArgumentError, "Sub.new takes no block: Sub.open does")
      expect(klass.open(*arguments) { :value }).to be :value
    end

    it "leaves the block given to new to the initialize of a subclass, whether or not that hands it on" do
      given = arguments
      [->(object, block) { object.instance_exec(&block) }, ->(_, _) {}].each do |use|
        subclass = Class.new(klass) do
          define_method(:initialize) do |&block|
            super(*given, &block)
            use.call(self, block)
          end
        end
        expect(entry.ended?(subclass.new { self })).to be false
      end
    end

    describe "allocated but not initialized" do
      let(:half) { klass.allocate }

      calls.each do |name, with|
        it "refuses #{name}" do
          expect { call(half, name, with) }.to raise_error(TypeError, /not initialized/)
        end
      end

      it "can be inspected all the same" do
        expect(half.inspect).to start_with("#<#{klass}")
        expect { half.dup }.to raise_error(TypeError)
      end

      it "can still be initialized" do
        half.send(:initialize, *arguments)
        expect(entry.ended?(half)).to be false
      end
    end

    it "refuses all calls in a subclass that forgot super" do
      forgetful = Class.new(klass) { def initialize; end }
      calls.each { |name, with| expect { call(forgetful.new, name, with) }.to raise_error(TypeError, /not initialized/) }
    end

    it "can be subclassed, with an initialize and state of its own" do
      given = arguments
      subclass = Class.new(klass) do
        attr_reader :label

        define_method(:initialize) do |label|
          super(*given)
          @label = label
        end
      end
      object = subclass.new("mine")
      expect([object.label, entry.ended?(object), object.class]).to eq ["mine", false, subclass]
    end

    describe "##{entry.ending.first}" do
      it "says so, and can be called again" do
        expect(entry.ended?(object)).to be false
        entry.end_of(object)
        expect(entry.ended?(object)).to be true
        expect { entry.end_of(object) }.not_to raise_error
      end

      calls.each do |name, with|
        it "makes #{name} raise ClosedError" do
          entry.end_of(object)
          expect { call(object, name, with) }.to raise_error(ProcessShared::ClosedError, /\Aclosed #{klass}: /)
        end
      end

      it "leaves inspect to work" do
        entry.end_of(object)
        expect(object.inspect).to match(/\A#<#{klass}\b.*closed/)
      end

      it "affects this process only" do
        child = fork_child do |parent|
          parent.listen
          entry.in_use(object)
          entry.when_idle(object)
        end
        idle = entry.when_idle(object)
        entry.end_of(object)
        child.tell(:go)
        expect(child.value).to eq idle
      end
    end

    it "works when frozen", unless: entry.kind == :queue && "as core's queues, it cannot be frozen" do
      frozen = klass.new(*arguments).freeze
      expect { entry.in_use(frozen) }.not_to change { entry.when_idle(frozen) }
      entry.end_of(frozen)
      expect(entry.ended?(frozen)).to be true
    end

    it "can be made shareable between Ractors" do
      expect(Ractor.shareable?(Ractor.make_shareable(object))).to be true
    end

    it "can be made shareable while it is held here" do
      next unless object.respond_to?(:lock)

      object.lock
      expect(Ractor.shareable?(Ractor.make_shareable(object))).to be true
      expect(object.unlock).not_to be_locked
    end

    it "can be made shareable while another process holds it" do
      next unless object.respond_to?(:lock)

      object.lock.unlock # so that it knows a fiber
      child = fork_child { |parent| object.lock && parent.say && parent.listen }
      child.hear
      expect(Ractor.shareable?(Ractor.make_shareable(object))).to be true
    end

    it "costs no descriptor" do
      before = Dir.children("/dev/fd").size
      kept = Array.new(entry.cost == :memory ? 100 : 1000) { klass.new(*arguments) }
      expect(Dir.children("/dev/fd").size).to be <= before
      expect(kept).to all be_a(klass)
    end

    it "can be inspected by anybody at any time, without waiting" do
      expect(object.inspect).to start_with("#<#{klass}")
      expect(object.to_s).to start_with("#<#{klass}")
      expect(in_child { object.inspect }).to start_with("#<#{klass}")
    end
  end
end

RSpec.describe "An interrupt that comes while an exception of ours is made" do
  calls = {
    "unlock" => ["ThreadError", "mutex.unlock"], "a closed memory" => ["IOError", "closed.size"],
    "an index" => ["IndexError", "array[9]"], "an offset" => ["IndexError", "array.get_bytes(99, 1)"],
    "a type" => ["TypeError", "ProcessShared::SharedMemory.new(:nope)"],
    "a size" => ["ArgumentError", "ProcessShared::SharedMemory.new(0)"],
    "the number of arguments" => ["ArgumentError", "ProcessShared::Mutex.new(1, 2)"]
  }
  calls.each do |name, (error, call)|
    it "goes on: #{name}" do
      expect(ruby(<<~RUBY)).to eq "[:thrown, :ended]\n"
        array = ProcessShared::SharedArray.new(:int32, 4)
        closed = ProcessShared::SharedMemory.new(8).tap(&:close)
        mutex = ProcessShared::Mutex.new
        call = -> { #{call} }
        interrupt = -> { throw :thrown, :thrown }
        #{error}.define_method(:initialize) { |*| interrupt.call }
        thrown = catch(:thrown) { call.call }
        interrupt = -> { Thread.current.kill }
        ended = :going_on
        Thread.new { call.call rescue nil; ended = :went_on }.join
        p [thrown, ended == :went_on ? :went_on : :ended]
      RUBY
    end
  end
end
