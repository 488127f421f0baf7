# frozen_string_literal: true

require "process_shared"

module ProcessShared
  # The object was closed in this process.
  class ClosedError < IOError
  end
end
