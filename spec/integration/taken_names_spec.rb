# frozen_string_literal: true

# A program that already uses one of our names: loading fails and says so, and changes no class of anybody else's.
RSpec.describe "Loading where a name is taken" do
  names = %w[Mutex Monitor Semaphore BinarySemaphore SemaphoreMutex ConditionVariable Queue SizedQueue Pointer SharedMemory SharedArray
             SharedMemoryIO ProcessError ClosedError]
  bystanders = "[Object, Kernel, Thread::Mutex, Struct, IOError, StandardError]"

  def loading_after(script, bystanders)
    ruby(<<~RUBY, options: ["-W0"], loaded: false)
      #{script}
      methods = -> { #{bystanders}.map { |space| [space.instance_methods(false), space.private_instance_methods(false), space.singleton_methods] } }
      before = methods.call
      error = begin
        require "process_shared"
      rescue TypeError => error
        error.message
      end
      (methods.call - before).each { |names| warn "changed: \#{names}" }
      Object.new
      Struct.new(:a).new(1)
      print error
    RUBY
  end

  names.each do |name|
    it "refuses a #{name} that is of another kind" do
      message = loading_after("module ProcessShared; class #{name} < Struct.new(:a); end; end", bystanders)
      expect(message).to match(/\Asuperclass mismatch for class ProcessShared::#{name} /)
    end

    it "refuses a #{name} that is no class" do
      expect(loading_after("module ProcessShared; #{name} = 1; end", bystanders))
        .to match(/\AProcessShared::#{name} is not a class/)
    end
  end

  it "refuses a class of somebody else's under one of its names" do
    expect(loading_after("module ProcessShared; Mutex = Thread::Mutex; end", bystanders))
      .to eq "process_shared cannot define ProcessShared::Mutex: that name is taken, by Thread::Mutex"
    expect(loading_after("ProcessShared = Kernel", bystanders))
      .to eq "process_shared cannot define ProcessShared: that name is taken, by Kernel"
    expect(loading_after("class ProcessShared; end", bystanders)).to match(/\AProcessShared is not a module/)
  end

  it "completes classes that were opened before" do
    script = "module ProcessShared; class Mutex; def mine = 1; end; class Pointer; def mine = 2; end; end"
    expect(loading_after(script, bystanders)).to eq "true"
  end

  it "goes on with the same classes when it is required again after a failure" do
    output = ruby(<<~RUBY, options: ["-W0"], loaded: false)
      module ProcessShared; SharedArray = 1; end
      2.times { require "process_shared" rescue print $!.class, " " }
      ProcessShared.send(:remove_const, :SharedArray)
      require "process_shared"
      print ProcessShared::SharedArray.new(:int8, 2).to_a, ProcessShared::SharedMemory.new(1).size
    RUBY
    expect(output).to eq "TypeError TypeError [0, 0]1"
  end
end
