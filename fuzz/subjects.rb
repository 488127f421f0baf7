# frozen_string_literal: true

require_relative "../spec/support/classes"

module Fuzz
  # The objects whose methods are called: of every class, fresh, used, closed, not initialized, frozen, shareable, of a
  # subclass. None of them is ever waited for without a limit: see Call.
  class Subjects
    CLASSES = SharedClass.shared.map(&:klass).freeze
    SUBCLASSES = CLASSES.map { |klass| Class.new(klass) }.freeze
    FORGETFUL = CLASSES.map { |klass| Class.new(klass) { def initialize(*) = nil } }.freeze

    ROBUST = RUBY_PLATFORM.include?("linux")

    # Has a monitor by inclusion.
    class Mixed
      include ProcessShared::MonitorMixin
    end

    def initialize(random)
      @random = random
    end

    def any
      case @random.rand(20)
      when 0 then (CLASSES + SUBCLASSES).sample(random: @random).allocate
      when 1 then FORGETFUL.sample(random: @random).new
      when 2 then fresh.tap { |object| object.respond_to?(:release) ? object.release : object.close }
      when 3 then fresh.freeze
      when 4 then Ractor.make_shareable(fresh)
      when 5 then derived
      when 6 then (CLASSES + SUBCLASSES + [ProcessShared::SharedMemoryIO, ProcessShared::Pointer]).sample(random: @random)
      else fresh
      end
    rescue ProcessShared::ClosedError, ArgumentError, TypeError, IndexError, NotImplementedError, Ractor::Error
      retry
    end

    private

    def fresh
      klass = (CLASSES + SUBCLASSES).sample(random: @random)
      if klass <= ProcessShared::SharedArray then klass.new(%i[int8 uint16 int64 double bool].sample(random: @random), @random.rand(1..40))
      elsif klass <= ProcessShared::SharedMemory then klass.new(@random.rand(1..5000))
      else klass.new(*SharedClass.shared.find { |entry| klass <= entry.klass }.arguments)
      end
    end

    def memory = ProcessShared::SharedMemory.new(@random.rand(1..300))

    def derived
      case @random.rand(10)
      when 8 then ROBUST ? ProcessShared::Semaphore.new(@random.rand(3), robust: true) : memory
      when 9 then ProcessShared::CyclicBarrier.new(@random.rand(1..2)) { nil }
      when 0 then ProcessShared::Semaphore.new(@random.rand(3)).to_mtx
      when 1 then ProcessShared::Monitor.new.new_cond
      when 2 then Mixed.new
      when 3 then memory.extend(ProcessShared::MonitorMixin)
      when 4 then memory.then { |memory| memory + @random.rand(memory.size) }
      when 5 then memory.order(:big)
      when 6 then ProcessShared::SharedMemoryIO.new(memory)
      else ProcessShared::SharedMemory.new(64).slice(@random.rand(32), @random.rand(32))
      end
    end
  end
end
