# frozen_string_literal: true

require "rbconfig"

# Loads the native extension: the one that a precompiled gem brings for this version of Ruby, else the one that was
# compiled when the gem was installed, or by `rake compile`.
precompiled = File.join(__dir__, RUBY_VERSION[/\d+\.\d+/], "process_shared.#{RbConfig::CONFIG["DLEXT"]}")
begin
  require File.exist?(precompiled) ? precompiled : "process_shared/process_shared"
rescue LoadError => error
  raise unless error.message.include?("process_shared")

  raise LoadError, "process_shared has no native extension for Ruby #{RUBY_VERSION} on #{RUBY_PLATFORM}. " \
                   "Build it: `gem pristine process_shared`, with Bundler `bundle pristine process_shared`, " \
                   "in a checkout `rake compile`. (#{error.message})"
end
