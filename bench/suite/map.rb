# frozen_string_literal: true

require "socket"

# Maps: beside a Hash under core's lock, and beside themselves with more entries, readers and writers.
module Maps
  VALUE = "x" * 100
  KEY = "key" # one that is there: where a key is written in the code, Ruby makes it anew for all but a Hash

  module_function

  # A map of so many entries, and some of its keys in no order.
  def filled(count, kind: ProcessShared::Map, value: VALUE, sample: 10_000)
    map = kind.new([count * (value.bytesize + 64) * 5 / 4, 1 << 16].max)
    count.times { |number| map["key #{number}"] = value }
    random = Random.new(1)
    [map, Array.new(sample) { "key #{random.rand(count)}" }]
  end

  # A map with an entry of so many bytes, and room for the one that replaces it.
  def of_one(bytes) = ProcessShared::Map.new(3 * bytes + (1 << 16)).tap { |map| map["key"] = "x" * bytes }

  # Seconds of processor time that a read of one of the keys takes.
  def read(map, keys)
    start = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID)
    keys.each { |key| map[key] }
    (Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID) - start) / keys.size
  end

  # Seconds of processor time that a read takes while each of so many processes reads: those of the slowest.
  def read_in(processes, map, keys)
    taken = ProcessShared::SharedArray.new(:double, processes)
    Bench::Crew.time(processes) { |number| taken[number] = read(map, keys) }
    taken.max
  end

  # Seconds a read takes while another process writes that key.
  def read_beside_a_writer(map, count)
    keys = ["key"] * count
    Bench::Crew.with(1, ->(_) { loop { map["key"] = VALUE } }) do |crew|
      crew.go
      sleep 0.001
      read(map, keys)
    end
  end

  # Stores a value where there is room.
  def try_store(map, key)
    map[key] = VALUE
  rescue ProcessShared::FullError
    nil
  end

  # Bytes of memory that a process has of shared pages.
  def shared_memory = File.read("/proc/self/status")[/^RssShmem:\s+(\d+)/, 1].to_i << 10

  # Memory that so many entries take, as a part of their bytes.
  def overhead(count)
    bytes = count * (VALUE.bytesize + 8)
    before = shared_memory
    map = ProcessShared::Map.new(count * (VALUE.bytesize + 40))
    count.times { |number| map[number] = VALUE }
    (shared_memory - before).fdiv(bytes)
  end

  # The processor time of each `store` into a cache that is full, sorted.
  def stores_while_evicting(bytes, count)
    cache = ProcessShared::Cache.new(bytes)
    (bytes / 100).times { |number| cache[number] = VALUE }
    Array.new(count) do |number|
      start = Process.clock_gettime(Process::CLOCK_THREAD_CPUTIME_ID)
      cache[-number] = VALUE
      Process.clock_gettime(Process::CLOCK_THREAD_CPUTIME_ID) - start
    end.sort
  end

  # A stream of keys: a few often, most seldom, with scans of keys that nobody asks for again, if they are wanted.
  def stream(count, scans)
    random = Random.new(7)
    sum = 0.0
    sums = (1..100_000).map { |rank| sum += rank**-0.9 }
    scan = 100_000
    Array.new(count) do |step|
      next scan += 1 if scans && step % 5000 < 1000

      point = random.rand * sum
      sums.bsearch_index { |part| part >= point }
    end
  end

  # Hits of a cache of so many bytes.
  def hits(bytes, keys)
    cache = ProcessShared::Cache.new(bytes)
    keys.count { |key| cache[key] || !(cache[key] = VALUE) }
  end

  # Hits of a cache that drops what was used least recently, and has room for so many bytes of entries like ours alone.
  def lru_hits(bytes, keys)
    entries = {}
    most = bytes / 128
    keys.count do |key|
      there = entries.delete(key)
      entries[key] = true
      entries.shift if entries.size > most
      there
    end
  end

  # Sends a request to Redis, and takes the answer: a line, and the bytes that it announces.
  def ask(socket, request)
    socket.write(request)
    line = socket.gets
    line.start_with?("$") ? socket.read(line.delete_prefix("$").to_i + 2) : line
  end
end

map, hash = ProcessShared::Map.new(1 << 20), { "key" => Maps::VALUE }
map["key"] = Maps::VALUE
lock = Thread::Mutex.new
beside = [hash, lock]
{
  "map[key], 100 bytes" => ["x[Maps::KEY]", "x[1].synchronize { x[0][Maps::KEY] }", 1.5],
  "map[key] = value, 100 bytes" => ["x[Maps::KEY] = Maps::VALUE", "x[1].synchronize { x[0][Maps::KEY] = Maps::VALUE }", 3.0],
  "increment" => ["x.increment('n')", "x[1].synchronize { x[0]['n'] = (x[0]['n'] || 0) + 1 }", 2.0]
}.each do |work, (ours, theirs, goal)|
  Bench.compare("Map", work) do |c|
    c.code("Map", ours, x: map)
    c.code("a Hash under Thread::Mutex", theirs, x: beside, goal: goal)
  end
