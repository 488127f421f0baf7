# frozen_string_literal: true

# ActiveSupport's cache, where it is installed for this Ruby (Debian: ruby-activesupport). Only what runs in a process of its own
# may load it.
module InstalledRails
  class << self
    # Why specs of the store are skipped, or nil.
    def missing
      return @missing if defined?(@missing)

      require "logger" # ActiveSupport 6.1 takes it for granted
      require "active_support"
      require "active_support/cache"
      require "active_support/notifications"
      require "active_support/cache/process_shared_store"
      @missing = nil
    rescue LoadError => error
      raise unless error.path&.start_with?("active_support") || error.path == "logger"

      @missing = "ActiveSupport is not installed"
    end
  end
end
