# frozen_string_literal: true

require "process_shared"

module ProcessShared
  # The file at the path of an object is none of this library, or was made by another version of it or for another kind of
  # machine. The message says what differs. Such a file may be deleted when no process uses it.
  class IncompatibleError < ProcessError
  end
end
