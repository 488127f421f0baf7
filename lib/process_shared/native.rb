# frozen_string_literal: true

# Loads the native extension and completes its classes. The files that process_shared.rb requires start from here
# and not from "process_shared": requiring each other in a circle is a warning under -w.
require "process_shared/open_with_self"
require "process_shared/extension"
require "process_shared/fiber_scheduler"
require "process_shared/thread_end"
require "process_shared/wakeup"

# On Linux, exec needs help where a thread other than the first calls it; the extension has it.
require "process_shared/exec_hook" if ProcessShared.respond_to?(:exec_begins, true)

# On macOS a fork has to hand over what objects need of the system.
require "process_shared/fork_hook" if ProcessShared.const_defined?(:Handover, false)

module ProcessShared
  # What all classes of the extension have in common beyond what it defines itself.
  constants(false).map { |name| const_get(name, false) }.grep(Class).reject { |klass| klass <= Exception }.each do |klass|
    klass.extend(OpenWithSelf)
    next if klass.superclass != Object

    klass.class_eval do
      # @raise [TypeError] always: the object is the shared thing, not a description of it
      def marshal_dump
        raise TypeError, "can't dump #{self.class}: the object is what is shared; make it before the fork, and the child has it"
      end
    end
  end
end