end

small, small_keys = Maps.filled(1000)
rounds = Bench.quick? ? 100 : 200_000
keys = small_keys.cycle.first(rounds)
Bench.compare("Map", "reading in 2 processes at once", rounds: 21) do |c|
  c.timed("2 processes") { Maps.read_in(2, small, keys) }
  c.timed("one alone", goal: 1.25) { Maps.read_in(1, small, keys) }
end
Bench.compare("Map", "reading while another process writes that key", rounds: 21) do |c|
  c.timed("beside a writer") { Maps.read_beside_a_writer(map, rounds) }
  c.timed("undisturbed", goal: 2.2) { Maps.read(map, ["key"] * rounds) }
end

many = Bench.quick? ? 2000 : 500_000
large, large_keys = Maps.filled(many)
Bench.compare("Map", "a read among 500,000 entries") do |c|
  c.timed("among 500,000") { Maps.read(large, large_keys) }
  c.timed("among 1,000", goal: 3.0) { Maps.read(small, small_keys) }
end
large.close
large = large_keys = nil

Bench.compare("Map", "map[key] beside Redis") do |c|
  path = Bench::Rivals.redis or next c.leave_out("Redis", "it is not there")

  socket = UNIXSocket.new(path)
  Maps.ask(socket, "*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$100\r\n#{Maps::VALUE}\r\n")
  count = Bench.quick? ? 10 : 1000
  c.code("Map", "x[Maps::KEY]", x: map)
  c.timed("GET over a UNIX socket", goal: 0.02) do
    start = Bench.now
    count.times { Maps.ask(socket, "*2\r\n$3\r\nGET\r\n$3\r\nkey\r\n") }
    (Bench.now - start) / count
  end
end

Bench.count("memory of a million entries of 100 bytes", limit: 1.6, unit: "of their bytes") { Maps.overhead(Bench.quick? ? 50_000 : 1_000_000).round(2) }
count = Bench.quick? ? 2000 : 1_000_000
times = Maps.stores_while_evicting(Bench.quick? ? 1 << 18 : 64 << 20, count)
Bench.count("the longest of #{Bench::Report.number(count)} stores into a full cache of 64 MB", unit: "us") { times.last * 1e6 }
Bench.count("the longest but for one in a thousand", unit: "us") { times[-(count / 1000) - 1] * 1e6 }
{ "a Zipf stream" => false, "a Zipf stream with scans" => true }.each do |what, scans|
  keys = Maps.stream(Bench.quick? ? 5000 : 500_000, scans)
  bytes = Bench.quick? ? 1 << 18 : 2 << 20
  ours, lru = Maps.hits(bytes, keys), Maps.lru_hits(bytes, keys)
  Bench.count("hits of LRU where a Cache has 100, #{what}#{" (too short to tell)" if Bench.quick?}", limit: Bench.quick? ? nil : 100.0) { lru * 100.0 / ours }
end

Bench.grow("map_entries", "A read among n entries", "entries", [1000, 10_000, 100_000, 1_000_000, 10_000_000], rounds: 3,
           "map[key]" => ->(n) { Maps.read(*Maps.filled(n, value: "x" * 8)) })
Bench.grow("map_value", "An entry of n bytes", "bytes of its value", [8, 80, 800, 8000, 80_000, 800_000, 8_000_000],
           "map[key]" => ->(n) { Maps.read(Maps.of_one(n), ["key"] * [20_000_000 / (n + 20_000), 1].max) },
           "map[key] = value" => ->(n) { Bench::Comparison.time("x['key'] = y", Maps.of_one(n), "x" * n) })
Bench.grow("map_processes", "A read, and an increment of one key, in n processes at once", "processes", [1, 2, 4, 8, 16, 32, 64],
           "map[key]" => ->(n) { Maps.read_in(n, small, small_keys.first(2000)) },
           "increment" => ->(n) { Bench::Crew.time(n) { 2000.times { small.increment("n") } } / 2000 / n })
Bench.grow("map_fill", "A store into a map that is full to n percent, or its refusal", "percent", [10, 25, 50, 75, 90, 95, 100],
           "map[key] = value" => lambda do |n|
             bytes = Bench.quick? ? 1 << 16 : 8 << 20
             full = ProcessShared::Map.new(bytes)
             count = bytes * n / 100 / 128
             count.times { |number| Maps.try_store(full, number) }
             random = Random.new(2)
             times = Bench.quick? ? 10 : 20_000
             start = Bench.now
             times.times { Maps.try_store(full, random.rand(count)) }
             (Bench.now - start) / times
           end)
