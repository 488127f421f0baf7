# frozen_string_literal: true

# Objects come and go: what is collected is given back, whatever state it was in.
RSpec.describe "Garbage collection" do
  # Bytes of memory that the shared mappings of this process have taken from the system.
  def shared_bytes
    shared = false
    File.foreach("/proc/self/smaps").sum do |line|
      mapping, mode, = line.split(" ", 3)
      shared = mode.end_with?("s") if mapping.match?(/\A\h+-\h+\z/)
      shared && line.start_with?("Rss:", "Swap:") ? line[/\d+/].to_i * 1024 : 0
    end
  end

  linux = File.directory?("/proc/self/task")

  it "has room for 100,000 live mutexes, of at most 128 bytes each, without a descriptor", if: linux do
    in_child do
      before = shared_bytes
      descriptors = Dir.children("/proc/self/fd").size
      mutexes = Array.new(100_000) { ProcessShared::Mutex.new }
      each = (shared_bytes - before) / mutexes.size
      raise "#{each} bytes" if each > 130 # pages are taken whole
      raise "descriptors" if Dir.children("/proc/self/fd").size > descriptors

      mutexes.each_slice(1000) { |slice| slice.each(&:lock).each(&:unlock) }
      last = fork { exit!(mutexes.last.try_lock && mutexes.first.try_lock ? 0 : 1) }
      raise "in the child" unless Process.wait2(last).last.success?
    end
  end

  it "unmaps pages whose objects are all gone", if: linux do
    in_child do
      before = shared_bytes
      kept = Array.new(50_000) { ProcessShared::Mutex.new.lock.unlock }
      grown = shared_bytes
      kept.clear
      kept = nil
      GC.start
      GC.start
      raise "#{before} -> #{grown} -> #{shared_bytes}" unless shared_bytes - before < (grown - before) / 2
    end
  end

  it "of a held mutex harms nobody" do
    in_child do
      2000.times { ProcessShared::Mutex.new.lock }
      GC.start
      2000.times { ProcessShared::Monitor.new.tap(&:enter) }
      GC.start
      raise "locked" if Array.new(3000) { ProcessShared::Mutex.new }.any?(&:locked?)

      mutex = ProcessShared::Mutex.new
      raise "unusable" unless mutex.synchronize { mutex.owned? }
    end
  end

  it "of a held mutex leaves it held for those who still have it" do
    seen = in_child do
      mutex = ProcessShared::Mutex.new
      child = Child.new { |parent| parent.listen && [mutex.locked?, mutex.try_lock] }
      mutex.lock
      mutex.close
      child.tell(:go)
      child.value
    end
    expect(seen).to eq([true, false]).or eq([false, true])
  end

  it "of an object that a child still uses leaves it the child's" do
    count = 500
    child = nil
    make = lambda do
      semaphores = Array.new(count) { ProcessShared::Semaphore.new(1) }
      child = fork_child { |parent| parent.say && parent.listen && semaphores.map(&:value).uniq }
    end
    make.call
    child.hear
    GC.start
    fresh = Array.new(count * 2) { ProcessShared::Semaphore.new(7) }
    child.tell(:look)
    expect(child.value).to eq [1]
    expect(fresh.map(&:value).uniq).to eq [7]
  end

  it "in a child leaves the parent's objects alone" do
    semaphores = Array.new(500) { ProcessShared::Semaphore.new(3) }
    in_child do
      semaphores.clear
      GC.start
      Array.new(1000) { ProcessShared::Semaphore.new(9) }.size
    end
    expect(semaphores.map(&:value).uniq).to eq [3]
  end

  it "keeps an object alive while a thread waits in it" do
    waiting = ProcessShared::Semaphore.new(0)
    thread = in_thread { ProcessShared::Mutex.new.tap(&:lock).then { |mutex| waiting.post && mutex.sleep(0.1) } }
    waiting.wait
    GC.start
    Array.new(1000) { ProcessShared::Mutex.new }
    GC.start
    expect(thread.value).to be_nil
  end

  it "keeps the on_abandoned callable alive, and moves it" do
    mutexes = Array.new(50) { |i| ProcessShared::Mutex.new(on_abandoned: ->(_) { raise KeyError, "callable #{i}" }) }
    fork_child { |parent| mutexes.each(&:lock) && parent.say && parent.listen }.tap { |child| child.hear && child.kill }
    said = in_child do # where other extensions, some of which cannot bear it, run no more
      GC.start
      GC.compact if GC.respond_to?(:compact)
      mutexes.map { |mutex| mutex.lock rescue $!.message }
    end
    expect(said).to eq(Array.new(50) { |i| "callable #{i}" })
  end

  # Collections of young objects pass over old ones: they see what these refer to only if they were told.
  describe "of young objects alone" do
    def aged(objects)
      4.times { GC.start }
      objects
    end

    def collect
      4.times { GC.start(full_mark: false) }
    end

    it "keeps the fiber that holds an old mutex, so that no other is taken for it" do
      mutexes = aged(Array.new(50) { ProcessShared::Mutex.new })
      mutexes.each { |mutex| Fiber.new { mutex.lock }.resume }
      collect
      owned = Array.new(10_000) { Fiber.new { mutexes.any?(&:owned?) }.resume }
      expect(owned.none?).to be true
    end

    it "keeps the on_abandoned callable of an old mutex" do
      mutexes = aged(Array.new(50) { ProcessShared::Mutex.allocate })
      mutexes.each_with_index { |mutex, i| mutex.send(:initialize, on_abandoned: ->(_) { raise KeyError, "callable #{i}" }) }
      collect
      Array.new(10_000) { Object.new } # where a callable would have been
      fork_child { |parent| mutexes.each(&:lock) && parent.say && parent.listen }.tap { |child| child.hear && child.kill }
      said = in_child { mutexes.map { |mutex| mutex.lock rescue $!.message } }
      expect(said).to eq(Array.new(50) { |i| "callable #{i}" })
    end

    it "keeps the memory of an old SharedMemoryIO" do
      ios = aged(Array.new(50) { ProcessShared::SharedMemoryIO.allocate })
      ios.each_with_index { |io, i| io.send(:initialize, ProcessShared::SharedMemory.new(8).put_int64(0, i)) }
      collect
      Array.new(10_000) { Object.new }
      expect(in_child { ios.map { |io| io.read.unpack1("q") } }).to eq [*0...50]
    end
  end

  it "under GC.stress, and with compaction, changes nothing" do
    script = <<~RUBY
      GC.auto_compact = true if GC.respond_to?(:auto_compact=)
      mutex, monitor, semaphore = ProcessShared::Mutex.new, ProcessShared::Monitor.new, ProcessShared::Semaphore.new(0)
      condition = ProcessShared::ConditionVariable.new
      GC.stress = true
      5.times { mutex.synchronize { monitor.synchronize { semaphore.post.wait } } }
      thread = Thread.new { mutex.synchronize { condition.wait(mutex) } }
      Thread.pass until condition.waiters == 1
      condition.signal
      thread.join
      ProcessShared::Mutex.new(on_abandoned: proc { }).synchronize { }
      [mutex, monitor, semaphore, condition].each(&:inspect)
      begin; mutex.unlock; rescue ProcessShared::ProcessError; end
      begin; semaphore.try_wait(0.001); rescue Errno::ETIMEDOUT; end
      pid = fork { mutex.synchronize { monitor.new_cond }; exit!(mutex.locked? ? 1 : 0) }
      status = Process.wait2(pid).last
      GC.stress = false
      print status.success?
    RUBY
    expect(ruby(script, within: 60)).to eq "true"
  end

  it "of fibers that are given up in a block, and of the objects they use there, leaves nothing behind in memory that is gone" do
    held = [
      -> { ProcessShared::Mutex.new.synchronize { Fiber.yield } }, -> { ProcessShared::Monitor.new.synchronize { Fiber.yield } },
      -> { ProcessShared::CyclicBarrier.new(1) { Fiber.yield }.wait }, -> { ProcessShared::Presence.new.enter { Fiber.yield } },
      -> { ProcessShared::Semaphore.new(1, robust: true).synchronize { Fiber.yield } },
      -> { ProcessShared::Queue.new([1]).pop { Fiber.yield } }, -> { ProcessShared::Map.new(1 << 16).fetch(1) { Fiber.yield } }
    ]
    in_child do
      lose = ->(block, depth) { depth.zero? ? Fiber.new(&block).resume : lose.call(block, depth - 1) }
      (held * 10).each { |block| lose.call(block, 20) } # deeper than where the collector may still see it
      2.times { GC.start }
      Array.new(100) { ProcessShared::Mutex.new.lock }.each(&:unlock) # written where the lists of the thread lead
    end
  end

  it "tells ObjectSpace what an object takes" do
    require "objspace"
    expect(ObjectSpace.memsize_of(ProcessShared::Mutex.new)).to be > 40
  end
end
