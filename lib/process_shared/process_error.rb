# frozen_string_literal: true

require "process_shared"

module ProcessShared
  # A rule of a lock was broken: unlocked by somebody else, locked twice, posted too often. The message says what
  # happened, and the process that holds the lock.
  class ProcessError < ThreadError
  end
end
