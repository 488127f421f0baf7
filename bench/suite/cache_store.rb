# frozen_string_literal: true

# ActiveSupport's store on a Cache, against the stores that come with ActiveSupport. Without debug log and subscribers.

require "tmpdir"

# The rival stores that are there: name => [store, goal].
rivals = lambda do |caches|
  folder = Dir.mktmpdir
  at_exit { FileUtils.remove_entry(folder) }
  servers = { "RedisCacheStore" => [:redis, ->(socket) { caches.lookup_store(:redis_cache_store, url: "unix://#{socket}") }],
              "MemCacheStore" => [:memcached, ->(socket) { caches.lookup_store(:mem_cache_store, socket) }] }
  stores = { "MemoryStore" => [caches.lookup_store(:memory_store), 1.0], "FileStore" => [caches.lookup_store(:file_store, folder), 0.3] }
  servers.each do |name, (server, make)|
    socket = Bench::Rivals.public_send(server)
    store = socket && make.call(socket)
    stores[name] = [store, 0.05] if store&.write("key", "value") && store.read("key") == "value"
  rescue LoadError
    nil
  end
  stores
end

# Seconds that work with a store of a server's takes, in which the client mostly waits.
asking = lambda do |store, work|
  count = Bench.quick? ? 5 : 200
  start = Bench.now
  count.times { work.call(store) }
  (Bench.now - start) / count
end

{
  "read, 100 bytes" => 'x.read("key")', "read, 100 bytes that expire" => 'x.read("expiring")',
  "write, 100 bytes" => 'x.write("key", "x" * 100)', "write, 100 bytes that expire" => 'x.write("expiring", "x" * 100, expires_in: 60)'
}.each do |work, code|
  Bench.compare("ProcessSharedStore", work) do |c|
    caches = Bench::Rivals.active_support_cache or next c.leave_out("ActiveSupport", "it is not there")

    stores = rivals.call(caches)
    ours = caches.lookup_store(:process_shared_store)
    [ours, *stores.values.map(&:first)].each { |store| store.write("key", "x" * 100) && store.write("expiring", "x" * 100, expires_in: 60) }
    c.code("ProcessSharedStore", code, x: ours)
    stores.each do |name, (store, goal)|
      next c.code(name, code, x: store, goal: goal) if goal > 0.1
      next if code.include?("expiring")

      work = eval("->(x) { #{code} }", binding, __FILE__, __LINE__) # rubocop:disable Security/Eval -- our own text
      c.timed(name, goal: goal) { asking.call(store, work) }
    end
    next if code.include?("expiring")

    (%w[RedisCacheStore MemCacheStore] - stores.keys).each { |name| c.leave_out(name, "its server or its gem is not there") }
  end
end
