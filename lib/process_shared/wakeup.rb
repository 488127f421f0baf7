# frozen_string_literal: true

module ProcessShared
  # Lets a wait on the main thread tell Thread#wakeup from a signal handler that ran and returned: both interrupt it,
  # but only the first ends it. Extends the main thread alone, when it waits for the first time; other threads run no
  # signal handlers. The note is kept by the extension, which asks for it in each wait (nogvl.rs).
  module Wakeup
    def wakeup
      Wakeup.note if equal?(Thread.main)
      super
    end

    def run
      Wakeup.note if equal?(Thread.main)
      super
    end
  end
  private_constant :Wakeup
end
