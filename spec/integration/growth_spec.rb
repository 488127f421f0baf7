# frozen_string_literal: true

# Objects of every class are made, used and dropped, many times over: nothing is left of them, neither descriptors nor
# mappings nor memory nor Ruby objects. Few rounds show what a descriptor, a mapping, a slot of shared memory or a Ruby
# object in each would leave; a million, which `rake growth` makes, show malloc's smallest block.
RSpec.describe "Making, using and dropping over and over", if: File.directory?("/proc/self/task") do
  rounds = Integer(ENV.fetch("GROWTH_ROUNDS", 20_000))
  warm_up = 20_000
  limit = 25 + (rounds / 2000)

  # One round of so many is made of what takes its time: a mapping, a sleep, a process.
  rare = { lock: 1, memory: 10, wait: 20, fork: 1000 }

  guarded = Class.new do
    include ProcessShared::MonitorMixin
    def close = nil
  end

  # What is done in a round; the value is closed afterwards, or not.
  uses = SharedClass.shared.to_h { |entry| [entry.name.to_s, [entry.cost, -> { entry.make.tap { |object| entry.in_use(object) } }]] }
  uses.merge!(
    "Mutex with on_abandoned" => [:lock, -> { ProcessShared::Mutex.new(on_abandoned: proc {}).tap { |mutex| mutex.synchronize {} } }],
    "Mutex that is held" => [:lock, -> { ProcessShared::Mutex.new.lock }],
    "Mutex that a child has" => [:fork, lambda {
      ProcessShared::Mutex.new.lock.tap { |mutex| Process.wait(fork { exit!(mutex.locked?) }) }
    }],
    "Semaphore's lock" => [:lock, -> { ProcessShared::Semaphore.new(1).to_mtx.tap { |mutex| mutex.synchronize {} } }],
    "object with MonitorMixin" => [:wait, lambda {
      guarded.new.tap { |object| object.synchronize { object.new_cond.tap(&:signal).wait(0) } }
    }],
    "SharedMemory with views" => [:memory, lambda {
      ProcessShared::SharedMemory.new(8192).tap do |memory|
        [memory + 4096, memory.slice(8, 8), memory.order(:big)].each { |view| view.put_int64(0, 5) }
      end
    }],
    "SharedMemoryIO" => [:memory, lambda {
      ProcessShared::SharedMemoryIO.new(ProcessShared::SharedMemory.new(64)).tap { |io| io.puts("line") || io.rewind && io.gets }
    }]
  )

  def left
    2.times { GC.start } # what holds another object may go before it
    maps = File.foreach("/proc/self/maps").map { |line| line.split[1] }
    { objects: GC.stat(:heap_live_slots), descriptors: Dir.children("/proc/self/fd").size, mappings: maps.size,
      "shared mappings": maps.count { |mode| mode.end_with?("s") },
      bytes: File.read("/proc/self/status")[/^VmRSS:\s+(\d+) kB/, 1].to_i * 1024 }
  end

  # What more there is after so many rounds than after others, where it is more than allowed. Ruby's heap and malloc's grow
  # in steps, now and then; what each round leaves makes it more every time.
  def growth(first, rounds, allowed, &round)
    in_process = fork_child do
      first.times(&round)
      Array.new(4).each_with_object({}) do |_, grown|
        before = left
        rounds.times(&round)
        left # after which the stack does not hold the last object any more, nor that its neighbours' memory
        grown.replace(left.merge(before) { |_, after, was| after - was }.reject { |what, more| more <= allowed.fetch(what) })
        break grown if grown.empty?
      end
    end
    in_process.value(within: 600)
  end

  uses.each do |name, (kind, use)|
    { "closed" => true, "collected" => false }.each do |end_of_it, close|
      it "leaves nothing of a #{name} that is #{end_of_it}", limit: limit, unstressed: "collects, and counts, by itself" do
        count = rounds / rare.fetch(kind)
        # The stack may hold the last object still; Ruby and malloc map more or give back as they like. A block of
        # malloc's takes 32 bytes.
        allowed = { objects: 100, descriptors: 2, mappings: 20, "shared mappings": 2, bytes: 2_000_000 + (16 * count) }
        grown = growth(warm_up / rare.fetch(kind), count, allowed) { use.call.then { |made| made.close if close } }
        expect(grown).to eq({})
      end
    end
  end
end
