# frozen_string_literal: true

module Mach
  # A port, as one task names it: a queue of messages with one receiver and any number of senders.
  #
  # Nothing is freed when a Port is garbage collected: call +destroy+ or +deallocate+.
  class Port
    RIGHTS = { send: 0, receive: 1, send_once: 2, port_set: 3, dead_name: 4 }.freeze
    # What becomes of a right that is inserted or sent.
    DISPOSITIONS = {
      move_receive: 16, move_send: 17, move_send_once: 18, copy_send: 19, make_send: 20, make_send_once: 21,
      copy_receive: 22
    }.freeze
    private_constant :RIGHTS, :DISPOSITIONS

    # @return [Integer] the name
    attr_reader :port
    alias to_i port
    # @return [Port, Integer] the task whose name it is
    attr_reader :ipc_space

    # Makes a port, or wraps the name of one.
    #
    # @param opts [Hash]
    # @option opts [Port, Integer] :ipc_space the task (default: this one)
    # @option opts [Symbol] :right what to make: +:receive+ (default), +:port_set+ or +:dead_name+
    # @option opts [Port, Integer] :port an existing name, instead of making one
    # @raise [Mach::Error]
    def initialize(opts = {})
      @ipc_space = opts[:ipc_space] || CALLS.task_self
      @port = opts[:port]&.to_i || CALLS.port_allocate(@ipc_space.to_i, number(RIGHTS, opts[:right] || :receive))
    end

    # @return [Boolean] whether both are the same name in the same task
    def ==(other)
      other.is_a?(Port) && port == other.port && ipc_space.to_i == other.ipc_space.to_i
    end
    alias eql? ==

    # @return [Integer] the same for equal ports
    def hash
      [port, ipc_space.to_i].hash
    end

    # @return [String] class and name, such as <tt>#<Mach::Port name=0x103></tt>
    def to_s
      format("#<%s name=0x%x>", self.class, port)
    end
    alias inspect to_s

    # Ends all rights that the task has by this name.
    # @return [self]
    # @raise [Mach::Error]
    def destroy(*)
      CALLS.port_destroy(ipc_space.to_i, port)
      self
    end

    # Gives up one reference to a send right.
    # @return [self]
    # @raise [Mach::Error]
    def deallocate
      CALLS.port_deallocate(ipc_space.to_i, port)
      self
    end

    # Gives a task a right to this port.
    #
    # @param right [Symbol] such as +:make_send+ or +:copy_send+
    # @param opts [Hash]
    # @option opts [Port, Integer] :ipc_space the task (default: this port's)
    # @option opts [Port, Integer] :port_name the name it gets there (default: the same)
    # @return [self]
    # @raise [Mach::Error]
    def insert_right(right, opts = {})
      space = opts[:ipc_space] || ipc_space
      name = opts[:port_name] || port
      CALLS.port_insert_right(space.to_i, name.to_i, port, number(DISPOSITIONS, right))
      self
    end

    # Sends a right to this port in a message to another; see +receive_right+.
    #
    # @param right [Symbol] such as +:make_send+ or +:copy_send+
    # @param remote_port [Port, Integer] a port this task has a send right to
    # @return [self]
    # @raise [Mach::Error]
    def send_right(right, remote_port)
      CALLS.send_right(remote_port.to_i, port, number(DISPOSITIONS, right))
      self
    end

    # +send_right(:copy_send, remote_port)+
    def copy_send(remote_port)
      send_right(:copy_send, remote_port)
    end

    # Waits for a message with a right in it. Other threads run meanwhile; the wait can be interrupted.
    # @return [Port] the port that came, under this task's name for it
    # @raise [Mach::Error]
    def receive_right
      Port.new(port: CALLS.receive_right(port))
    end

    private

    def number(table, name)
      table.fetch(name) { raise ArgumentError, "unknown right #{name.inspect}: one of #{table.keys.inspect}" }
    end
  end
end
