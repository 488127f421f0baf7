# frozen_string_literal: true

module Storm
  # Raised into threads at any time; a step that it ends has done nothing, or all it does.
  class Poke < StandardError; end

  # Raised into threads when the round is over.
  class Stop < Exception; end # rubocop:disable Lint/InheritException -- no rescue of a step may swallow it

  # An invariant does not hold.
  class Broken < Exception; end # rubocop:disable Lint/InheritException -- as above

  # Some objects, what threads do with them, and what must always be true of them. Made before the workers are forked.
  #
  # `step` is called again and again, by one thread for each slot, all of which may be killed at any instruction. Exceptions
  # reach a step only where it blocks, unless it says otherwise; so between two blocking calls it does all or nothing.
  class Scene
    HOLD = { Object => :never }.freeze      # exceptions wait until the block is over
    BLOCKING = { Object => :on_blocking }.freeze
    ANYWHERE = { Object => :immediate }.freeze

    def self.title
      name.split("::").last
    end

    attr_reader :slots

    def initialize(slots)
      @slots = slots
      @steps = ProcessShared::SharedMemory.new(:int64, slots)
    end

    # Everything that has a state worth printing.
    def objects = instance_variables.map { |name| instance_variable_get(name) }.flatten.select { |object| object.respond_to?(:waiters) }

    # Grows for as long as somebody gets something done.
    def progress = @steps.get_array_of_int64(0, slots).sum

    def run(me, random)
      step(me, random)
      @steps.put_int64(me * 8, @steps.get_int64(me * 8) + 1)
    end

    # With nobody left: raises Broken unless all adds up. `kills` processes were killed.
    def verdict(kills); end

    # What a signal handler of any process does.
    def ring(random); end

    private

    def cells(count) = Cells.new(count)

    def hold(&block) = Thread.handle_interrupt(HOLD, &block)

    def check(truth, complaint)
      raise Broken, "#{self.class.title}: #{complaint}: #{objects.inspect}" unless truth
    end
  end

  # Integers in shared memory.
  class Cells
    def initialize(count)
      @memory = ProcessShared::SharedMemory.new(:int64, count)
    end

    def [](index) = @memory.get_int64(index * 8)

    def []=(index, value)
      @memory.put_int64(index * 8, value)
    end

    def sum(from) = @memory.get_array_of_int64(from * 8, @memory.count - from).sum
  end
end
