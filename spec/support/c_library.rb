# frozen_string_literal: true

# Functions of the C library: through the ffi gem where it is there, else through fiddle.
module CLibrary
  class << self
    # The function of that name, with `count` integers for arguments and one for its result; nil where there is none, or
    # nothing to call it with.
    def function(name, count)
      by_ffi(name, count) || by_fiddle(name, count)
    end

    private

    def by_ffi(name, count)
      require "ffi"
      symbol = FFI::DynamicLibrary.open(nil, FFI::DynamicLibrary::RTLD_LAZY).find_function(name)
      symbol && FFI::Function.new(:long, [:long] * count, symbol)
    rescue LoadError
      nil
    end

    def by_fiddle(name, count)
      require "fiddle"
      Fiddle::Function.new(Fiddle.dlopen(nil)[name], [Fiddle::TYPE_LONG] * count, Fiddle::TYPE_LONG, need_gvl: true)
    rescue LoadError, Fiddle::DLError
      nil
    end
  end
end
