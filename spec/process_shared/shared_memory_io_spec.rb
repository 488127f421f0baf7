# frozen_string_literal: true

require "spec_helper"
require "stringio"
require "tempfile"

RSpec.describe ProcessShared::SharedMemoryIO do
  # As StringIO over a binary String of the same bytes; the memory is full to its end.
  TEXT = "first line\nsecond\n\n\n\nthird\r\nfourth é\0 end".b.freeze

  let!(:memory) { ProcessShared::SharedMemory.new(TEXT.bytesize).put_bytes(0, TEXT) }
  let!(:io) { described_class.new(memory) }
  let!(:other) { StringIO.new([TEXT].pack("a*")) }

  # Does the same to both, and expects the same: results, exceptions, positions, bytes.
  def expect_same(note = nil, &block)
    results = [io, other].map do |each|
      result = begin
        block.call(each)
      rescue StandardError => error
        error.class
      end
      result = :self if result.equal?(each)
      result = result.b if result.is_a?(String)
      [result, each.pos, each.lineno, each.string.b]
    end
    expect(results[0]).to eq(results[1]), "#{note}\n ours: #{results[0].inspect}\nStringIO: #{results[1].inspect}"
  end

  describe "reading" do
    it "reads as StringIO does" do
      expect_same { |each| each.read(5) }
      expect_same { |each| each.read(0) }
      expect_same { |each| each.read(4, +"old") }
      expect_same { |each| [each.getc, each.getbyte, each.readchar, each.readbyte] }
      expect_same { |each| each.read(-1) }
      expect_same { |each| each.read("x") }
      expect_same(&:read)
      expect_same(&:read)
      expect_same { |each| each.read(1) }
      expect_same { |each| each.read(0) }
      expect_same { |each| [each.getc, each.getbyte, each.gets, each.eof?] }
      %i[readchar readbyte readline sysread].each { |name| expect_same(name) { |each| each.public_send(name) } }
      expect_same { |each| each.readpartial(1) }
      expect_same { |each| each.read_nonblock(1) }
      expect_same { |each| each.read_nonblock(1, exception: false) }
    end

    it "fills a buffer, and empties it at the end" do
      buffer = +"old"
      expect(io.read(5, buffer)).to equal(buffer)
      expect(buffer).to eq("first")
      io.seek(0, IO::SEEK_END)
      expect(io.read(5, buffer)).to be_nil
      expect(buffer).to eq("")
      expect { io.read(1, "frozen") }.to raise_error(FrozenError)
      expect { io.read(1, 3) }.to raise_error(TypeError)
    end

    it "gives binary copies" do
      [io.read(3), io.getc, io.gets, io.readpartial(2), io.pread(2, 0), io.read, io.read(0), io.string].each do |text|
        expect(text.encoding).to eq(Encoding::BINARY)
        expect(text).not_to be_frozen
      end
      expect(io.external_encoding).to eq(Encoding::BINARY)
      expect(io.set_encoding("UTF-8").external_encoding).to eq(Encoding::BINARY)
    end

    it "reads at an offset, and stays where it is" do
      io.pos = 3
      expect(io.pread(5, 6)).to eq(TEXT[6, 5])
      expect(io.pread(99, 6)).to eq(TEXT[6..])
      expect(io.pread(0, 999)).to eq("")
      expect(io.pos).to eq(3)
      expect { io.pread(1, TEXT.bytesize) }.to raise_error(EOFError)
      expect { io.pread(-1, 0) }.to raise_error(ArgumentError)
      expect { io.pread(1, -1) }.to raise_error(Errno::EINVAL)
      expect { io.pread(1, 0, 7) }.to raise_error(TypeError, "no implicit conversion of Integer into String")
    end

    separators = [[], [nil], ["\n"], [""], ["\r\n"], ["i"], ["nd"], ["é".b], ["\n\n"], [5], [0], [-1], [nil, 7], ["\n", 3],
                  ["", 4], ["nd", 0], ["e", 100], ["not there"], ["line\nsecond\n\n\n\nthird\r\nfour"]]
    separators.each do |arguments|
      [{}, { chomp: true }].each do |options|
        next if arguments.first.nil? && !arguments.empty? && options[:chomp] && RUBY_VERSION < "3.2" # Ruby changed its mind

        # StringIO has become better at lines from version to version, so a file is the measure.
        it "reads lines with #{[*arguments, options].inspect} as File does" do
          Tempfile.create do |file|
            file.binmode.write(TEXT)
            [file, io].each(&:rewind)
            state = ->(each) { [each.gets(*arguments, **options), each.pos] }
            50.times { expect(state.call(io)).to eq(state.call(file)) }
            next if arguments.include?(0)

            [file, io].each(&:rewind)
            expect(io.readlines(*arguments, **options)).to eq(file.readlines(*arguments, **options))
            [file, io].each(&:rewind)
            lines = []
            io.each_line(*arguments, **options) { |line| lines << line }
            expect(lines).to eq(file.each_line(*arguments, **options).to_a)
          end
        end
      end
    end

    it "refuses line arguments that are none" do
      [["\n", "x"], [Object.new], [:a], ["a", 1, 2]].each do |arguments|
        expect { io.gets(*arguments) }.to raise_error(StandardError)
      end
      expect { io.each_line(0) {} }.to raise_error(ArgumentError)
      expect(io.pos).to eq(0)
    end

    it "finds the ends of long lines" do
      line = "#{"x" * 10_000}\r\n"
      long = described_class.new(ProcessShared::SharedMemory.new(50_000).put_bytes(0, line * 4))
      4.times { expect(long.gets("\r\n")).to eq(line) }
      expect(long.gets("\r\n").bytesize).to eq(50_000 - (4 * line.bytesize))
      expect(long.gets).to be_nil
    end

    it "yields bytes, characters and lines, and has enumerators for them" do
      expect(io.each_byte.to_a).to eq(TEXT.bytes)
      io.rewind
      expect(io.each_char.to_a.join).to eq(TEXT)
      io.rewind
      expect(io.each_line.to_a).to eq(TEXT.lines)
      io.rewind
      expect(io.each_codepoint.first).to eq(TEXT.bytes.first)
      io.rewind
      expect(io.map(&:size)).to eq(TEXT.lines.map(&:size))
      io.rewind
      expect(io.each_line { |_| nil }).to equal(io)
    end

    it "steps back as StringIO does" do
      expect_same { |each| each.read(5) }
      expect_same { |each| each.ungetc("t") }
      expect_same { |each| each.ungetbyte(0x41) }
      expect_same { |each| each.ungetc(nil) }
      expect_same { |each| each.ungetbyte("xy") }
      expect_same { |each| each.ungetc(66) }
      expect_same { |each| each.read(7) }
      io.rewind
      expect { io.ungetc("x") }.to raise_error(IOError)
      expect { io.ungetbyte(:a) }.to raise_error(TypeError)
      expect { io.ungetc(256) }.to raise_error(RangeError)
      expect(io.pos).to eq(0)
    end

    it "does not write to step back over what is there" do
      memory.freeze
      io.read(3)
      expect { io.ungetbyte("x") }.to raise_error(FrozenError)
      expect(io.pos).to eq(3)
      expect(io.ungetc("r")).to be_nil
      expect(io.pos).to eq(2)
    end
  end

  describe "its position" do
    it "moves as StringIO's" do
      expect_same { |each| each.seek(5) }
      expect_same { |each| each.seek(2, IO::SEEK_CUR) }
      expect_same { |each| each.seek(-3, IO::SEEK_END) }
      expect_same { |each| each.seek(-1) }
      expect_same { |each| each.seek(-99, IO::SEEK_CUR) }
      expect_same { |each| each.seek(0, 9) }
      expect_same { |each| each.pos = 4 }
      expect_same { |each| each.pos = -1 }
      expect_same { |each| [each.tell, each.size, each.length, each.eof?, each.eof] }
      expect_same { |each| each.rewind }
      expect_same { |each| each.pos = 999 }
      expect_same { |each| [each.read, each.read(1), each.eof?, each.getc, each.gets] }
      io.seek(3, :SET)
      expect(io.sysseek(2, :CUR)).to eq(5)
      expect(io.sysseek(0, :END)).to eq(TEXT.bytesize)
      [nil, "1", :a].each { |bad| expect { io.pos = bad }.to raise_error(TypeError) }
    end

    it "counts lines" do
      expect_same { |each| 2.times { each.gets } }
      expect_same { |each| each.lineno = 10 }
      expect_same(&:gets)
      expect($.).to eq(11)
      expect_same(&:rewind)
    end

    it "is each one's own" do
      another = described_class.new(memory)
      io.read(5)
      expect(another.pos).to eq(0)
      in_child { io.read(3) }
      expect(io.pos).to eq(5)
    end
  end

  describe "writing" do
    it "writes as StringIO does" do
      expect_same { |each| each.write("abc") }
      expect_same { |each| each.write("d", :e, 5, nil) }
      expect_same { |each| each.write }
      expect_same { |each| each.write("") }
      expect_same { |each| each << "f" << 6 }
      expect_same { |each| each.print("g", 7) }
      expect_same { |each| each.puts("h", ["i", ["j\n"]], nil) }
      expect_same { |each| each.puts }
      expect_same { |each| each.printf("%03d", 8) }
      expect_same { |each| [each.putc("kl"), each.putc(77), each.putc(300)] }
      expect_same { |each| each.syswrite("m") }
      expect_same { |each| each.write_nonblock("n") }
      expect_same { |each| each.printf("%d", "x") }
    end

    it "takes objects that say what they are" do
      expect(io.write(converting(:to_s) { "text" })).to eq(4)
      expect(io.write("é")).to eq(2)
      expect(io.write("é", "\xFF".b, "a".encode("UTF-16LE"))).to eq(5)
      expect(memory.get_bytes(0, 11)).to eq("text\xC3\xA9\xC3\xA9\xFFa\0".b)
    end

    it "writes at an offset, and stays where it is" do
      expect(io.pwrite("abc", 4)).to eq(3)
      expect(memory.get_bytes(4, 3)).to eq("abc")
      expect(io.pos).to eq(0)
      expect { io.pwrite("a", -1) }.to raise_error(Errno::EINVAL)
      expect { io.pwrite("ab", TEXT.bytesize - 1) }.to raise_error(IndexError)
    end

    it "writes up to the last byte, and nothing past it" do
      io.pos = TEXT.bytesize - 3
      [-> { io.write("abcd") }, -> { io.write("ab", "cd") }, -> { io << "abcd" }, -> { io.print("ab", "cd") },
       -> { io.puts("abc") }, -> { io.printf("%04d", 1) }, -> { io.syswrite("abcd") }].each do |call|
        expect(&call).to raise_error(IndexError)
        expect(memory.get_bytes(0, TEXT.bytesize)).to eq(TEXT)
        expect(io.pos).to eq(TEXT.bytesize - 3)
      end
      expect(io.write("abc")).to eq(3)
      expect(io).to be_eof
      expect { io.putc("x") }.to raise_error(IndexError)
      expect(io.write("")).to eq(0)
      io.pos = 2**62
      expect { io.write("x") }.to raise_error(IndexError)
      expect { io.truncate(5) }.to raise_error(NotImplementedError)
      expect(io.truncate(TEXT.bytesize)).to eq(0)
    end
  end

  describe "being an IO" do
    it "closes, wholly or by half, as StringIO does" do
      expect_same { |each| [each.closed?, each.closed_read?, each.closed_write?] }
      expect_same(&:close_write)
      expect_same { |each| [each.closed?, each.closed_read?, each.closed_write?] }
      expect_same { |each| each.write("x") }
      expect_same { |each| each.puts }
      expect_same(&:close_write)
      expect { io.write("x") }.to raise_error(IOError, "not opened for writing")
      expect_same { |each| each.read(1) }
      [io.close, io.close]
      expect([io.closed?, io.closed_read?, io.closed_write?]).to all be true
      %i[read gets getc getbyte readline readlines eof? pos size mem string rewind].each do |name|
        expect { io.public_send(name) }.to raise_error(ProcessShared::ClosedError), name.to_s
      end
      %i[each_line each_byte each_char].each do |name|
        expect { io.public_send(name) { |_| nil } }.to raise_error(ProcessShared::ClosedError), name.to_s
      end
      expect { io.write("x") }.to raise_error(ProcessShared::ClosedError)
      expect { io.seek(0) }.to raise_error(ProcessShared::ClosedError)
      expect(memory).not_to be_closed
      expect(io.reopen).to equal(io)
      expect(io.read(5)).to eq("first")
    end

    it "is closed at the end of the block of open" do
      inside = nil
      expect(described_class.open(memory) { |each| (inside = each).read(5) }).to eq("first")
      expect(inside).to be_closed
    end

    it "reads lines in a Ractor" do
      lines = ruby(<<~RUBY, options: ["-W:no-experimental"])
        ractor = Ractor.new do
          io = ProcessShared::SharedMemoryIO.new(ProcessShared::SharedMemory.from_string("a\nb\n"))
          [io.gets, io.gets("\n"), io.getc]
        end
        p ractor.respond_to?(:value) ? ractor.value : ractor.take
      RUBY
      expect(lines).to eq %(["a\\n", "b\\n", "\\x00"]\n)
    end

    it "works over memory of others, with size, get_bytes and put_bytes alone" do
      bare = Struct.new(:bytes) do
        def size = bytes.bytesize
        def get_bytes(offset, length) = bytes.byteslice(offset, length)
        def put_bytes(offset, text, *) = bytes.bytesplice(offset, text.bytesize, text)
      end
      io = described_class.new(bare.new("\n\nab\ncd".b))
      expect([io.gets(""), io.getbyte, io.getc]).to eq ["ab\ncd", nil, nil]
    end

    it "answers what is asked of an IO" do
      expect([io.tty?, io.isatty, io.fileno, io.pid, io.sync, io.fsync, io.internal_encoding, io.binmode?])
        .to eq([false, false, nil, nil, true, 0, nil, true])
      expect([io.flush, io.binmode, io.set_encoding(nil)]).to all(equal(io))
      expect(io.sync = true).to be(true)
      expect { io.fcntl }.to raise_error(NotImplementedError)
      expect(io.mem).to equal(memory)
      expect(io.inspect).to eq("#<ProcessShared::SharedMemoryIO pos=0 size=#{TEXT.bytesize}>")
    end

    it "has every method of StringIO that makes sense" do
      missing = StringIO.public_instance_methods(false) - described_class.public_instance_methods
      expect(missing - [:string=, :each_grapheme_cluster]).to eq([])
    end

    it "feeds whatever reads from an IO" do
      target = StringIO.new
      IO.copy_stream(io, target)
      expect(target.string.b).to eq(TEXT)
      io.rewind
      Marshal.dump([1, "a"], io)
      io.rewind
      expect(Marshal.load(io)).to eq([1, "a"])
    end
  end

  it "works over views, and over memory of ffi" do
    view = described_class.new(memory + 6)
    expect(view.read(4)).to eq("line")
    next unless MemorySupport::FFI_LOADED

    foreign = described_class.new(FFI::MemoryPointer.new(8))
    expect(foreign.write("abc")).to eq(3)
    expect { foreign.write("too long") }.to raise_error(IndexError)
    foreign.rewind
    expect([foreign.read(2), foreign.getc, foreign.gets]).to eq(["ab", "c", "\0\0\0\0\0"])
  end

  it "notices that the memory is closed" do
    memory.close
    [-> { io.read(1) }, -> { io.write("x") }, -> { io.getc }, -> { io.gets }, -> { io.string }].each do |call|
      expect(&call).to raise_error(ProcessShared::ClosedError)
    end
    expect { described_class.new(memory) }.to raise_error(ProcessShared::ClosedError)
    expect { described_class.new(nil) }.to raise_error(TypeError, /expected a Pointer/)
  end

  it "keeps the memory alive" do
    kept = described_class.new(ProcessShared::SharedMemory.new(:int32).put_int32(0, 65))
    GC.start
    expect(kept.read).to eq("A\0\0\0")
  end

  describe "a frozen one" do
    before do
      io.gets
      io.freeze
    end

    {
      read: [], gets: [], getc: [], getbyte: [], readline: [], readlines: [], readpartial: [1], pread: [1, 0], ungetc: ["x"],
      write: ["x"], pwrite: ["x", 0], puts: [], printf: ["x"], putc: ["x"], :<< => ["x"], truncate: [TEXT.bytesize],
      eof?: [], seek: [1], rewind: [], :pos= => [1], :lineno= => [1], reopen: [], each_line: [], each_byte: [], each_char: []
    }.each do |name, arguments|
      it "refuses #{name}, as a frozen File does, and changes nothing" do
        block = name.start_with?("each") ? ->(_) {} : nil # Ruby 3.4 warns of one that is not used
        expect { io.public_send(name, *arguments, &block) }.to raise_error(FrozenError)
        expect([io.pos, io.lineno, memory.get_bytes(0, TEXT.bytesize)]).to eq([TEXT.index("\n") + 1, 1, TEXT])
      end
    end

    it "refuses other memory" do
      expect { io.reopen(ProcessShared::SharedMemory.new(4)) }.to raise_error(FrozenError)
      expect(io.mem).to equal(memory)
    end

    it "says what it is, and can be closed" do
      expect([io.pos, io.lineno, io.size, io.mem, io.closed?]).to eq([11, 1, TEXT.bytesize, memory, false])
      expect(io.inspect).to eq("#<ProcessShared::SharedMemoryIO pos=11 size=#{TEXT.bytesize}>")
      expect(described_class.new(memory).freeze.lineno).to eq(0)
      io.close
      expect(io).to be_closed
    end

    it "cannot be shared between Ractors" do
      expect(Ractor.shareable?(described_class.new(memory.freeze).freeze)).to be(false)
      expect { Ractor.make_shareable(io) }.to raise_error(Ractor::Error)
    end
  end

  it "follows the rules for all objects" do
    expect { described_class.allocate.read }.to raise_error(TypeError, /not initialized/)
    expect { described_class.allocate.closed? }.to raise_error(TypeError)
    expect(described_class.allocate.inspect).to eq("#<ProcessShared::SharedMemoryIO not initialized>")
    expect { described_class.allocate.freeze.send(:initialize, memory) }.to raise_error(FrozenError)
    forgetful = Class.new(described_class) { def initialize; end }
    expect(forgetful.new.inspect).to end_with(" not initialized>")
    expect { forgetful.new.read }.to raise_error(TypeError, /not initialized/)
    expect { io.send(:initialize, memory) }.to raise_error(TypeError, /already initialized/)
    expect { io.dup }.to raise_error(TypeError)
    expect { Marshal.dump(io) }.to raise_error(TypeError)
    subclass = Class.new(described_class) { def initialize = super(ProcessShared::SharedMemory.new(4)) }
    expect(subclass.new.read).to eq("\0" * 4)
  end
end
