# frozen_string_literal: true

module Fuzz
  # A call took too long: what waits for ever is told to stop.
  class Enough < Exception; end # rubocop:disable Lint/InheritException -- no rescue in what is tested may swallow it

  # What no caller should ever see.
  class Senseless < Exception; end # rubocop:disable Lint/InheritException -- as above

  # Calls methods with arguments, all chosen by the seed, and judges what they raise.
  class Calls
    PATIENCE = 0.002 # seconds a call may block
    OURS = %r{/process_shared/\w+\.rb\z}.freeze
    SENSELESS = /\A\s*\z|\Aundefined (method|local)|panicked|unwrap|\b(Some|None|Err|Ok)\(|\.rs\b|core::|#<fatal/.freeze
    # What every object has is not ours, but for these.
    COMMON = %i[inspect to_s == eql? hash dup clone freeze frozen? instance_variables respond_to?].freeze

    # `log` is called with a description before each call.
    def initialize(seed, inherited, log)
      @random = Random.new(seed)
      @subjects = Subjects.new(@random)
      @arguments = Arguments.new(@random, @subjects)
      @inherited = inherited
      @log = log
      @number = 0
      @outcomes = Hash.new(0)
    end

    attr_reader :outcomes

    def run(count)
      Thread.handle_interrupt(Enough => :never) do
        impatience = Thread.new(Thread.current) { |caller| interrupt(caller) }
        count.times { |number| (@number = number) && once && break }
      ensure
        impatience.kill.join
      end
    rescue Enough
      nil # one that came late
    ensure
      raise @finding if @finding
    end

    private

    def interrupt(caller)
      seen = warned = nil
      loop do
        caller.raise(Enough, "enough") if @number == seen && seen != warned && (warned = seen)
        seen = @number
        sleep PATIENCE
      end
    end

    # Returns a Senseless if that is what came of it.
    def once
      subject = @random.rand(30).zero? ? @inherited.sample(random: @random) : @subjects.any
      name = methods_of(subject).sample(random: @random)
      arguments = @arguments.list(Kernel.instance_method(:method).bind_call(subject, name).arity)
      block = proc { |*given| given.first } if @random.rand(3).zero?
      @log.call("#{kind(subject)}##{name}(#{arguments.map { |argument| kind(argument) }.join(", ")})#{" {}" if block}")
      Thread.handle_interrupt(Enough => :immediate) { subject.public_send(name, *arguments, &block) }
      @outcomes[:returned] += 1
      nil
    rescue Enough
      @outcomes[:interrupted] += 1
      nil
    rescue Exception => error # rubocop:disable Lint/RescueException -- whatever it is, it is judged
      @outcomes[error.class] += 1
      @finding = judge(error, arguments)
    end

    def methods_of(subject)
      return %i[new open instance_methods name] if subject.is_a?(Class)

      @methods ||= {}
      @methods[subject.singleton_class.ancestors.take_while { |ancestor| ancestor != Object }] ||=
        (subject.public_methods - Object.public_instance_methods - Enumerable.public_instance_methods) + COMMON
    end

    def judge(error, arguments)
      senseless = error.message.match?(SENSELESS) || !error.is_a?(StandardError) && !error.is_a?(NotImplementedError)
      # an argument may well lack a method that we ask for; but then it is not our code that should say so
      senseless ||= error.is_a?(NameError) && error.backtrace_locations&.first&.absolute_path.to_s.match?(OURS)
      # nor is it our fault if there is no method of the name that we were given, or if an argument is a strange one
      senseless &&= !(error.is_a?(NameError) && (error.message.match?(/BasicObject|Struct/) || named?(error.name, arguments)))
      Senseless.new("#{error.class}: #{error.message.inspect}\n  #{Array(error.backtrace).first(4).join("\n  ")}") if senseless
    end

    def named?(name, arguments)
      arguments.to_a.any? { |given| (Symbol === given ? given.name : String.try_convert(given)) == name.to_s }
    rescue StandardError # one that will not be a String
      false
    end

    def kind(object)
      case object
      when BasicObject.instance_method(:!).class, nil, true, false, Integer, Float, Symbol then object.inspect
      when String, Array, Hash then object.inspect[0, 40]
      when Class then object.to_s
      else "a #{Kernel.instance_method(:class).bind_call(object)}"
      end
    end
  end
end
