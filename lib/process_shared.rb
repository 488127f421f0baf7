# frozen_string_literal: true

require "process_shared/version"
require "process_shared/process_shared"
