# frozen_string_literal: true

# fork(2) as C code calls it: Ruby is not told. Through the ffi gem where it is there, else through fiddle; nil where
# neither is.
module CFork
  def self.call
    @fork ||= by_ffi || by_fiddle
    @fork.call
  end

  def self.possible?
    !(@fork ||= by_ffi || by_fiddle).nil?
  end

  def self.by_ffi
    require "ffi"
    function = FFI::Function.new(:int, [], FFI::DynamicLibrary.open(nil, FFI::DynamicLibrary::RTLD_LAZY).find_function("fork"))
    -> { function.call }
  rescue LoadError
    nil
  end

  def self.by_fiddle
    require "fiddle"
    function = Fiddle::Function.new(Fiddle.dlopen(nil)["fork"], [], Fiddle::TYPE_INT, need_gvl: true)
    -> { function.call }
  rescue LoadError
    nil
  end

  private_class_method :by_ffi, :by_fiddle
end
