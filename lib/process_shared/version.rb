# frozen_string_literal: true

module ProcessShared
  # The version of this gem.
  VERSION = "1.1.0"
end
