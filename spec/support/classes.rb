# frozen_string_literal: true

require_relative "blocking_calls"

# Every class, in one list: what must hold for all classes is tried on all that stand here. A new class is an entry here
# and a spec of its own.
class SharedClass
  ALL = [] # rubocop:disable Style/MutableConstant -- filled below

  attr_reader :name, :kind, :arguments, :calls, :use, :idle, :cost, :ending, :in_file, :file_size

  # kind       :synchronisation, :queue, :map, :memory, or :other for what is no class of shared objects
  # arguments  the fewest that `new` takes
  # calls      methods and their arguments: a handle that cannot be used refuses them
  # use        Ruby text that uses a fresh `object` once, without waiting, and leaves it as it was
  # idle       Ruby text of what can be asked of `object` in any process, and has the same answer while nobody uses it
  # waits      the calls that can wait: a maker of BlockingCall, the call's name, and the call
  # in_file    more keywords for an object with a path, so that its file is small
  # file_size  the most bytes that the file has
  # ending     the methods that end a handle, and that tell whether it has ended
  # cost       how long `use` takes, for specs that do it over and over: :lock, :wait or :memory
  def initialize(name, kind, arguments: [], calls: {}, use: "object", idle: "object.closed?", waits: {}, cost: :lock,
                 ending: %i[close closed?], in_file: {}, file_size: %i[queue map].include?(kind) ? 1 << 20 : 64 << 10)
    @name, @kind, @arguments, @calls, @use, @idle, @cost, @ending = name, kind, arguments, calls, use, idle, cost, ending
    @in_file, @file_size = in_file, file_size
    waits.each { |call, (maker, wait)| BlockingCall.public_send(maker, "#{name}##{call}", klass, &wait) }
    ALL << self
  end

  def klass = ProcessShared.const_get(name, false)
  def file = "process_shared/#{name.to_s.gsub(/(?<=[a-z])(?=[A-Z])/, "_").downcase}"
  def make = klass.new(*arguments)
  def making = "ProcessShared::#{name}.new(#{arguments.map(&:inspect).join(", ")})"
  def at(path, **options) = klass.new(*arguments, path:, **in_file, **options)
  def making_at(path) = "ProcessShared::#{name}.new(*#{arguments.inspect}, path: #{path.inspect}, **#{in_file.inspect})"
  def takes_path? = shared? && klass.method_defined?(:path)
  def in_use(object) = eval(use, binding, __FILE__, __LINE__) # rubocop:disable Security/Eval -- our own text
  def when_idle(object) = eval(idle, binding, __FILE__, __LINE__) # rubocop:disable Security/Eval -- our own text
  def shared? = kind != :other
  def end_of(object) = object.public_send(ending.first)
  def ended?(object) = object.public_send(ending.last)

  class << self
    def shared = ALL.select(&:shared?)
    def objects = shared.reject { |entry| entry.kind == :memory } # memory can be cut, and read when it is frozen
    def with_path = ALL.select(&:takes_path?)
  end

  lock = { lock: [], try_lock: [], unlock: [], locked?: [], owned?: [], sleep: [0], synchronize: [], abandoned?: [], owner_pid: [],
           waiters: [], wakeup_first: [] }
  monitor = %i[enter try_enter exit mon_enter mon_try_enter try_mon_enter mon_exit mon_locked? mon_owned? mon_check_owner
               mon_synchronize].to_h { |name| [name, []] }
  semaphore = { wait: [], try_wait: [], post: [], value: [], synchronize: [], to_mtx: [], waiters: [], acquire: [], try_acquire: [],
                release: [], available_permits: [], drain_permits: [], reduce_permits: [1] }
  condition = { wait: [Object.new.tap { |object| def object.sleep(_) = nil }], signal: [], broadcast: [], waiters: [] }

  new(:Mutex, :synchronisation, calls: lock, use: "object.lock.unlock.synchronize { }", idle: "object.locked?", waits: {
        "lock" => [:lock, :lock.to_proc], "try_lock(60)" => [:lock, ->(taken) { taken.try_lock(60) }],
        "sleep" => [:sleep, :sleep.to_proc]
      })
  new(:Monitor, :synchronisation, calls: lock.merge(monitor), idle: "object.locked?",
                                  use: "object.synchronize { object.synchronize { object.new_cond.signal } }", waits: {
                                    "enter" => [:lock, ->(taken) { taken.enter || true }],
                                    "try_lock(60)" => [:lock, ->(taken) { taken.try_lock(60) }], "sleep" => [:sleep, :sleep.to_proc]
                                  })
  new(:Semaphore, :synchronisation, arguments: [1], calls: semaphore, use: "object.wait.post.synchronize { object.release || object.acquire }", idle: "object.value", waits: {
        "acquire(1)" => [:permit, ->(empty) { empty.acquire || true }],
        "try_acquire(2, 60)" => [:two_permits, ->(empty) { empty.try_acquire(2, 60) }],
        "acquire(2)" => [:two_permits, ->(empty) { empty.acquire(2) || true }],
        "wait" => [:permit, :wait.to_proc], "try_wait(60)" => [:permit, ->(empty) { empty.try_wait(60) }],
        "to_mtx.lock" => [:permit, ->(empty) { empty.to_mtx.lock }]
      })
  new(:BinarySemaphore, :synchronisation, arguments: [1], calls: semaphore, use: "object.wait.post.synchronize { }",
                                          idle: "object.value", waits: { "wait" => [:permit, :wait.to_proc] })
  new(:ConditionVariable, :synchronisation, calls: condition, idle: "object.waiters", cost: :wait,
                                            use: "object.signal.broadcast.wait(ProcessShared::Mutex.new.lock, 0)", waits: {
                                              "wait with a Mutex" => [:condition, -> { ProcessShared::Mutex.new }],
                                              "wait with a Monitor" => [:condition, -> { ProcessShared::Monitor.new }],
                                              "wait with a semaphore's lock" => [:condition, -> { ProcessShared::Semaphore.new.to_mtx }]
                                            })

  event = { wait: [0], set: [], set?: [], try?: [], reset: [], waiters: [] }
  new(:Event, :synchronisation, calls: event, use: "object.set && object.wait && object.reset", idle: "object.waiters",
                                waits: { "wait" => [:event, :wait.to_proc], "wait(60)" => [:event, ->(event) { event.wait(60) }] })

  number = { value: [], increment: [], up: [], decrement: [], down: [], update: [], compare_and_set: [0, 1], "value=": [0] }
  new(:AtomicFixnum, :synchronisation, calls: number, use: "object.increment && object.down", idle: "object.inspect")
  flag = { value: [], "value=": [true], true?: [], false?: [], make_true: [], make_false: [] }
  new(:AtomicBoolean, :synchronisation, calls: flag, use: "object.make_true; object.make_false", idle: "object.inspect")
  latch = { wait: [0], count_down: [], count: [], waiters: [] }
  new(:CountDownLatch, :synchronisation, arguments: [1], calls: latch, use: "object.wait(0); object.count", idle: "object.count",
                                         waits: { "wait" => [:latch, :wait.to_proc], "wait(60)" => [:latch, ->(latch) { latch.wait(60) }] })
  barrier = { wait: [0], reset: [], broken?: [], number_waiting: [], parties: [], waiters: [] }
  new(:CyclicBarrier, :synchronisation, arguments: [1], calls: barrier, use: "object.wait && object.reset", idle: "object.number_waiting",
                                        waits: { "wait" => [:barrier, :wait.to_proc], "wait(60)" => [:barrier, ->(barrier) { barrier.wait(60) }] })
  presence = { enter: [], leave: [], size: [], slots: [], pids: [], each: [] }
  new(:Presence, :synchronisation, calls: presence, use: "object.enter { |me| me.memory.put_int8(0, 1) }", idle: "object.size",
                                   file_size: 128 << 10)
  read_write = { acquire_read_lock: [], try_read_lock: [], release_read_lock: [], with_read_lock: [], acquire_write_lock: [], try_write_lock: [],
                 release_write_lock: [], with_write_lock: [], with_upgradable_lock: [], has_waiters?: [], waiters: [], write_locked?: [],
                 abandoned?: [], owner_pid: [], reader_pids: [] }
  new(:ReadWriteLock, :synchronisation, calls: read_write, idle: "object.write_locked?",
                                        use: "object.with_read_lock { } || object.with_upgradable_lock { object.with_write_lock { } }", waits: {
                                          "acquire_read_lock" => [:written, :acquire_read_lock.to_proc],
                                          "try_read_lock(60)" => [:written, ->(lock) { lock.try_read_lock(60) }],
                                          "acquire_write_lock" => [:read, :acquire_write_lock.to_proc],
                                          "acquire_write_lock after a writer" => [:written, :acquire_write_lock.to_proc]
                                        })
  limiter = { try_acquire: [], acquire: [], retry_after: [], waiters: [] }
  new(:RateLimiter, :synchronisation, arguments: [1000], calls: limiter, use: "object.try_acquire", idle: "object.waiters")

  map = { "[]": [1], get: [1], "[]=": [1, 2], put: [1, 2], store: [1, 2], fetch: [1, 2], key?: [1], put_if_absent: [1, 2], add: [1, 2],
          replace_if_exists: [1, 2], replace_pair: [1, 2, 3], get_and_set: [1, 2], delete: [1], delete_pair: [1, 2], touch: [1], increment: [1],
          decrement: [1], expires_in: [1], expires_at: [1], size: [], length: [], empty?: [], clear: [], keys: [], values: [], stats: [], bytes: [],
          waiters: [], key: [1], value?: [1] }
  %i[Map Cache].each do |name|
    new(name, :map, arguments: [1 << 16], calls: map, cost: :memory, use: "(object[1] = 2) && object.delete(1)", idle: "object.size",
                    waits: { "fetch" => [:computed, ->(map) { map.fetch(:key) { true } }],
                             "compute" => [:computed, ->(map) { map.compute(:key) { true } }] })
  end

  new(:SharedMemory, :memory, arguments: [:int32, 2000], cost: :memory, use: "object.put_object(4000, [1]) && object.get_object(4000)")
  new(:SharedArray, :memory, arguments: [:double, 4], cost: :memory, use: "(object[1] = 2.0) && object.sort")

  queue = { push: [1], :<< => [1], pop: [true], pop_all: [1], concat: [[1]], size: [], empty?: [], close: [], closed?: [], clear: [],
            num_waiting: [], waiters: [], in_flight: [] }
  BlockingCall.robust_permits("Semaphore#acquire(2) of a robust one", ProcessShared::Semaphore) { |empty| empty.acquire(2) || true }
  new(:Queue, :queue, in_file: { bytes: 5000 }, calls: queue, cost: :memory, use: "object.push(1) && object.pop", idle: "object.size", ending: %i[release released?],
                      waits: {
                        "pop" => [:item, :pop.to_proc], "pop(timeout: 60)" => [:item, ->(empty) { empty.pop(timeout: 60) }],
                        "pop with a block" => [:item, ->(empty) { empty.pop { |item| item } }],
                        "pop_all" => [:item, ->(empty) { empty.pop_all(1) }]
                      })
  new(:SizedQueue, :queue, arguments: [1], in_file: { bytes: 5000 }, calls: queue.merge(max: [], :max= => [2]), cost: :memory, use: "object.push(1) && object.pop",
                           idle: "object.size", ending: %i[release released?], waits: {
                             "push" => [:room, ->(full) { full.push(2) }],
                             "push(timeout: 60)" => [:room, ->(full) { full.push(2, timeout: 60) }]
                           })

  %i[SharedMemoryIO ObjectBuffer MonitorMixin OpenWithSelf ProcessError].each { |name| new(name, :other) }
end
