# frozen_string_literal: true

require "fileutils"
require "tmpdir"

module Storm
  # Objects with a path, opened anew in each step by processes that come and go, while their files are deleted and made
  # again. (What a worker has open it has not inherited: nothing is open when it is forked.)
  #
  # A memory says which lock guards it, so that the two are a pair whatever is deleted in between.
  class Strangers < Scene
    MEMORIES = 3
    OTHERS = {
      AtomicFixnum: ->(object) { object.increment },
      Event: ->(object) { object.set && object.reset },
      Monitor: ->(object) { object.synchronize { object.synchronize { nil } } },
      Semaphore: ->(object) { object.post },
      ConditionVariable: ->(object) { object.signal }
    }.freeze

    def initialize(slots)
      super
      @folder = Dir.mktmpdir("process_shared-storm", File.directory?("/dev/shm") ? "/dev/shm" : nil)
    end

    def step(_me, random)
      hold do
        case random.rand(300)
        when 0 then delete(memory_path(random))
        when 1..60 then pass_by(random)
        else count(memory_path(random), random)
        end
      end
    end

    def verdict(_kills)
      stray = Dir.children(@folder).grep(/\A\./)
      check(stray.size <= MEMORIES, "left #{stray.inspect}") # those of makers that died last
      FileUtils.remove_entry(@folder)
    end

    private

    def memory_path(random) = File.join(@folder, "memory#{random.rand(MEMORIES)}")

    def delete(path)
      File.delete(path)
    rescue Errno::ENOENT
      nil
    end

    # Both numbers in the memory are the same whenever nobody holds its lock.
    def count(path, random)
      memory = ProcessShared::SharedMemory.new(:int64, 3, path:)
      memory.atomic.compare_and_set(0, random.rand(1..1 << 60))
      repair = ->(_) { memory.put_int64(16, memory.get_int64(8)) }
      lock = ProcessShared::Mutex.new(path: File.join(@folder, "lock#{memory.atomic.value}"), on_abandoned: repair)
      lock.synchronize do
        one, other = memory.get_array_of_int64(8, 2)
        check(one == other, "two at a time, or an end that nobody was told of: #{one}, #{other}")
        [8, 16].each { |offset| memory.put_int64(offset, one + 1) }
      end
      [lock, memory].each(&:close) if random.rand(2).zero?
    end

    def pass_by(random)
      name, use = OTHERS.to_a.sample(random:)
      path = File.join(@folder, name.to_s)
      use.call(ProcessShared.const_get(name).new(path:))
      delete(path) if random.rand(4).zero?
    end
  end
end
