# frozen_string_literal: true

# The end of a process, by its main thread: what that holds, it holds in all of its at_exit handlers, and no longer.
RSpec.describe "The end of a process" do
  it "leaves the main thread its locks until the last at_exit handler, also where other threads live" do
    expect(ruby_after("at_exit { p [$m.owned?, $m.unlock.locked?] }", <<~RUBY)).to eq "[true, false]\n"
      $m = ProcessShared::Mutex.new.lock
      Thread.new { sleep }
    RUBY
  end

  [ProcessShared::Mutex, ProcessShared::Monitor].each do |klass|
    it "does not wait for a thread that wants a #{klass} of the main thread's back" do
      expect(ruby_after("at_exit { $m.lock; puts :locked }", <<~RUBY)).to eq "locked\n"
        $m, condition = #{klass}.new, ProcessShared::ConditionVariable.new
        Thread.new { $m.synchronize { condition.wait($m) } }
        Thread.pass until condition.waiters == 1
      RUBY
    end
  end

  it "does not wait for a fiber's thread that wants a lock of the main thread's back" do
    scheduler = File.expand_path("../support/scheduler", __dir__)
    expect(ruby_after("at_exit { $m.lock; puts :locked }", <<~RUBY)).to eq "locked\n"
      require #{scheduler.dump}
      $m, condition = ProcessShared::Mutex.new, ProcessShared::ConditionVariable.new
      Thread.new do
        Fiber.set_scheduler(Scheduler.new)
        Fiber.schedule { $m.synchronize { condition.wait($m) } }
      end
      Thread.pass until condition.waiters == 1
    RUBY
  end

  it "lets no object pass for what it is not, however late" do
    output = ruby(<<~'RUBY')
      $mutex, $semaphore = ProcessShared::Mutex.new, ProcessShared::Semaphore.new
      # Finalizers that are defined in finalizers run after all others.
      def late(turn)
        proc do
          [$mutex, $semaphore].each do |object|
            [-> { Thread.kill(object) }, -> { ThreadGroup.new.add(object) }].each do |call|
              call.call
              puts "accepted"
            rescue TypeError, NoMethodError
              print "."
            end
          end
          ObjectSpace.define_finalizer(Object.new, late(turn + 1)) if turn < 3
        end
      end
      ObjectSpace.define_finalizer(Object.new, late(1))
    RUBY
    expect(output).to match(/\A\.{4,}\z/)
  end
end
