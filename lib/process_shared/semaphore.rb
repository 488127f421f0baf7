# frozen_string_literal: true

require "process_shared"
