# frozen_string_literal: true

# Programs that misuse our objects on purpose: each misuse raises an exception, and the process goes on.
RSpec.describe "Misuse" do
  let(:junk) { [0, 1, -1, 2**40, 2**80, nil, Object.new, "x", :s, 1.5, [], {}, Class, ProcessShared::Mutex.new] }

  # Ruby warns of blocks that a method does not use.
  def fork_quiet_child
    fork_child do
      $VERBOSE = nil
      yield
      :alive
    end
  end

  def ours(klass) = klass.ancestors.select { |each| each.name.to_s.start_with?("ProcessShared") }

  def call_with_junk(object, name, count)
    object.__send__(name, *junk.sample(count)) { nil }
  rescue Exception # rubocop:disable Lint/RescueException -- any will do
    nil
  end

  # Marshal turns an object whose data are in C into one of another such class, if a program defines `_load_data`.
  describe "an object that Marshal has made one of another class" do
    def named(klass) = Marshal.dump(klass.name.to_sym).b[2..]

    def disguised(inside, klass)
      Marshal.load("\x04\bC".b + named(klass) + "d" + named(inside.klass) + "0")
    end

    SharedClass.shared.each do |entry|
      klass = entry.klass

      it "is refused as a #{klass}" do
        donors = SharedClass.shared.reject { |donor| donor.klass.ancestors.intersect?(klass.ancestors - Object.ancestors) }
        methods = ours(klass).flat_map { |each| each.instance_methods(false) + each.private_instance_methods(false) }.uniq
        child = fork_quiet_child do
          donors.each do |donor|
            donor.klass.define_method(:_load_data) { |_| __send__(:initialize, *donor.arguments) }
            entry.calls.each do |name, arguments|
              answer = begin
                disguised(donor, klass).public_send(name, *arguments) { nil }
              rescue TypeError
                next
              end
              raise "#{klass}##{name} of a #{donor.klass} gave #{answer}"
            end
            methods.product((0..3).to_a).each { |name, count| call_with_junk(disguised(donor, klass), name, count) }
          end
        end
        expect(child.value).to be :alive
      end
    end
  end

  # A call that waits goes on waiting in its thread.
  def calls_with_junk(object, names)
    names.product((0..4).to_a * 4).each do |name, count|
      Thread.new { call_with_junk(object, name, count) }.join(0.02)
    end
  end

  describe "of private methods, with any arguments," do
    SharedClass.shared.each do |entry|
      it "leaves the process of a #{entry.klass} alive" do
        names = ours(entry.klass).flat_map { |each| each.private_instance_methods(false) }.uniq
        child = fork_quiet_child do
          calls_with_junk(entry.make, names)
          calls_with_junk(entry.klass.allocate, names)
        end
        expect(child.value).to be :alive
      end
    end

    it "leaves the process of the module's own methods alive" do
      child = fork_quiet_child do
        calls_with_junk(ProcessShared, ProcessShared.singleton_class.private_instance_methods(false))
      end
      expect(child.value).to be :alive
    end
  end
end
