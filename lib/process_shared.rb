# frozen_string_literal: true

require "process_shared/version"
require "process_shared/native"
require "process_shared/queue"
require "process_shared/sized_queue"
require "process_shared/shared_array"
require "process_shared/shared_memory_io"
require "process_shared/object_buffer"
require "process_shared/map"
require "process_shared/cache"
require "process_shared/monitor_mixin"
require "process_shared/presence"

# Locks, semaphores, condition variables and memory shared between forked processes.
#
# An object made before a +fork+ is shared with every descendant, however it was forked, and vanishes with the last
# process that has it. Nothing needs a name, a file, a server or a descriptor (memory has one). Processes that are not
# related share an object by a path: see below.
#
# A timeout is a number of seconds (Integer, Float or Rational) on the monotonic clock, or nil for none. It is the last
# argument, without a keyword, as in <tt>lock.try_lock(2)</tt>; queues alone have <tt>timeout:</tt>, as in core. A wait lets
# other threads run, and is ended by +Timeout.timeout+, +Thread#raise+, +Thread#kill+ and an exception from a +trap+
# handler; then nothing was taken.
#
# Every object can be closed, which concerns this process only, and gives {ClosedError} on use from then on. An
# object is the shared thing itself: +dup+, +clone+ and +Marshal.dump+ raise +TypeError+.
#
# == Objects with a path
#
# Every class but {Pointer} and {SharedMemoryIO} takes <tt>path:</tt> and <tt>mode: 0600</tt>. Processes that are not related
# share the object by its file: a cron job with a server, a server with the one that follows it, a program started by
# +spawn+. <tt>new</tt> opens what is there, or makes it; nobody ever sees it half made.
#
# - Class, element type, number of elements or bytes, and rate have to be those in the file, else +ArgumentError+. To
#   change one of them, delete the file when the processes that have it have ended. An initial state, such as a
#   semaphore's value, is ignored where the object is there already.
# - When all processes that had it are gone, however they went, the next one finds each lock free, +abandoned?+ where a holder
#   did not unlock it, and values, permits and memory as they were left. After a restart of the machine it is new.
# - Opened several times in a process it is one object.
# - It takes one descriptor (close-on-exec) in a process, which is given back when the last handle of the process has been
#   collected. A lock's file has less than 64 KB; room on the disk is taken when it is made.
# - +File.delete+ ends it at any time: those who have it go on with what they have, the next one makes another. Two
#   processes can then hold the lock: delete a lock's file only while nobody uses it.
# - Use a directory of the application's own, such as Rails' +tmp+. The system may delete old files in /tmp, and a service of
#   systemd with +PrivateTmp+ has a /tmp of its own.
# - Processes of several users share a file that root has made, with <tt>mode: 0666</tt>, or <tt>mode: 0660</tt> and a +chgrp+.
#   All of them give that +mode+.
#
# Errors of +new+, which say what to do:
#
# - {ProcessError}: the file is a link or no regular file, belongs to another user (but root), or can be written by more than
#   +mode+ says; it is on a network file system; processes of another PID namespace have it open
# - {IncompatibleError}: it was not made by this library, or by another version of it, or for another kind of machine
# - <tt>Errno::ENOENT</tt>, <tt>EACCES</tt>, <tt>ENOSPC</tt>, <tt>EDQUOT</tt>, <tt>EMFILE</tt>, ...: as the system says
#
# Whoever may write the file may spoil what is in it. That gives errors or wrong values; but whoever shortens it makes the
# others end by SIGBUS.
#
# Requiring "process_shared" loads everything; each file named like a class (<tt>process_shared/mutex</tt>, ...) can
# also be required on its own. What the extension defines is documented in comments of the file named like its class:
# <tt># @!method</tt> documents a method and defines none.
module ProcessShared
end
