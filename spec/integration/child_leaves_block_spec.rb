# frozen_string_literal: true

# A child that is forked in a block of synchronize, and leaves the block: what was taken is the parent's, which gives it
# back. The child gives nothing back, and what it leaves the block by goes on.
RSpec.describe "A child that leaves a synchronize of its parent" do
  # What a program prints that defines `object` and then runs the block's text in a process of its own.
  def printed(make, script)
    ruby(<<~RUBY)
      $stdout.sync = true
      object = #{make}
      free = -> { object.respond_to?(:value) ? object.value : object.locked? ? 0 : 1 }
      #{script}
    RUBY
  end

  permits = {
    "Semaphore" => ["ProcessShared::Semaphore.new(2)", 2],
    "BinarySemaphore" => ["ProcessShared::BinarySemaphore.new(1)", 1],
    "lock of Semaphore#to_mtx" => ["ProcessShared::Semaphore.new(1).to_mtx", 1],
    "lock of BinarySemaphore#to_mtx" => ["ProcessShared::BinarySemaphore.new(1).to_mtx", 1]
  }
  locks = { "Mutex" => ["ProcessShared::Mutex.new", 1], "Monitor" => ["ProcessShared::Monitor.new", 1] }

  # How the child leaves; all of it ends the child.
  leaving = {
    "exit(3)" => "exit(3)", "an exception" => "begin; raise KeyError; ensure; $stderr.reopen(File::NULL); end",
    "throw" => "throw :out"
  }

  permits.merge(locks).each do |name, (make, whole)|
    leaving.each do |way, leave|
      it "by #{way} gives no #{name} back" do
        expect(printed(make, <<~RUBY)).to eq "[#{whole - 1}, #{whole}]\n"
          parent = Process.pid
          catch(:out) do
            object.synchronize do
              pid = fork or (#{leave})
              Process.wait(pid)
              $left = free.call
            end
          end
          exit! unless Process.pid == parent
          p [$left, free.call]
        RUBY
      end

      it "by #{way} of a #{name} goes on, and no error of ours takes its place" do
        expected = { "exit(3)" => [3, ""], "an exception" => [1, "KeyError"], "throw" => [7, ""] }.fetch(way)
        expect(printed(make, <<~RUBY)).to eq "#{expected.inspect}\n"
          reader, writer = IO.pipe
          parent = Process.pid
          caught = catch(:out) do
            object.synchronize do
              pid = fork
              if pid
                writer.close
                status = Process.wait2(pid).last
                p [status.exitstatus, reader.read]
                next
              end
              begin
                #{leave.sub("$stderr.reopen(File::NULL)", "nil")}
              rescue KeyError => error
                writer.write(error.class) && writer.flush
                $stderr.reopen(File::NULL)
                raise
              end
            end
            :here
          end
          exit!(7) if Process.pid != parent && caught.nil?
        RUBY
      end
    end
  end

  permits.each do |name, (make, whole)|
    it "by falling out of it, again and again, gives no #{name} back" do
      expect(printed(make, <<~RUBY)).to eq "[#{whole}, #{whole}, #{whole}]\n"
        parent = Process.pid
        seen = Array.new(3) do
          object.synchronize { (pid = fork) && Process.wait(pid) }
          exit! unless Process.pid == parent
          free.call
        end
        p seen
      RUBY
    end

    it "that IO.popen(\"-\") forked gives no #{name} back" do
      expect(printed(make, <<~RUBY)).to eq "[#{whole - 1}, #{whole}]\n"
        parent = Process.pid
        left = object.synchronize do
          io = IO.popen("-") or next
          io.read
          io.close
          free.call
        end
        exit! unless Process.pid == parent
        p [left, free.call]
      RUBY
    end

    it "that Process.daemon left behind as the process gives no #{name} back" do
      expect(printed(make, <<~RUBY)).to eq "[#{whole - 1}]\n"
        reader, writer = IO.pipe
        outer = fork do
          object.synchronize { Process.daemon }
          writer.write("left")
          writer.close
          exit!
        end
        writer.close
        reader.read
        Process.wait(outer)
        p [free.call]
      RUBY
    end
  end
end
