# frozen_string_literal: true

module Storm
  # What all processes of a round know: whether it is over, what went wrong, how often somebody was interrupted.
  class Board
    attr_reader :everybody_is_gone

    def initialize(slots)
      @over = Cells.new(1)
      @interrupts = ProcessShared::SharedMemory.new(:int64, slots)
      @complaints, @to_complaints = IO.pipe
      @alive, @holder = IO.pipe # end of file once nobody has the second end any more
    end

    def over? = @over[0] == 1

    def call_it_over
      @over[0] = 1
    end

    def complain(text)
      @to_complaints.write_nonblock("#{Process.pid}: #{text}\n", exception: false)
    end

    def complaints
      @complaints.read_nonblock(65_536, exception: false).then { |text| text.is_a?(String) ? text : nil }
    end

    def count_interrupt(slot)
      @interrupts.put_int64(slot * 8, @interrupts.get_int64(slot * 8) + 1)
    end

    def interrupts = @interrupts.get_array_of_int64(0, @interrupts.count).sum

    # Whether all workers, and all they forked, have ended within `seconds`.
    def deserted?(seconds)
      @holder.close unless @holder.closed?
      !@alive.wait_readable(seconds).nil?
    end

    def close
      [@complaints, @to_complaints, @alive, @holder].each(&:close)
    end
  end
end
