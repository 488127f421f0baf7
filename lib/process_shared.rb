# frozen_string_literal: true

# Locks, semaphores, condition variables and memory that stay shared across +fork+. Requiring this file loads
# everything; each file named like a class (<tt>process_shared/mutex</tt>, ...) can also be required on its own.
require "process_shared/version"
require "process_shared/native"
require "process_shared/shared_array"
require "process_shared/shared_memory_io"
require "process_shared/object_buffer"
require "process_shared/monitor_mixin"
