# frozen_string_literal: true

require_relative "c_library"

# New PID namespaces, where unshare(2) is permitted: for root, that is.
module PidNamespaces
  CLONE_NEWPID = 0x2000_0000
  UNSHARE = RUBY_PLATFORM.include?("linux") && CLibrary.function("unshare", 1)

  # The later children of this process are in a new namespace. Whether that succeeded.
  def unshare_pids
    UNSHARE.call(CLONE_NEWPID).zero?
  end

  # The block's value, computed in the first process of a new namespace.
  def in_new_namespace(&block)
    in_child { unshare_pids && in_child(&block) }
  end

  # Whether all of this is permitted here.
  def self.possible?
    return false unless UNSHARE

    pid = fork { exit!(UNSHARE.call(CLONE_NEWPID).zero?) }
    Process.wait2(pid).last.success?
  end
end
