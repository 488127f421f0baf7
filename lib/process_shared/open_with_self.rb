# frozen_string_literal: true

module ProcessShared
  # Gives a class +open+, as +File+ has it. Every class of this library is extended with it, and so are its
  # subclasses; any other class whose objects answer to +close+ can be.
  module OpenWithSelf
    # Without a block the same as +new+. With one, yields the new object and closes it when the block ends, also by
    # an exception, +throw+, +break+ or +return+.
    #
    # Closing affects this process only: a child that the block forked goes on using the object.
    #
    # @param args what +new+ takes
    # @return [Object] the block's value, or the new object without a block
    # @raise what +new+ and the block raise
    #
    # @example
    #   ProcessShared::Semaphore.open(0) do |ready|
    #     fork { ready.post }
    #     ready.wait
    #   end
    def open(*args, **options)
      object = new(*args, **options)
      return object unless block_given?

      begin
        yield object
      ensure
        object.close
      end
    end
  end
end
