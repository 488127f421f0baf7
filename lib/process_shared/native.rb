# frozen_string_literal: true

# Loads the native extension and completes its classes. The files that process_shared.rb requires start from here
# and not from "process_shared": requiring each other in a circle is a warning under -w.
require "process_shared/open_with_self"
require "process_shared/extension"
require "process_shared/scheduled"
require "process_shared/thread_end"
require "process_shared/wakeup"

# On Linux, exec needs help where a thread other than the first calls it; the extension has it.
require "process_shared/exec_hook" if ProcessShared.respond_to?(:exec_begins, true)

# On macOS a fork has to hand over what objects need of the system.
require "process_shared/fork_hook" if ProcessShared.const_defined?(:Handover, false)

module ProcessShared
  [:Mutex, :Semaphore, :BinarySemaphore, :SemaphoreMutex, :ConditionVariable, :SharedMemory, :SharedMemoryIO].each do |name|
    const_get(name, false).extend(OpenWithSelf)
  end

  # Marshal would only say that no _dump_data is defined.
  [:Mutex, :Semaphore, :SemaphoreMutex, :ConditionVariable, :Pointer, :SharedMemoryIO].each do |name|
    const_get(name, false).class_eval do
      # @raise [TypeError] always: the object is the shared thing, not a description of it
      def marshal_dump
        raise TypeError, "can't dump #{self.class}"
      end
    end
  end
end
