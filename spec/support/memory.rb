# frozen_string_literal: true

require_relative "stress"

# For the specs of memory: what one operation does, in a form that can be compared between our memory and ffi's, and
# objects that behave badly while they are converted.
module MemorySupport
  NUMBERS = %w[int8 uint8 int16 uint16 int32 uint32 int64 uint64 long ulong char uchar short ushort int uint long_long
               ulong_long float32 float64 float double].freeze

  FFI_LOADED =
    begin
      require "ffi" unless Stress::MODE == "compact"
      defined?(FFI) ? true : false
    rescue LoadError
      false
    end

  # Runs the block in a child, which must end well; reaps it.
  def in_child(&block)
    pid = fork do
      Stress.begin_anew
      block.call
      exit!(0)
    rescue Exception => error # rubocop:disable Lint/RescueException -- whatever it was, it is reported
      warn error.full_message
      exit!(1)
    end
    Process.wait(pid)
    expect($?).to be_success
  end

  # What the block does with the memory: its result or its exception, and the bytes afterwards.
  def outcome(memory)
    result =
      begin
        plain(yield(memory), memory)
      rescue Exception => error # rubocop:disable Lint/RescueException -- NoMemoryError and the like count too
        [error.class, as_ffi_says(error.message[/.*/])]
      end
    [result, memory.get_bytes(0, memory.size)]
  end

  # Ours say more in the same place.
  def as_ffi_says(message)
    message.sub(/0x\h+/, "0x").sub(/ is out of bounds: .*/, " is out of bounds").sub(/'; known are .*/, "'")
  end

  # The result without what must differ: object identity, class names, absolute addresses.
  def plain(result, memory)
    return :self if result.equal?(memory)

    case result
    when Float then result.nan? ? :nan : [result, 1 / result]
    when Array then result.map { |element| plain(element, memory) }
    when ProcessShared::Pointer, pointer_class
      offset = result.address - memory.address
      offset.between?(0, memory.size) ? [:view, offset, result.size] : [:pointer, result.address]
    else result
    end
  end

  def pointer_class
    FFI_LOADED ? FFI::Pointer : ProcessShared::Pointer
  end

  # An object whose to_int (to_f, to_ptr, ...) runs the block.
  def converting(name, &block)
    Object.new.tap { |object| object.define_singleton_method(name, &block) }
  end
end

RSpec.configure do |config|
  config.include MemorySupport
end
