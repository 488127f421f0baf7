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
        # A poll shows in each of these, something else that wakes the child hardly in all of them.
        woken = Array.new(5) do
          before = naps(child.pid)
          sleep 0.1
          naps(child.pid) - before
        end
        expect(woken.min).to be 0
      end
    end
  end
end
