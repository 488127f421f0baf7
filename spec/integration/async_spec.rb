# frozen_string_literal: true

require "open3"

# The same as fibers_spec.rb shows with a small scheduler, with the one that is used most, where it is installed.
RSpec.describe "Tasks of the async gem" do
  before(:all) do
    _, status = Open3.capture2e(Gem.ruby, "-e", 'require "async"')
    skip "the async gem is not installed for this Ruby" unless status.success?
  end

  # A child that runs the block in a task, beside one that counts. Its value is the block's.
  def fork_task
    fork_child do
      require "async"
      Async do |task|
        others = task.async { loop { sleep(0.001) && count.put_int64(0, count.get_int64(0) + 1) } }
        yield task
      ensure
        others.stop
      end.wait
    end
  end

  let!(:count) { ProcessShared::SharedMemory.new(:int64) }

  BlockingCall.names.each do |name|
    describe "in #{name}" do
      let!(:call) { BlockingCall.named(name) }

      it "wait while others go on" do
        child = fork_task do
          call.enter.call
          call.wait.call && call.leave.call && :done
        end
        wait_until { call.waiting.call }
        before = count.get_int64(0)
        wait_until { count.get_int64(0) >= before + 3 }
        call.release.call
        expect(child.value).to be :done
      end

      it "take nothing when their time is over" do
        child = fork_task do |task|
          call.enter.call
          task.with_timeout(0.03) { call.wait.call }
        rescue Async::TimeoutError
          call.intact.call
        end
        expect(child.value).to be true
      end

      it "take nothing when they are stopped" do
        child = fork_task do |task|
          intact = nil
          waiter = task.async do
            call.enter.call
            call.wait.call
          ensure
            intact = call.intact.call
          end
          sleep 0.001 until call.waiting.call
          waiter.stop
          [intact, waiter.finished?]
        end
        expect(child.value).to eq [true, true]
      end
    end
  end

  it "have a lock one at a time" do
    [ProcessShared::Mutex, ProcessShared::Monitor].each do |klass|
      lock = klass.new
      child = fork_task do |task|
        log = []
        tasks = Array.new(3) do |number|
          task.async { lock.synchronize { log << number && sleep(0.005) && log << number } }
        end
        tasks.each(&:wait)
        log
      end
      pairs = child.value.each_slice(2).to_a
      expect(pairs.sort).to eq [[0, 0], [1, 1], [2, 2]]
    end
  end
end
