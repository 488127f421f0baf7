# frozen_string_literal: true

# The store as ActiveSupport's users know stores: what Rails asks of all of its own.
RSpec.describe "ActiveSupport::Cache::ProcessSharedStore", skip: InstalledRails.missing do
  let!(:store) { make }

  def make(**options) = ActiveSupport::Cache.lookup_store(:process_shared_store, size: 1 << 20, **options)

  # Runs the block as if it were so many seconds later.
  def later(seconds)
    time = Time.now + seconds
    allow(Time).to receive(:now) { time }
    yield
  ensure
    allow(Time).to receive(:now).and_call_original
  end

  # Repeats the block until it takes less than so many seconds: then nothing that it wrote has expired inside it.
  def within(time, &block)
    loop { break if seconds(&block) < time }
  end

  def events(pattern)
    heard = []
    subscription = ActiveSupport::Notifications.subscribe(pattern) { |*args| heard << ActiveSupport::Notifications::Event.new(*args) }
    yield
    heard
  ensure
    ActiveSupport::Notifications.unsubscribe(subscription)
  end

  record = Struct.new(:cache_key, :cache_version)

  it "can be had by its name, with options in a Hash or as keywords, or without" do
    names = [[:process_shared_store], [:process_shared_store, { size: 1 << 20, namespace: "a" }]]
    expect(names.map { |arguments| ActiveSupport::Cache.lookup_store(*arguments).class.to_s }.uniq).to eq ["ActiveSupport::Cache::ProcessSharedStore"]
    expect(ActiveSupport::Cache::ProcessSharedStore.new.read("absent")).to be_nil
    expect(make.options).not_to include(:size, :path, :mode)
    expect(store.class).to be_supports_cache_versioning
  end

  describe "values" do
    values = [nil, true, false, 0, -1, 2**62, 2**63, 2**64, -2**63, 1.5, Float::INFINITY, :symbol, "", "text", "bücher", "b\xFFin".b,
              "\xF8\xF9".b, "\x04\x08i\x06".b, "latin \xE9".dup.force_encoding("ISO-8859-1"), "us".encode("US-ASCII"), "wide".encode("UTF-16LE"),
              [1, [nil]], { a: { "b" => 1 } }, 1..2, Time.at(0), "x" * 100_000, [nil] * 5000]
    [{}, { expires_in: 60 }, { compress: true, compress_threshold: 1 }, { version: "1" }, { expires_in: 60, version: "ü1" }].each do |options|
      it "are read as they were written, with #{options}" do
        values.each do |value|
          expect(store.write("key", value, options)).to be true
          read = store.read("key", options.slice(:version))
          expect(read).to eq(value)
          expect(read.encoding).to eq(value.encoding) if value.is_a?(String)
        end
      end
    end

    it "are copies, in both directions" do
      value = +"bar"
      store.write("key", value)
      value << "!"
      store.read("key") << "?"
      expect(store.read("key")).to eq "bar"
    end

    it "of a subclass of String stay what they are" do
      require "active_support/core_ext/string/output_safety"
      store.write("key", "<b>".html_safe)
      expect(store.read("key")).to be_html_safe
    end

    it "that cannot be marshalled are refused" do
      expect { store.write("key", proc {}) }.to raise_error(TypeError)
    end

    it "whose class is gone are absent" do
      store.write("key", stub_const("Gone", Struct.new(:a)).new(1))
      hide_const("Gone")
      expect(store.read("key")).to be_nil
      expect(store.fetch("key") { 1 }).to eq 1
    end

    it "take less room with compress: true" do
      used = [false, true].map do |compress|
        make(compress: compress).tap { |cache| cache.write("key", "0" * 100_000) }.stats[:bytes_used]
      end
      expect(used.last).to be < used.first / 10
    end

    it "that are too large are not stored, also not what was there before; the log says so" do
      store.logger = Logger.new(log = StringIO.new)
      store.write("key", 1)
      expect(store.write("key", "0" * (2 << 20))).to be false
      expect(store.read("key")).to be_nil
      expect(store.fetch("key") { "0" * (2 << 20) }.size).to eq 2 << 20
      expect(log.string).to match(/key is not stored/)
    ensure
      store.logger = nil
    end
  end

  describe "keys" do
    it "are what ActiveSupport makes of objects" do
      store.write([:fu, "foo"], 1)
      store.write({ b: 2, a: 1 }, 2)
      store.write([record.new("user/1")], 3)
      store.write(record.new(:symbol), 4)
      expect(store.read_multi("fu/foo", "a=1/b=2", "user/1", "symbol").values).to eq [1, 2, 3, 4]
    end

    it "may be long, and have any characters and encoding" do
      ["x" * 5000, "#/:*(<+=> )&$%@?;'\"'`~-", "bücher", "bücher".encode("ISO-8859-1"), "\xFF".b].each do |key|
        store.write(key, key.size)
        expect([store.read(key), store.read("#{key}x".b), store.delete(key)]).to eq [key.size, nil, true]
      end
      store.write("bücher".b, 1)
      expect(store.read("bücher")).to eq 1
      expect(store.read("BÜCHER")).to be_nil
    end

    it "are apart in namespaces, of the store and of the call, also computed ones" do
      store.write("key", 1)
      store.write("key", 2, namespace: "a")
      store.write("key", 3, namespace: -> { "b" })
      expect([store.read("key"), store.read("a:key"), store.read("b:key"), store.read("key", namespace: "b")]).to eq [1, 2, 3, 3]
      store.increment("n", 5, namespace: "a")
      expect(store.read("a:n")).to eq 5
    end
  end

  describe "fetch" do
    it "computes what is absent, and gives the block the key" do
      expect(store.fetch("key") { |key| key * 2 }).to eq "keykey"
      expect(store.fetch("key") { raise }).to eq "keykey"
      expect(store.fetch("key")).to eq "keykey"
      expect(store.fetch("other")).to be_nil
    end

    it "keeps nil, unless skip_nil says otherwise" do
      expect(store.fetch("key", skip_nil: true) { nil }).to be_nil
      expect(store.exist?("key")).to be false
      store.fetch("key") { nil }
      expect(store.exist?("key")).to be true
      expect(store.fetch("key") { raise }).to be_nil
    end

    it "computes with force in any case, and needs a block for that" do
      store.write("key", 1)
      expect(store.fetch("key", force: true) { 2 }).to eq 2
      expect { store.fetch("key", force: true) }.to raise_error(ArgumentError)
      expect(store.read("key")).to eq 2
    end

    it "with race_condition_ttl lets one compute while the others have the old value" do
      store.write("key", "old", expires_in: 60, race_condition_ttl: 10)
      later(61) do
        seen = store.fetch("key", race_condition_ttl: 10, expires_in: 60) { store.read("key") + ", new" }
        expect([seen, store.read("key")]).to eq ["old, new", "old, new"]
      end
    end

    it "with race_condition_ttl leaves the old value for a while when the block raises" do
      store.write("key", "old", expires_in: 60, race_condition_ttl: 10)
      later(61) do
        expect { store.fetch("key", race_condition_ttl: 10) { raise IOError } }.to raise_error(IOError)
        expect(store.read("key")).to eq "old"
      end
      later(92) { expect(store.read("key")).to be_nil }
    end

    it "with race_condition_ttl does not bring back what expired long ago" do
      store.write("key", "old", expires_in: 60, race_condition_ttl: 10)
      later(71) { expect(store.fetch("key", race_condition_ttl: 10) { store.read("key") }).to be_nil }
    end

    it "with race_condition_ttl finds an entry that the cache's own clock has let expire by a little" do
      store.write("key", "old", expires_in: 0.01, race_condition_ttl: 30)
      wait_until("its end") { store.read("key").nil? || true and !store.exist?("key") }
      store.write("key", "old", expires_in: 0.01, race_condition_ttl: 30)
      wait_until("its end") { !store.exist?("key") }
      expect(store.fetch("key", race_condition_ttl: 30) { store.read("key") }).to eq "old"
    end
  end

  describe "expiry" do
    it "is that of the call, or of the store, or none" do
      short = make(expires_in: 10)
      short.write("a", 1)
      short.write("b", 1, expires_in: 100)
      store.write("c", 1)
      later(11) { expect([short.read("a"), short.read("b"), store.read("c")]).to eq [nil, 1, 1] }
      later(101) { expect([short.exist?("b"), store.read("c")]).to eq [false, 1] }
    end

    it "may be a Duration" do
      require "active_support/duration"
      seconds = ActiveSupport::Duration.build(10)
      store.write("key", 1, expires_in: seconds, race_condition_ttl: seconds)
      expect([store.increment("n", 1, expires_in: seconds), store.write("raw", 1, expires_in: seconds, raw: true)]).to eq [1, true]
      later(9) { expect(store.read("key")).to eq 1 }
      later(11) { expect(store.read("key")).to be_nil }
    end

    it "takes expires_at where ActiveSupport does" do
      skip "not in ActiveSupport 6.1" if ActiveSupport::VERSION::MAJOR < 7
      store.write("key", 1, expires_at: Time.now + 10)
      store.increment("n", 1, expires_at: Time.now + 1000)
      later(9) { expect(store.read("key")).to eq 1 }
      later(11) { expect(store.read_multi("key", "n")).to eq("n" => 1) }
    end

    it "is real also for the cache itself, which forgets the entry" do
      store.write("a", "1", expires_in: 0.01)
      store.write("b", 1, expires_in: 0.01, raw: true)
      wait_until("their end") { store.stats[:entries].zero? || store.read_multi("a", "b").empty? }
      expect(store.read("a")).to be_nil
    end
  end

  describe "versions" do
    it "hide what has another one" do
      store.write("key", "one", version: 1)
      expect([store.read("key", version: 2), store.read("key", version: 1), store.read("key")]).to eq [nil, "one", "one"]
      expect([store.exist?("key", version: 2), store.exist?("key", version: 1)]).to eq [false, true]
      expect(store.fetch("key", version: 2) { "two" }).to eq "two"
      expect(store.read("key", version: 1)).to be_nil
    end

    it "are those of the keys" do
      old, new = record.new("key", 1), record.new("key", 2)
      store.write(old, "one")
      store.write_multi({ record.new("m", 1) => "m one" })
      expect([store.read(new), store.read(old), store.read_multi(record.new("m", 1), new)]).to eq [nil, "one", { record.new("m", 1) => "m one" }]
    end
  end

  describe "several at once" do
    it "are read and written" do
      expect(store.read_multi).to eq({})
      store.write_multi({ "a" => 1, "b" => [2], "c" => nil }, expires_in: 60)
      expect(store.read_multi("a", "b", "c", "d")).to eq("a" => 1, "b" => [2], "c" => nil)
      later(61) { expect(store.read_multi("a", "b")).to eq({}) }
    end

    it "are fetched in the order of their names" do
      store.write("b", "B")
      expect(store.fetch_multi("a", "b", "c") { |name| name * 2 }.to_a).to eq [%w[a aa], %w[b B], %w[c cc]]
      expect(store.read_multi("a", "b", "c").values).to eq %w[aa B cc]
      expect { store.fetch_multi("a") }.to raise_error(ArgumentError)
    end

    it "are deleted, and counted" do
      store.write_multi({ "a" => 1, "b" => 2, "c" => 3 })
      expect(store.delete_multi(%w[a absent c])).to eq 2
      expect(store.read_multi("a", "b", "c")).to eq("b" => 2)
    end
  end

  it "writes with unless_exist what is absent or has expired" do
    expect(store.write("key", 1, unless_exist: true)).to be true
    expect(store.write("key", 2, unless_exist: true)).to be false
    expect(store.read("key")).to eq 1
    store.write("old", 1, expires_in: 10, race_condition_ttl: 100)
    later(11) do
      expect([store.write("old", 2, unless_exist: true, expires_in: 10), store.write("old", 3, unless_exist: true)]).to eq [true, false]
      expect(store.read("old")).to eq 2
    end
    expect(store.write("key", 3, unless_exist: true, raw: true)).to be false
  end

  it "deletes, and says whether there was something" do
    store.write("key", false)
    expect([store.delete("key"), store.delete("key"), store.exist?("key")]).to eq [true, false, false]
  end

  describe "delete_matched" do
    before { %w[foo/bar fu/baz foo/x].each { |key| [store, make_namespaced].each { |cache| cache.write(key, 1) } } }

    def make_namespaced = @make_namespaced ||= make(namespace: "ns")

    it "deletes by a Regexp" do
      expect(store.delete_matched(/oo/)).to eq 2
      expect(store.read_multi("foo/bar", "fu/baz", "foo/x").keys).to eq ["fu/baz"]
    end

    it "deletes by a shell's pattern" do
      store.write("foo/.hidden", 1)
      expect(store.delete_matched("foo/*")).to eq 3
      expect(store.delete_matched("?u/[a-c]*")).to eq 1
    end

    it "keeps to its namespace" do
      expect(make_namespaced.delete_matched(/^foo/)).to eq 2
      expect(make_namespaced.delete_matched("fu*")).to eq 1
      expect(make_namespaced.delete_matched("*", namespace: "other")).to eq 0
    end
  end

  it "clears all; with a namespace, that" do
    store.write("a", 1)
    store.write("b", 2, namespace: "ns")
    store.clear(namespace: "ns")
    expect([store.read("a"), store.read("ns:b")]).to eq [1, nil]
    store.clear
    expect(store.stats[:entries]).to eq 0
  end

  it "cleans up what has expired, and nothing else" do
    store.write("a", "1", expires_in: 10, race_condition_ttl: 1000)
    store.write("b", "2", expires_in: 10, compress: true, compress_threshold: 1)
    store.write("c", "3", expires_in: 100)
    store.write("d", "4")
    store.increment("e")
    later(11) { store.cleanup }
    expect(store.read_multi("a", "b", "c", "d", "e")).to eq("c" => "3", "d" => "4", "e" => 1)
  end

  describe "counting" do
    it "begins at 0, goes both ways, and says the new number" do
      expect([store.increment("n"), store.increment("n", 10), store.decrement("n", 3), store.decrement("m")]).to eq [1, 11, 8, -1]
      expect([store.read("n"), store.read("n", raw: true), store.exist?("n")]).to eq [8, "8", true]
    end

    it "goes on from what was written raw" do
      [5, "5"].each do |five|
        store.write("n", five, raw: true)
        expect([store.read("n", raw: true), store.increment("n"), store.read("n", raw: true), store.decrement("n", 2)]).to eq ["5", 6, "6", 4]
      end
      expect(store.fetch("m", raw: true) { 2 }).to eq 2
      expect([store.fetch("m", raw: true), store.increment("m")]).to eq ["2", 3]
    end

    it "goes on from what was written otherwise, and leaves it its time" do
      written = { "integer" => 5, "string" => "5", "versioned" => 5, "compressed" => "5", "expiring" => 5 }
      options = { "versioned" => { version: "1" }, "compressed" => { compress: true, compress_threshold: 1 }, "expiring" => { expires_in: 60 } }
      written.each do |key, value|
        store.write(key, value, options.fetch(key, {}))
        expect([key, store.increment(key), store.read(key)]).to eq [key, 6, 6]
      end
      within(0.2) { store.write("short", 5, expires_in: 0.2) && store.increment("short") }
      wait_until("its end") { store.read("short").nil? }
      store.write("old", 5, expires_in: 10)
      later(11) { expect(store.increment("old")).to eq 1 }
    end

    it "counts its time from the first" do
      within(0.5) do
        store.delete("n")
        store.increment("n", 1, expires_in: 0.5)
        store.increment("n", 1, expires_in: 3600)
      end
      wait_until("its end") { store.read("n").nil? }
      expect(store.increment("n")).to eq 1
    end

    it "refuses what has not 64 bits, and what is no number" do
      store.write("n", 2**63 - 1, raw: true)
      expect { store.increment("n") }.to raise_error(RangeError)
      expect { store.increment("n", "many") }.to raise_error(ArgumentError)
      expect(store.read("n", raw: true)).to eq((2**63 - 1).to_s)
    end

    it "is exact over processes, and begins once" do
      store.write("plain", 0)
      children = Array.new(4) { fork_child { Array.new(100) { [store.increment("n", 1, expires_in: 600), store.increment("plain")] } } }
      all = children.flat_map(&:value).transpose
      expect(all.map(&:sort)).to eq [(1..400).to_a] * 2
    end
  end

  describe "raw values" do
    it "are the Strings that were written" do
      ["1", "01", "+1", "-0", " 1", "1\n", (2**70).to_s, (-2**63).to_s, "text", "bücher", "", "\xF8bin".b, Marshal.dump([])].each do |text|
        store.write("key", text, raw: true)
        expect([store.read("key", raw: true), store.fetch("key", raw: true), store.read_multi("key", raw: true)]).to eq [text, text, { "key" => text }]
      end
      store.write("key", :bar, raw: true)
      expect([store.read("key", raw: true), store.read("key")]).to eq %w[bar bar]
    end

    it "expire" do
      store.write("key", "text", raw: true, expires_in: 0.01)
      wait_until("its end") { store.read("key", raw: true).nil? }
      expect(store.exist?("key")).to be false
    end
  end

  describe "with a coder of the user's" do
    require "json"
    coder = Module.new do
      def self.dump(entry) = JSON.generate([entry.value, entry.expires_at, entry.version])
      def self.load(text) = JSON.parse(text).then { |value, at, version| ActiveSupport::Cache::Entry.new(value, compress: false, version: version).tap { |entry| entry.expires_at = at } }
    end

    it "stores what that makes" do
      coded = make(coder: coder)
      coded.write("key", { "a" => "ü" }, expires_in: 10)
      expect([coded.read("key"), coded.fetch("key"), coded.increment("n"), coded.read("n")]).to eq [{ "a" => "ü" }, { "a" => "ü" }, 1, 1]
      coded.write("raw", "\xF8bin".b, raw: true)
      expect(coded.read("raw", raw: true)).to eq "\xF8bin".b
      later(11) { coded.cleanup && expect(coded.read("key")).to(be_nil) }
    end

    it "works without one, too" do
      bare = make(coder: nil)
      bare.write("key", [1], version: "1")
      bare.write("n", 5, expires_in: 60)
      expect([bare.read("key"), bare.read("key", version: "2"), bare.increment("n"), bare.read("n")]).to eq [[1], nil, 6, 6]
    end

    it "takes a serializer and a compressor where ActiveSupport does" do
      skip "not before ActiveSupport 7.1" if ActiveSupport::VERSION::STRING.to_f < 7.1
      serialized = make(serializer: :marshal_7_1, compressor: Zlib, compress: true, compress_threshold: 1)
      serialized.write("key", "0" * 1000, expires_in: 60)
      expect(serialized.read("key")).to eq "0" * 1000
      later(61) { expect(serialized.read("key")).to be_nil }
    end
  end

  describe "instrumentation" do
    it "tells reads, hits and misses" do
      store.write("key", 1)
      heard = events(/\Acache_/) { store.fetch("key") { }; store.read("absent"); store.fetch("absent") { 2 } }
      expect(heard.map { |event| [event.name[/\Acache_(.*)\./, 1], event.payload[:hit]] })
        .to eq [["read", true], ["fetch_hit", nil], ["read", false], ["read", false], ["generate", nil], ["write", nil]]
      expect(heard.map { |event| event.payload[:store] }.uniq).to eq ["ActiveSupport::Cache::ProcessSharedStore"]
      expect(heard.first.payload[:super_operation]).to eq :fetch
    end

    it "tells what changes" do
      heard = events(/\Acache_/) do
        store.write_multi({ "a" => 1 })
        store.read_multi("a", "b")
        store.increment("n", 2)
        store.decrement("n", 3)
        store.delete("a")
        store.delete_matched(/n/)
        store.cleanup
      end
      expect(heard.map { |event| event.name[/\Acache_(.*)\./, 1] })
        .to eq %w[write_multi read_multi increment decrement delete delete_matched cleanup]
      expect([heard[1].payload[:hits], heard[2].payload.values_at(:key, :amount)]).to eq [["a"], ["n", 2]]
    end

    it "logs at the debug level" do
      store.logger = Logger.new(log = StringIO.new)
      store.read("key")
      store.increment("n")
      store.cleanup
      store.mute { store.read("silent") }
      expect(log.string).to match(/Cache read: key.*Cache increment: n.*Cache cleanup/m)
      expect(log.string).not_to include "silent"
    ensure
      store.logger = nil
    end
  end

  describe "LocalCache" do
    it "keeps what was read, and what was written" do
      store.write("key", [1])
      store.with_local_cache do
        expect(store.read("key")).to eq [1]
        written_elsewhere("key", 2)
        expect([store.read("key"), store.fetch("key"), store.exist?("key")]).to eq [[1], [1], true]
        store.write("key", 3)
        written_elsewhere("key", 4)
        expect(store.read("key")).to eq 3
        store.delete("key")
        expect(store.read("key")).to be_nil
      end
      expect(store.read("key")).to be_nil
    end

    # A write of another process.
    def written_elsewhere(key, value, **options) = in_child { store.write(key, value, options) }

    it "sees what it counts itself, and counts what others have counted" do
      store.with_local_cache do
        store.write("n", 1, raw: true)
        expect(store.read("n", raw: true)).to eq "1"
        written_elsewhere("n", 5, raw: true)
        expect([store.increment("n"), store.read("n").to_i, store.decrement("n", 2), store.read("n").to_i]).to eq [6, 6, 4, 4]
      end
    end

    it "forgets with clear, cleanup and delete_matched" do
      store.with_local_cache do
        %i[clear cleanup].each do |way|
          store.write("key", 1)
          written_elsewhere("key", 2)
          store.public_send(way)
          expect(store.read("key")).to eq(way == :clear ? nil : 2)
        end
        store.delete_matched(/key/)
        expect(store.read("key")).to be_nil
      end
    end

    it "knows what several calls read and write, and what unless_exist refuses" do
      store.write("there", 1)
      store.with_local_cache do
        store.write_multi({ "a" => 1, "b" => 2 })
        expect(store.read_multi("a", "b", "there")).to eq("a" => 1, "b" => 2, "there" => 1)
        expect([store.write("there", 2, unless_exist: true), store.read("there")]).to eq [false, 1]
      end
    end

    it "comes as middleware" do
      seen = nil
      application = store.middleware.new(lambda do |_env|
        store.write("key", 1)
        written_elsewhere("key", 2)
        seen = store.read("key")
        [200, {}, []]
      end)
      application.call({}).last.then { |body| body.close if body.respond_to?(:close) }
      expect([seen, store.read("key")]).to eq [1, 2]
    end
  end

  describe "processes" do
    it "share all entries" do
      store.write("parent", { a: 1 })
      expect(in_child { store.write("child", "text", expires_in: 60) && store.read("parent") }).to eq(a: 1)
      expect(store.read("child")).to eq "text"
      in_child { store.delete("parent") }
      expect(store.exist?("parent")).to be false
    end

    it "that are not related share them by a path",
       unstressed: "Ruby 3.1's compiler loses objects while it loads ActiveSupport" do
      skip "a Cache takes no path here" unless ProcessShared::Cache.method_defined?(:path)
      Dir.mktmpdir do |dir|
        make(path: "#{dir}/cache").write("key", "text")
        load = "require 'active_support'; require 'active_support/cache'"
        script = "#{load}; print ActiveSupport::Cache.lookup_store(:process_shared_store, size: #{1 << 20}, path: '#{dir}/cache').read('key')"
        expect(ruby(script, within: 60)).to eq "text"
        expect(File.stat("#{dir}/cache").mode & 0o777).to eq 0o600
      end
    end
  end

  describe "a process that is killed at any step", :unstressed, limit: 120 do
    include Recipes

    it "has counted or has not, also what was written otherwise, and leaves it its time" do
      steps = kill_at_every_step(-> { store.send(:change, "n", 1, nil) }, stride: 3) do
        store.write("n", 5, expires_in: 60, version: "1")
        lambda do
          expect(store.read("n")).to eq(5).or eq(6)
          expect(store.increment("n")).to eq(6).or eq(7)
        end
      end
      expect(steps).to be > 20
    end
  end

  it "says what it holds" do
    store.write("key", 1)
    expect(store.inspect).to match(/\A#<ActiveSupport::Cache::ProcessSharedStore entries=1, size=\d+, options=\{/)
    expect(store.stats).to include(entries: 1, stores: 1)
  end
end
