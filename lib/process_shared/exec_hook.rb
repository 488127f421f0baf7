# frozen_string_literal: true

module ProcessShared
  # Every +exec+ of Ruby passes here: on Linux, what a thread other than the first of its process holds would stay locked
  # for ever (see ext/process_shared/src/exec.rs).
  module ExecHook
    ruby2_keywords def exec(*args)
      return super unless ProcessShared.__send__(:exec_begins)

      begin
        super
      ensure
        ProcessShared.__send__(:exec_failed)
      end
    end

    # Kernel#exec, which is private.
    module Private
      include ExecHook
      private :exec
    end

    [Kernel, Process].each { |mod| mod.singleton_class.prepend(self) }
    Kernel.prepend(Private)
  end
  private_constant :ExecHook
end
