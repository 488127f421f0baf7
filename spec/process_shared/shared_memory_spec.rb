# frozen_string_literal: true

require "spec_helper"
require "objspace"

RSpec.describe ProcessShared::SharedMemory do
  describe ".new" do
    it "takes a number of bytes, or a type and a count" do
      {
        [] => [1, :uchar, 1, 1], [16] => [16, :uchar, 1, 16], [1.9] => [1, :uchar, 1, 1], [:int32] => [4, :int32, 4, 1],
        [:double, 3] => [24, :double, 8, 3], [:bool, 2] => [2, :bool, 1, 2], [:size_t] => [8, :size_t, 8, 1],
        [16, 2] => [32, 16, 16, 2],
      }.each do |arguments, expected|
        memory = described_class.new(*arguments)
        expect([memory.size, memory.type, memory.type_size, memory.count]).to eq(expected)
        expect(memory.get_bytes(0, memory.size)).to eq("\0" * memory.size)
      end
    end

    it "refuses types nobody knows" do
      expect { described_class.new(:nonsense) }.to raise_error(TypeError, /\Aunable to resolve type 'nonsense'; known are :int8 .* :bool .* :size_t/)
      ["8", nil, true, false, [], {}, Object.new, Object].each do |bad|
        expect { described_class.new(bad) }.to raise_error(TypeError), bad.inspect
      end
    end

    it "refuses sizes that cannot be" do
      [0, -1, -(2**62), -(2**70), 2**63, 2**70].each do |bad|
        expect { described_class.new(bad) }.to raise_error(ArgumentError), bad.inspect
        expect { described_class.new(:int32, bad) }.to raise_error(ArgumentError), bad.inspect
      end
      expect { described_class.new(:int32, 2**62) }.to raise_error(ArgumentError, /more than an address can hold/)
      expect { described_class.new(2**60) }.to raise_error(Errno::ENOMEM)
      [Float::NAN, Float::INFINITY].each { |bad| expect { described_class.new(bad) }.to raise_error(RangeError) }
      [nil, "1", :a].each { |bad| expect { described_class.new(:int32, bad) }.to raise_error(TypeError) }
    end

    it "counts its arguments" do
      expect { described_class.new(:int, 1, 1) }.to raise_error(ArgumentError)
      expect { described_class.new(1, nonsense: 1) }.to raise_error(ArgumentError)
    end

    it "reserves at once what is asked for, or says that it cannot" do
      expect(described_class.new(1 << 20, reserve: true).get_uint8((1 << 20) - 1)).to eq(0)
      expect { described_class.new(1 << 46, reserve: true) }
        .to raise_error(SystemCallError) { |error| expect([Errno::ENOMEM, Errno::ENOSPC]).to include(error.class) }
    end

    it "costs nothing until it is touched" do
      memory = described_class.new(1 << 36)
      memory.put_int64((1 << 36) - 8, 7)
      expect(memory.get_int64((1 << 36) - 8)).to eq(7)
      expect(ObjectSpace.memsize_of(memory)).to be >= 1 << 36
      expect(ObjectSpace.memsize_of(memory + 0)).to be < 1000
      memory.close
      expect(ObjectSpace.memsize_of(memory)).to be < 1000
    end

    it "reads addresses up to the first null, and touches nothing behind it", if: File.exist?("/proc/self/fd") do
      memory = described_class.new(1 << 30)
      expect([memory.get_array_of_string(0), memory.read_array_of_string]).to eq([[], []])
      expect(File.stat("/proc/self/fd/#{memory.fd}").blocks * 512).to be <= 1 << 16
    end

    it "says by NoMemoryError that what is read from it finds no room", if: File.exist?("/proc/self/status") do
      output = ruby(<<~RUBY)
        memory = ProcessShared::SharedMemory.new(1 << 30)
        used = File.read("/proc/self/status")[/^VmSize:\\s+(\\d+)/, 1].to_i << 10
        Process.setrlimit(:AS, used + (64 << 20), Process.getrlimit(:AS).last)
        counts = { get_bytes: 1 << 30, get_array_of_int64: 1 << 27, get_array_of_pointer: 1 << 27, get_array_of_string: 1 << 27 }
        counts.each do |name, count|
          memory.public_send(name, 0, count)
          print name
        rescue NoMemoryError
          print "."
        end
      RUBY
      expect(output).to eq("....")
    end

    it "does not depend on /dev/shm: it is no file", if: File.exist?("/proc/self/fd") do
      memory = described_class.new(1 << 20)
      expect(File.readlink("/proc/self/fd/#{memory.fd}")).to start_with("/memfd:")
    end

    it "yields itself to a block, closes itself, and is what new returns" do
      yielded = nil
      memory = described_class.new(4) do |given|
        yielded = given
        given.put_int32(0, 1)
      end
      expect(yielded).to equal(memory)
      expect(memory).to be_closed
      expect { described_class.new(4) { |given| (yielded = given) && raise(KeyError) } }.to raise_error(KeyError)
      expect(yielded).to be_closed
      result = described_class.new(4) do |given|
        yielded = given
        break :broken
      end
      expect(result).to eq(:broken)
      expect(yielded).to be_closed
    end
  end

  it "opens with a block: closes, and returns the block's value" do
    yielded = nil
    expect(described_class.open(:int32, 2) { |memory| (yielded = memory).size }).to eq(8)
    expect(yielded).to be_closed
    expect(described_class.open(4)).not_to be_closed
  end

  it ".from_string holds a String and a NUL" do
    memory = described_class.from_string("ぱん")
    expect([memory.class, memory.size, memory.get_string(0)]).to eq [described_class, 7, "ぱん".b]
    expect { described_class.from_string(nil) }.to raise_error(TypeError, "no String given: nil")
  end

  describe "between processes" do
    it "carries bytes both ways" do
      memory = described_class.new(:int32, 2)
      memory.put_int32(0, 5)
      in_child { memory.put_int32(4, memory.get_int32(0) + 1) }
      expect(memory.get_array_of_int32(0, 2)).to eq([5, 6])
    end

    it "carries objects" do
      memory = described_class.new(1024)
      in_child { memory.write_object(["a", :b, 1.5, { nil => [] }]) }
      expect(memory.read_object).to eq(["a", :b, 1.5, { nil => [] }])
    end

    it "is closed by each for itself" do
      memory = described_class.new(4)
      in_child { memory.close }
      expect(memory.put_int32(0, 1).get_int32(0)).to eq(1)
    end

    it "survives a child that is killed while it writes" do
      memory = described_class.new(1 << 20)
      reader, writer = IO.pipe
      pid = fork do
        writer.write("!")
        loop { memory.put_bytes(0, "x" * (1 << 20)) }
      end
      reader.read(1)
      Process.kill(:KILL, pid)
      Process.wait(pid)
      expect(memory.put_int32(0, 9).get_int32(0)).to eq(9)
    end

    it "gives an IO of its own, which outlives it" do
      memory = described_class.new(:int32, 4)
      io = memory.to_io
      expect([io.class, io.close_on_exec?, io.sync, io.fileno == memory.fd]).to eq [IO, true, true, false]
      memory.put_int32(4, 7)
      memory.close
      expect { memory.to_io }.to raise_error(ProcessShared::ClosedError)
      expect([io.stat.size, io.pread(4, 4).unpack1("l")]).to eq [16, 7] if RUBY_PLATFORM.include?("linux")
      io.close
    end

    it "is written by a program that was started with its descriptor", if: RUBY_PLATFORM.include?("linux") do
      memory = described_class.new(:int32, 4)
      script = 'IO.for_fd(3, "r+b").pwrite([5].pack("l"), 8)'
      Process.wait(spawn(RbConfig.ruby, "--disable-gems", "-e", script, 3 => memory))
      expect(memory.get_int32(8)).to eq 5
    end

    it "does not leak its descriptor through exec" do
      memory = described_class.new(4)
      expect(IO.for_fd(memory.fd, autoclose: false).close_on_exec?).to be(true)
      expect { File.for_fd(memory.fd, autoclose: false).truncate(0) }.to raise_error(SystemCallError)
    end
  end

  describe "#close" do
    let(:memory) { described_class.new(:int32, 4) }

    it "can be repeated, and everything after it raises ClosedError" do
      expect(memory).not_to be_closed
      expect(memory.close).to be_nil
      expect(memory.close).to be_nil
      expect(memory).to be_closed
      names = memory.public_methods - Object.public_instance_methods - [:close, :closed?, :free, :to_s, :==, :marshal_dump]
      calls = names.map do |name|
        arity = memory.method(name).arity
        count = arity.negative? ? -arity - 1 : arity
        arguments =
          case name
          when /array_of_type/ then [:int32, :get_int32, name.start_with?("read") ? 1 : [1]]
          when /\Aput_array/ then [0, []]
          when /\Awrite_array/ then [[]]
          when /\Aput_(string|bytes)/ then [0, "a"]
          when :write_string_length then ["a", 1]
          when /\Awrite_(string|bytes)/ then ["a"]
          when :get, :read then [:int32, 0].first(count)
          when :put then [:int32, 0, 1]
          when :write then [:int32, 1]
          when :__copy_from__ then [described_class.new(4), 1]
          when :put_pointer then [0, nil]
          when :write_pointer then [nil]
          when :autorelease= then [true]
          else [0] * [count, name.match?(/get_string|array_of_string/) ? 1 : 0].max
          end
        arguments = [] if name == :read_array_of_string
        [name, arguments]
      end
      expect(calls.size).to be > 200
      calls.each do |name, arguments|
        expect { memory.public_send(name, *arguments) }
          .to raise_error(ProcessShared::ClosedError), "#{name}(#{arguments.inspect})"
      end
      expect(memory.inspect).to eq("#<ProcessShared::SharedMemory (closed)>")
      expect(memory).to eq(memory)
    end

    it "gives the descriptor back, and the memory with the last view" do
      fd = memory.fd
      view = memory + 4
      memory.close
      expect { IO.for_fd(fd, autoclose: false) }.to raise_error(Errno::EBADF)
      expect(view.put_int32(0, 3).get_int32(0)).to eq(3)
      view.close
      expect { view.get_int32(0) }.to raise_error(ProcessShared::ClosedError, /\Aclosed ProcessShared::Pointer: /)
    end

    it "closes no descriptor that belongs to another object meanwhile" do
      [-> { File.open(File::NULL) }, -> { described_class.new(:int32, 4) }].each do |open_other|
        memory = described_class.new(:int32, 4)
        number = memory.fd
        IO.for_fd(number).close
        others = Array.new(3) { open_other.call }
        expect(others.map { |other| other.to_io.stat.ino }).to include(IO.for_fd(number, autoclose: false).stat.ino)
        expect { memory.to_io }.to raise_error(Errno::EBADF)
        memory.close
        expect { IO.for_fd(number, autoclose: false).stat }.not_to raise_error
        others.each(&:close)
      end
    end

    it "closes no descriptor of another object when it is collected" do
      output = ruby(<<~RUBY)
        numbers = Array.new(50) { ProcessShared::SharedMemory.new(1).fd }
        numbers.each { |number| IO.for_fd(number).close rescue nil }
        files = Array.new(50) { File.open(IO::NULL) }
        4.times { GC.start }
        files.each(&:stat)
        print :well
      RUBY
      expect(output).to eq "well"
    end

    it "is noticed by an access whose own conversions close the memory" do
      stub_const("ClosingDump", Struct.new(:memory) { def marshal_dump = memory.close })
      {
        put_int32: ->(memory) { [0, converting(:to_int) { memory.close || 1 }] },
        get_int32: ->(memory) { [converting(:to_int) { memory.close || 0 }] },
        put_double: ->(memory) { [converting(:to_int) { memory.close || 0 }, 1] },
        put_array_of_int32: ->(memory) { [0, [1, converting(:to_int) { memory.close || 1 }]] },
        put_pointer: ->(memory) { [0, converting(:to_ptr) { memory.close }] },
        put_array_of_pointer: ->(memory) { [0, [converting(:to_ptr) { memory.close }]] },
        put_bytes: ->(memory) { [0, "a", converting(:to_int) { memory.close || 0 }] },
        get_bytes: ->(memory) { [0, converting(:to_int) { memory.close || 1 }] },
        slice: ->(memory) { [0, converting(:to_int) { memory.close || 1 }] },
        get: ->(memory) { [:double, converting(:to_int) { memory.close || 0 }] },
        write_object: ->(memory) { [ClosingDump.new(memory)] },
      }.each do |name, arguments|
        memory = described_class.new(:int32, 4)
        expect { memory.public_send(name, *arguments.call(memory)) }
          .to raise_error(ProcessShared::ClosedError), name.to_s
      end
    end

    it "is noticed by an object that closes the memory while it is read, once that is done" do
      stub_const("ClosingLoad", Class.new do
        class << self
          attr_accessor :memory
        end
        def marshal_dump = ["x" * 1000]
        def marshal_load(_data) = self.class.memory.close
      end)
      memory = ClosingLoad.memory = described_class.new(1 << 20)
      memory.write_object([ClosingLoad.new, "after" * 1000])
      expect(memory.read_object.last).to eq("after" * 1000)
      expect { memory.read_object }.to raise_error(ProcessShared::ClosedError)
    end

    it "goes well with threads that are inside accessors" do
      3.times do
        shared = described_class.new(1 << 20)
        shared.write_object((0...20_000).map(&:to_s))
        calls = [-> { shared.read_object }, -> { shared.get_bytes(0, 1 << 20) }, -> { shared.write_object("x" * 500_000) },
                 -> { shared.get_array_of_int64(0, 1 << 17) }, -> { shared.get_int64(0) }]
        started = Queue.new
        threads = calls.map do |call|
          Thread.new do
            started << true
            loop { call.call }
          rescue ProcessShared::ClosedError
            :closed
          end
        end
        calls.size.times { started.pop }
        Thread.pass
        shared.close
        expect(threads.map(&:value)).to eq([:closed] * calls.size)
      end
    end
  end

  describe "the rules for all objects" do
    it "refuses what was never initialized, and a second initialize" do
      [described_class.allocate, Class.new(described_class) { def initialize; end }.new].each do |unborn|
        expect { unborn.get_int32(0) }.to raise_error(TypeError, /SharedMemory not initialized/)
        expect { unborn.get_bytes(0, 0) }.to raise_error(TypeError)
        expect { unborn.size }.to raise_error(TypeError)
        expect { unborn + 0 }.to raise_error(TypeError)
        expect { unborn.write_object(1) }.to raise_error(TypeError)
        expect { unborn.read_object }.to raise_error(TypeError)
        expect { unborn.closed? }.to raise_error(TypeError)
        expect(unborn.inspect).to include("not initialized")
        unborn.close
      end
      memory = described_class.new(4)
      expect { memory.send(:initialize, 8) }.to raise_error(TypeError, "ProcessShared::SharedMemory already initialized")
      memory.close
      expect { memory.send(:initialize, 8) }.to raise_error(TypeError, "ProcessShared::SharedMemory already initialized")
    end

    it "cannot be copied or dumped" do
      memory = described_class.new(4)
      expect { memory.dup }.to raise_error(TypeError, /\Acan't copy SharedMemory: .* slice/)
      expect { memory.clone }.to raise_error(TypeError)
      expect { Marshal.dump(memory) }.to raise_error(TypeError)
      expect { memory.write_object(memory) }.to raise_error(TypeError)
    end

    it "can be subclassed" do
      subclass = Class.new(described_class) do
        def initialize(extra)
          super(:int16, extra)
          @extra = extra
        end
        attr_reader :extra
      end
      memory = subclass.new(3)
      expect([memory.size, memory.extra, (memory + 1).class]).to eq([6, 3, ProcessShared::Pointer])
      expect(subclass.open(2, &:size)).to eq(4)
    end

    it "collects garbage when descriptors run out" do
      script = <<~RUBY
        Process.setrlimit(:NOFILE, 64)
        1000.times { ProcessShared::SharedMemory.new(16) }
      RUBY
      expect(system(RbConfig.ruby, "-Ilib", "-rprocess_shared", "-e", script)).to be(true)
    end

    it "gives garbage back" do
      script = <<~RUBY
        20.times { 100.times { ProcessShared::SharedMemory.new(1 << 20).put_int8(0, 1) }; GC.start }
        maps = File.foreach("/proc/self/maps").count { |line| line.include?("process_shared") && line.include?("memfd") }
        abort maps.to_s if maps > 150
      RUBY
      skip "needs /proc" unless File.exist?("/proc/self/maps")
      expect(system(RbConfig.ruby, "-Ilib", "-rprocess_shared", "-e", script)).to be(true)
    end

    it "is read by several Ractors at once when it is frozen" do
      script = <<~RUBY
        memory = ProcessShared::SharedMemory.new(:int64, 1000)
        memory.put_array_of_int64(0, (0...1000).to_a)
        Ractor.make_shareable(memory)
        abort "shareable" unless Ractor.shareable?(memory) && memory.frozen?
        ractors = 4.times.map do
          Ractor.new(memory) do |shared|
            sum = 0
            200.times { sum = shared.get_array_of_int64(0, 1000).sum + shared[0].get_int64(8) }
            begin
              shared.put_int64(0, 1)
            rescue FrozenError
              sum
            end
          end
        end
        sums = ractors.map { |ractor| ractor.respond_to?(:value) ? ractor.value : ractor.take }
        abort sums.inspect unless sums == [499_501] * 4

        ractors = 4.times.map do
          Ractor.new(memory) do |shared|
            loop { shared.get_array_of_int64(0, 1000) }
          rescue ProcessShared::ClosedError
            :closed
          end
        end
        memory.close
        ends = ractors.map { |ractor| ractor.respond_to?(:value) ? ractor.value : ractor.take }
        abort ends.inspect unless ends == [:closed] * 4
      RUBY
      expect(system(RbConfig.ruby, "-W:no-experimental", "-Ilib", "-rprocess_shared", "-e", script)).to be(true)
    end
  end

  describe "against a model" do
    def steps(random, size)
      offset = random.rand(-2..size + 2)
      length = random.rand(-1..size / 4)
      case random.rand(8)
      when 0 then [:put_bytes, offset, random.bytes([length, 0].max)]
      when 1 then [:get_bytes, offset, length]
      when 2 then [:put_int32, offset, random.rand(-(2**31)..(2**31) - 1)]
      when 3 then [:get_uint64, offset]
      when 4 then [:put_array_of_uint16, offset, Array.new([length, 0].max) { random.rand(65_536) }]
      when 5 then [:get_array_of_int8, offset, length]
      when 6 then [:put_double, offset, random.rand * 1e9]
      else [:put_string, offset, random.bytes([length, 0].max).tr("\0", "x")]
      end
    end

    def model(bytes, name, offset, argument)
      write = ->(data) { [offset, data.bytesize, -> { bytes[offset, data.bytesize] = data } ] }
      read = ->(length, &result) { [offset, length, -> { result.call(bytes[offset, length]) }] }
      case name
      when :put_bytes then write.call(argument)
      when :put_string then write.call("#{argument}\0".b)
      when :put_int32 then write.call([argument].pack("l"))
      when :put_double then write.call([argument].pack("d"))
      when :put_array_of_uint16 then write.call(argument.pack("S*"))
      when :get_bytes then read.call(argument, &:itself)
      when :get_uint64 then read.call(8) { |data| data.unpack1("Q") }
      when :get_array_of_int8 then read.call(argument) { |data| data.unpack("c*") }
      end
    end

    it "does what a String of bytes would do, and nothing out of bounds" do
      seed = ENV.fetch("MODEL_SEED", Random.new_seed).to_i
      random = Random.new(seed)
      size = 64
      whole = described_class.new(size * 3)
      whole.put_bytes(0, "\xAA".b * size * 3)
      memory = whole.slice(size, size).clear
      bytes = ("\0" * size).b
      3000.times do
        name, offset, argument = steps(random, size)
        where, length, act = model(bytes, name, offset, argument)
        arguments = argument.nil? ? [offset] : [offset, argument]
        note = "seed #{seed}: #{name}(#{arguments.inspect})"
        if where.negative? || length.negative? || where + length > size
          expect { memory.public_send(name, *arguments) }.to raise_error(StandardError), note
        else
          expected = act.call
          result = memory.public_send(name, *arguments)
          expect(result).to eq(expected), note if name.start_with?("get")
        end
        expect(memory.get_bytes(0, size)).to eq(bytes), note
      end
      outside = whole.get_bytes(0, size) + whole.get_bytes(size * 2, size)
      expect(outside).to eq("\xAA".b * size * 2)
    end
  end
end
