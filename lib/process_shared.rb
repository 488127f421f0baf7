# frozen_string_literal: true

require "process_shared/version"
require "process_shared/native"
require "process_shared/queue"
require "process_shared/shared_array"
require "process_shared/shared_memory_io"
require "process_shared/object_buffer"
require "process_shared/monitor_mixin"

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
#
# Requiring "process_shared" loads everything; each file named like a class (<tt>process_shared/mutex</tt>, ...) can
# also be required on its own. What the extension defines is documented in comments of the file named like its class:
# <tt># @!method</tt> documents a method and defines none.
module ProcessShared
end
