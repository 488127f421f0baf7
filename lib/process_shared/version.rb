# frozen_string_literal: true

module ProcessShared
  VERSION = "1.0.0"
end
