# frozen_string_literal: true

# Files, names and error classes: what a program sees that only requires the library.
RSpec.describe ProcessShared do
  names = SharedClass::ALL.to_h { |entry| [entry.name, entry.file] }
  all = [*names.keys, :Pointer, :ClosedError, :VERSION]

  def run_bare(script)
    output, status = Open3.capture2e(RbConfig.ruby, "-w", "-I#{Rubies::LIB}", "-e", script)
    [output, status.success?]
  end

  it "loads everything, and prints nothing under -w" do
    expect(run_bare("require 'process_shared'; #{all}.each { |name| ProcessShared.const_get(name, false) }"))
      .to eq ["", true]
  end

  names.each do |name, file|
    it "can be required by the name #{file} alone, silently under -w" do
      expect(run_bare("require '#{file}'; ProcessShared.const_get(:#{name})")).to eq ["", true]
    end
  end

  it "can be required by all names one after the other, in any order" do
    files = [*names.values, "process_shared"].shuffle(random: Random.new(RSpec.configuration.seed))
    expect(run_bare("#{files}.each { |name| require name }")).to eq ["", true]
  end

  it "needs neither the ffi gem nor the monitor library" do
    script = "require 'process_shared'; abort 'ffi' if defined?(FFI); ProcessShared::Monitor.new.synchronize { }"
    expect(run_bare(script)).to eq ["", true]
  end

  it "lives beside Ruby's own monitor library" do
    script = "require 'monitor'; require 'process_shared'; p Monitor.new.new_cond.class, ProcessShared::Monitor.new.new_cond.class"
    expect(run_bare(script)).to eq ["MonitorMixin::ConditionVariable\nProcessShared::MonitorMixin::ConditionVariable\n", true]
  end

  it "has errors that a plain rescue sees" do
    expect(ProcessShared::ProcessError.ancestors).to include(ThreadError, StandardError)
    expect(ProcessShared::ClosedError.ancestors).to include(IOError, StandardError)
  end

  it "prints nothing at the end of a program that leaves objects behind, held and waited on" do
    script = <<~RUBY
      kept = [ProcessShared::Mutex.new.lock, ProcessShared::Monitor.new.tap(&:enter), ProcessShared::Semaphore.new,
              ProcessShared::BinarySemaphore.new(0), ProcessShared::ConditionVariable.new, ProcessShared::Mutex.new]
      Thread.new { kept.first.lock }
      Thread.new { kept[3].wait }
      Thread.new { kept[5].synchronize { kept[4].wait(kept[5]) } rescue nil }
      Thread.pass until kept[3].waiters == 1 && kept[0].waiters == 1
    RUBY
    expect(ruby(script, options: ["-w"])).to eq ""
  end

  it "lets a program end whose main thread holds what another thread needs to end" do
    script = <<~RUBY
      mutex, condition = ProcessShared::Mutex.new, ProcessShared::ConditionVariable.new
      Thread.new { mutex.synchronize { condition.wait(mutex) } }
      Thread.pass until condition.waiters == 1
      mutex.lock
      condition.signal
      Thread.pass until mutex.waiters == 1
      print :end
    RUBY
    expect(ruby(script)).to eq "end"
  end
end
