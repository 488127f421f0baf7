# frozen_string_literal: true

require "process_shared/native"

module ProcessShared
  # A {Map} has no room for an entry, or a {Cache} is smaller than the entry. Nothing was changed.
  class FullError < ProcessError
  end
end
