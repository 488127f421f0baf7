# frozen_string_literal: true

# ActiveSupport's store on a Cache, against the stores that come with ActiveSupport. Without debug log and subscribers.

require "tmpdir"

value = "x" * 100

{ "read" => 'x.read("key")', "write" => 'x.write("key", "x" * 100)' }.each do |work, code|
  Bench.compare("ProcessSharedStore", "#{work}, 100 bytes") do |c|
    caches = Bench::Rivals.active_support_cache or next c.leave_out("ActiveSupport", "it is not there")

    stores = [caches.lookup_store(:process_shared_store), caches.lookup_store(:memory_store),
              caches.lookup_store(:file_store, Dir.mktmpdir.tap { |dir| at_exit { FileUtils.remove_entry(dir) } })]
    stores.each { |store| store.write("key", value) }
    c.code("ProcessSharedStore", code, x: stores[0])
    c.code("MemoryStore", code, x: stores[1], goal: 1.0)
    c.code("FileStore", code, x: stores[2], goal: 0.3)
  end
end
