# frozen_string_literal: true

module Mach
  # A task: what Unix calls a process.
  class Task < Port
    SPECIAL = { kernel: 1, host: 2, name: 3, bootstrap: 4 }.freeze
    private_constant :SPECIAL

    # @return [Task] this process
    def self.self
      new(port: CALLS.task_self)
    end

    # @param which [Symbol] +:kernel+, +:host+, +:name+ or +:bootstrap+
    # @return [Port]
    # @raise [Mach::Error]
    def get_special_port(which)
      Port.new(port: CALLS.get_special_port(port, number(SPECIAL, which)))
    end

    # Children inherit the special ports.
    # @param which [Symbol] as in +get_special_port+
    # @param special [Port, Integer]
    # @return [self]
    # @raise [Mach::Error]
    def set_special_port(which, special)
      CALLS.set_special_port(port, number(SPECIAL, which), special.to_i)
      self
    end

    # +get_special_port(:bootstrap)+
    def get_bootstrap_port
      get_special_port(:bootstrap)
    end

    # +set_special_port(:bootstrap, special)+
    def set_bootstrap_port(special)
      set_special_port(:bootstrap, special)
    end
  end
end
