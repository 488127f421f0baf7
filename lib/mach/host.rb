# frozen_string_literal: true

module Mach
  # This machine.
  class Host < Port
    # @return [Host]
    def self.self
      new(port: CALLS.host_self)
    end

    # @return [Clock] the clock that counts from the machine's start
    # @raise [Mach::Error]
    def get_clock_service
      Clock.new(port: CALLS.clock_service(port))
    end
  end

  # A clock of the host.
  class Clock < Port
    # +tv_sec+ and +tv_nsec+: seconds, and nanoseconds on top of them.
    Time = Struct.new(:tv_sec, :tv_nsec)

    # @return [Time]
    # @raise [Mach::Error]
    def get_time
      Time.new(*CALLS.clock_time(port))
    end
  end
end
