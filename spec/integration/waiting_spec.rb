# frozen_string_literal: true

# What a wait costs: nothing.
RSpec.describe "Waiting" do
  if File.directory?("/proc/self/task")
    BlockingCall.names.each do |name|
      it "in #{name} costs no CPU, and wakes for nothing", unstressed: "the thread that ends the stress wakes, too" do
        call = BlockingCall.named(name)
        child = fork_child do
          call.enter.call
          call.wait.call
        end
        wait_until { call.waiting.call }
        wait_until_blocked(child)
        before = naps(child.pid)
        sleep 0.3 # long enough for a poll to show
        expect(naps(child.pid) - before).to be <= 1
      end
    end
  end
end
