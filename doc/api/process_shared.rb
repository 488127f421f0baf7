# frozen_string_literal: true

# What process_shared defines natively has its documentation in these files. They are read by YARD and ri, never
# loaded; `rake doc` compares them with the running objects.

# Locks, semaphores, condition variables and memory shared between forked processes.
#
# An object made before a +fork+ is shared with every descendant, however it was forked, and vanishes with the last
# process that has it. Nothing needs a name, a file, a server or a descriptor (memory has one).
#
# A timeout is a number of seconds (Integer, Float or Rational) on the monotonic clock, or nil for none. A wait lets
# other threads run, and is ended by +Timeout.timeout+, +Thread#raise+, +Thread#kill+ and an exception from a +trap+
# handler; then nothing was taken.
#
# Every object can be closed, which concerns this process only, and gives {ClosedError} on use from then on. An
# object is the shared thing itself: +dup+, +clone+ and +Marshal.dump+ raise +TypeError+.
module ProcessShared
  # A rule of a lock was broken: unlocked by somebody else, locked twice, posted too often. The message says what
  # happened, and the process that holds the lock.
  class ProcessError < ThreadError; end

  # The object was closed in this process.
  class ClosedError < IOError; end
end
