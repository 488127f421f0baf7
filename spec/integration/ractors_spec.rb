# frozen_string_literal: true

# Several Ractors that share objects, each spec in a Ruby of its own; on Ruby 3.3 and later also with M:N threads, where
# a Ruby thread moves between native threads.
RSpec.describe "Ractors" do
  modes = { "" => {} }
  modes[", with M:N threads"] = { "RUBY_MN_THREADS" => "1" } if RUBY_VERSION >= "3.3"

  modes.each do |mode, env|
    context "in one process#{mode}" do
      # What the script prints. Ractor#take became Ractor#value in Ruby 3.5.
      define_method(:run) do |script|
        prelude = "def Ractor.take_all(ractors) = ractors.map { |r| r.respond_to?(:value) ? r.value : r.take }\n"
        ruby(prelude + script, options: ["-W:no-experimental"], env: env)
      end

      SharedClass.objects.each do |entry|
        it "may make and use a #{entry.name} of their own, and share one" do
          expect(run(<<~RUBY)).to eq "true\n"
            own = Ractor.take_all(Array.new(2) { Ractor.new { object = #{entry.making}; #{entry.use}; #{entry.idle} } })
            object = Ractor.make_shareable(#{entry.making})
            shared = Ractor.take_all(Array.new(2) { Ractor.new(object) { |object| 100.times { #{entry.use} }; nil } })
            p own + shared == [#{entry.idle}] * 2 + [nil] * 2
          RUBY
        end
      end

      it "keep each other out with a shared Mutex and a shared Monitor" do
        expect(run(<<~RUBY)).to eq "8000\n8000\n"
          [ProcessShared::Mutex, ProcessShared::Monitor].each do |klass|
            mutex = Ractor.make_shareable(klass.new)
            memory = ProcessShared::SharedMemory.new(:int)
            count = Ractor.make_shareable(ProcessShared::Semaphore.new(0))
            Ractor.take_all(Array.new(4) { Ractor.new(mutex, count) { |m, c|
              2000.times { m.synchronize { c.post } }
            } })
            p count.value
          end
        RUBY
      end

      it "let one in at a time" do
        expect(run(<<~RUBY)).to eq "[0, 0, 0, 0]\n"
          mutex = Ractor.make_shareable(ProcessShared::Mutex.new)
          inside = Ractor.make_shareable(ProcessShared::Semaphore.new(0))
          p Ractor.take_all(Array.new(4) { Ractor.new(mutex, inside) { |m, i|
            clashes = 0
            500.times { m.synchronize { i.post; clashes += 1 if i.value != 1; Thread.pass; i.wait } }
            clashes
          } })
        RUBY
      end

      it "know who owns a mutex" do
        expect(run(<<~RUBY)).to eq "[[false, true, false], [true, false]]\n"
          mutex = Ractor.make_shareable(ProcessShared::Mutex.new)
          mutex.lock
          other = Ractor.take_all([Ractor.new(mutex) { |m| [m.owned?, m.locked?, m.try_lock] }]).first
          p [other, [mutex.owned?, mutex.unlock.locked?]]
        RUBY
      end

      it "cannot unlock what another holds" do
        expect(run(<<~RUBY)).to eq "ProcessShared::ProcessError\ntrue\n"
          mutex = Ractor.make_shareable(ProcessShared::Mutex.new)
          mutex.lock
          puts Ractor.take_all([Ractor.new(mutex) { |m| begin m.unlock; rescue => e; e.class.name; end }]).first
          p mutex.owned?
        RUBY
      end

      it "wait for each other's permits and signals" do
        expect(run(<<~RUBY)).to eq "[[0, :had], [0, :had]]\n"
          mutex = Ractor.make_shareable(ProcessShared::Mutex.new)
          condition = Ractor.make_shareable(ProcessShared::ConditionVariable.new)
          semaphore = Ractor.make_shareable(ProcessShared::Semaphore.new(0))
          ractors = Array.new(2) { Ractor.new(mutex, condition, semaphore) { |m, c, s|
            [m.synchronize { c.wait(m) }, s.wait && :had]
          } }
          Thread.pass until condition.waiters == 2
          condition.broadcast
          2.times { semaphore.post }
          p Ractor.take_all(ractors)
        RUBY
      end

      it "take over from one that ended with the lock" do
        expect(run(<<~RUBY)).to eq "[true, true]\n"
          mutex = Ractor.make_shareable(ProcessShared::Mutex.new)
          Ractor.take_all([Ractor.new(mutex) { |m| m.lock; nil }])
          mutex.lock
          p [mutex.owned?, mutex.abandoned?]
        RUBY
      end

      it "take over from one that ended with the lock by an exception" do
        expect(run(<<~RUBY)).to eq "[true, true, true]\n"
          mutex = Ractor.make_shareable(ProcessShared::Mutex.new)
          ractor = Ractor.new(mutex) { |m| Thread.current.report_on_exception = false; m.lock; raise KeyError }
          Ractor.take_all([ractor]) rescue nil
          p [mutex.try_lock(1) && mutex.owned?, mutex.abandoned?, Ractor.take_all([Ractor.new(mutex) { |m| !m.try_lock }]).first]
        RUBY
      end

      it "take over from another process that died with the lock" do
        expect(run(<<~RUBY)).to eq "[true, true]\n"
          mutex = Ractor.make_shareable(ProcessShared::Mutex.new)
          reader, writer = IO.pipe
          pid = fork { mutex.lock; writer.write("x"); writer.flush; sleep }
          reader.read(1)
          waiter = Ractor.new(mutex) { |m| m.synchronize { [m.owned?, m.abandoned?] } }
          Thread.pass until mutex.waiters == 1
          Process.kill(:KILL, pid)
          p Ractor.take_all([waiter]).first
          Process.wait(pid)
        RUBY
      end

      # Not both in one process: with M:N threads, Ruby 3.3 hangs by itself when both sleep.
      it "own what they lock on whatever native thread they are" do
        expect(run(<<~RUBY)).to eq "[]\n"
          mutexes = Array.new(20) { Ractor.make_shareable(ProcessShared::Mutex.new) }
          p Ractor.take_all(mutexes.map { |mutex| Ractor.new(mutex) { |m|
            20.times.filter_map { m.synchronize { sleep 0.0005; m.owned? } ? nil : :lost }
          } }).flatten
        RUBY
      end

      it "let threads of the main Ractor own what they lock on whatever native thread they are" do
        expect(run(<<~RUBY)).to eq "[]\n"
          mutexes = Array.new(20) { ProcessShared::Mutex.new }
          threads = mutexes.map { |mutex| Thread.new {
            20.times.filter_map { mutex.synchronize { sleep 0.0005; mutex.owned? } ? nil : :lost }
          } }
          p threads.flat_map(&:value)
        RUBY
      end

      it "all get their turn, many of them" do
        expect(run(<<~RUBY)).to eq "120\n"
          mutex = Ractor.make_shareable(ProcessShared::Mutex.new)
          p Array.new(3) { Ractor.take_all(Array.new(40) { Ractor.new(mutex) { |m| m.synchronize { 1 } } }) }.flatten.sum
        RUBY
      end

      # One Ractor only: Ruby 3.4 hangs by itself when two of them start threads.
      it "leave the lock to others when their threads come and go" do
        expect(run(<<~RUBY)).to eq "200\n"
          mutex = Ractor.make_shareable(ProcessShared::Mutex.new)
          count = Ractor.make_shareable(ProcessShared::Semaphore.new(0))
          other = Ractor.new(mutex, count) { |m, c|
            100.times { Thread.new { m.synchronize { Thread.pass; c.post } }.join }
          }
          100.times { mutex.synchronize { Thread.pass; count.post } }
          Ractor.take_all([other])
          p count.value
        RUBY
      end
    end
  end
end
