# frozen_string_literal: true

module ProcessShared
  # Lets a wait on the main thread tell Thread#wakeup from a signal handler that ran and returned: both interrupt it,
  # but only the first ends it. Extends the main thread alone; other threads run no signal handlers.
  module Wakeup
    # Whether wakeup or run was called on thread since the last time this was asked.
    def self.taken?(thread)
      return true unless Ractor.current.equal?(Ractor.main) # a Ractor's main thread handles no signals either

      thread.extend(self) unless thread.is_a?(self)
      thread.__process_shared_woken_up
    end

    def wakeup
      @__process_shared_woken_up = true
      super
    end

    def run
      @__process_shared_woken_up = true
      super
    end

    def __process_shared_woken_up
      woken_up = @__process_shared_woken_up
      @__process_shared_woken_up = false
      woken_up ? true : false
    end
  end
  private_constant :Wakeup
end
