# frozen_string_literal: true

module ProcessShared
  # Lets a wait on the main thread tell Thread#wakeup from a signal handler that ran and returned: both interrupt it,
  # but only the first ends it. Extends the main thread alone; other threads run no signal handlers.
  module Wakeup
    def wakeup
      @__process_shared_woken_up = true
      super
    end

    def run
      @__process_shared_woken_up = true
      super
    end

    # Whether wakeup or run was called since the last time this was asked.
    def __process_shared_woken_up
      woken_up = @__process_shared_woken_up
      @__process_shared_woken_up = false
      woken_up ? true : false
    end
  end
  private_constant :Wakeup

  Thread.main.extend(Wakeup)
end
