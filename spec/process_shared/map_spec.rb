# frozen_string_literal: true

# What Map and Cache have in common; what Cache does when it is full is in cache_spec.rb.
[ProcessShared::Map, ProcessShared::Cache].each do |kind|
  RSpec.describe kind do
    let!(:map) { described_class.new(1 << 20) }

    values = [nil, true, false, 0, -1, (2**62) - 1, -(2**62), 2**62, 2**100, 1.5, -0.0, Float::INFINITY, "", "text", "é", "\xFF".b, "a".encode("UTF-16LE"),
              "a".encode("US-ASCII"), "é".encode("EUC-JP", invalid: :replace, undef: :replace), "x" * 300, "y" * 70_000, :sym, :"é sym", [], [1, ["a"]],
              { a: 1 }, 1..2, 3/4r, String, Time.at(1, 5, :nsec)]

    it "gives back what was stored, with class and encoding, each time anew" do
      values.each do |value|
        map[:key] = value
        found = map[:key]
        expect(found).to eql value
        expect(found.encoding).to eq value.encoding if value.is_a?(String)
      end
      map["text"] = +"text"
      map["text"] << "changed"
      expect([map["text"], map["text"].frozen?]).to eq ["text", false]
      expect(map["none"]).to be_nil
    end

    it "has for equal keys those that eql? has for equal" do
      keys = values.reject { |value| value.is_a?(Range) || value == "text".encode("US-ASCII") } + [1, 1.0, "1", :"1", [1], ["1"], [[1]], "é".b, "sym", 0.5]
      keys.uniq!
      keys.each_with_index { |key, index| map[key] = index }
      keys.each_with_index { |key, index| expect(map[key.is_a?(Module) ? key : key.dup]).to eq(index), key.inspect }
      expect(map.size).to eq keys.size
      expect(map.keys).to match_array keys
    end

    it "takes Strings of other classes, and of other encodings with the same ASCII, for the same key" do
      text = Class.new(String)
      map["key"] = 1
      expect([map[text.new("key")], map["key".encode("US-ASCII")], map["key".b], map[+"key"], map[:key]]).to eq [1, 1, 1, 1, nil]
      map[["a", "a"]] = 2
      same = "a"
      expect([map[[same, same]], map[["a".b, same]], map[0.0], (map[-0.0] = 3) && map[0.0]]).to eq [2, 2, nil, 3]
    end

    it "shows processes what others store, and takes what they delete" do
      in_child { map["child"] = { pid: 1 } }
      expect(map["child"]).to eq({ pid: 1 })
      in_child { map.delete("child") }
      expect(map.key?("child")).to be false
    end

    it "does what Concurrent::Map does" do
      expect([map.put_if_absent(:a, 1), map.put_if_absent(:a, 2), map.add(:b, 5)]).to eq [nil, 1, nil]
      expect([map.replace_if_exists(:a, 3), map.replace_if_exists(:none, 3), map.key?(:none)]).to eq [1, nil, false]
      expect([map.replace_pair(:a, 1, 4), map.replace_pair(:a, 3, 4), map.replace_pair(:none, nil, 1)]).to eq [false, true, false]
      expect([map.get_and_set(:a, 5), map.get_and_set(:new, 6), map[:new]]).to eq [4, nil, 6]
      expect([map.delete_pair(:a, 1), map.delete_pair(:a, 5), map.delete(:b), map.delete(:b)]).to eq [false, true, 5, nil]
      expect([map.fetch(:new), map.fetch(:none, 7), map.key(6), map.key(0), map.value?(6), map.put(:p, 1)]).to eq [6, 7, :new, nil, true, 1]
      expect { map.fetch(:none) }.to raise_error(KeyError, "key not found: :none")
      expect([map.fetch_or_store(:f, 1), map.fetch_or_store(:f, 2), map.fetch_or_store(:g) { |key| key }]).to eq [1, 1, :g]
      expect([map.compute_if_present(:none) { 1 }, map.compute_if_present(:f) { |old| old + 1 }, map.compute_if_present(:f) { nil }]).to eq [nil, 2, nil]
      expect([map.compute(:f) { |old| [old] }, map.compute(:f) { |old| [old] }, map.compute(:f) { nil }, map.key?(:f)]).to eq [[nil], [[nil]], nil, false]
      expect([map.merge_pair(:m, 1) { 0 }, map.merge_pair(:m, 1) { |old| old + 1 }, map.merge_pair(:m, 1) { nil }, map.key?(:m)]).to eq [1, 2, nil, false]
      expect([map.size, map.length, map.empty?, map.clear.equal?(map), map.empty?]).to eq [3, 3, false, true, true]
    end

    it "lets a block change the value that it is given" do
      map[:list] = [1]
      expect(map.compute(:list) { |list| list << 2 }).to eq [1, 2]
      expect(map.compute_if_present(:list) { |list| list << 3 }).to eq [1, 2, 3]
      expect(map.merge_pair(:list, []) { |list| list << 4 }).to eq [1, 2, 3, 4]
      expect(map[:list]).to eq [1, 2, 3, 4]
      map[:text] = "a"
      expect([map.compute(:text) { |text| text << "b" }, map[:text]]).to eq %w[ab ab]
    end

    it "replaces a value that Marshal writes otherwise once it has loaded it" do
      map[:error] = RuntimeError.new("x")
      expect(map.compute(:error) { |error| [error.message] }).to eq ["x"]
      map[:error] = RuntimeError.new("y")
      expect(map.compute_if_present(:error) { nil }).to be_nil
      expect(map.key?(:error)).to be false
    end

    it "calls the block again when the value has been changed meanwhile" do
      map[:n] = 1
      others = [5, 7]
      expect(map.compute(:n) { |old| others.empty? ? old + 1 : (map[:n] = others.shift) && 0 }).to eq 8
      expect(map.compute(:none) { |old| old ? old + 1 : (map[:none] = 1) && 0 }).to eq 2
    end

    it "lets out whatever a block raises" do
      [StopIteration, KeyError].each do |error|
        expect { map.compute(:n) { raise error } }.to raise_error(error)
        map[:m] = 1
        expect { map.merge_pair(:m, 1) { raise error } }.to raise_error(error)
        expect { map.compute_if_present(:m) { raise error } }.to raise_error(error)
      end
    end

    it "takes false and nil for values that are present" do
      map[:false], map[:nil] = false, nil
      expect([map.compute_if_present(:false, &:!), map[:false]]).to eq [true, true]
      expect([map.compute_if_present(:nil, &:inspect), map[:nil]]).to eq %w[nil nil]
    end

    it "goes through all entries" do
      1000.times { |number| map[number] = number.to_s }
      pairs = {}
      expect(map.each_pair { |key, value| pairs[key] = value }).to be map
      expect(pairs).to eq((0...1000).to_h { |number| [number, number.to_s] })
      expect(map.each.to_h).to eq pairs
      expect([map.keys.sort, map.values.map(&:to_i).sort]).to eq [[*0...1000]] * 2
      expect([map.each_pair.size, map.each_key.to_a.size, map.each_value.count, map.each_pair.first.size]).to eq [1000, 1000, 1000, 2]
      map.each_key { |key| map.delete(key) }
      expect(map).to be_empty
    end

    it "sees an entry that is there all the time once, whatever happens meanwhile" do
      100.times { |number| map[number] = 0 }
      writer = fork_child { loop { |_| map[rand(100)] = "x" * rand(500); map[[rand(1000)]] = 1; map.delete([rand(1000)]) } }
      20.times { expect(map.keys.grep(Integer).sort).to eq [*0...100] }
      writer.kill
    end

    it "counts, in one step" do
      expect([map.increment(:n), map.increment(:n, 5), map.decrement(:n), map.decrement(:n, 2), map[:n]]).to eq [1, 6, 5, 3, 3]
      expect([map.increment(:f, 0.5), map.increment(:f), map.increment(:n, 0.5), map[:n]]).to eq [0.5, 1.5, 3.5, 3.5]
      expect([map.increment(:i, 1, initial: 10), map.increment(:i, 1, initial: 10), map.decrement(:d, initial: 3)]).to eq [11, 12, 2]
      map[:text] = "1"
      expect { map.increment(:text) }.to raise_error(TypeError)
      expect { map.increment(:n, "1") }.to raise_error(TypeError)
      map[:most] = (2**62) - 1
      expect(map.increment(:most, (2**63) - (2**62))).to eq (2**63) - 1
      expect { map.increment(:most) }.to raise_error(RangeError)
      expect([map[:most], map.increment(:most, -1)]).to eq [(2**63) - 1, (2**63) - 2]
      [2**62, -(2**62) - 1, (2**63) - 2, -(2**63)].each do |number|
        map[:long] = number
        expect([map[:long], map.increment(:long), map[:long], map.delete_pair(:long, number + 1)]).to eq [number, number + 1, number + 1, true]
      end
      [2**63, -(2**63) - 1, 2**64, -(2**64), 2**200].each do |number|
        map[:longer] = number
        expect(map[:longer]).to eq number
        expect { map.increment(:longer) }.to raise_error(TypeError)
      end
      map[2**62] = map[2**63] = 1
      expect([map[2**62], map[2**63], map.keys.grep(Integer).sort]).to eq [1, 1, [2**62, 2**63]]
    end

    it "counts exactly with many processes, of which some are killed" do
      done = ProcessShared::SharedArray.new(:int64, 6)
      children = Array.new(6) do |index|
        fork_child { loop { map.increment("count", expires_in: 3600) && done[index] += 1 } }
      end
      wait_until { done.sum > 10_000 }
      children.each(&:kill)
      expect(map["count"]).to be_between(done.sum, done.sum + 6)
    end

    it "forgets what has expired" do
      map.store("short", 1, expires_in: 0.01)
      map.store("long", 1, expires_in: 60)
      map.store("gone", 1, expires_in: 0)
      expect([map["gone"], map.key?("gone"), map.expires_in("gone")]).to eq [nil, false, nil]
      wait_until { map["short"].nil? }
      expect([map.size, map.keys, map.key?("short"), map.delete("short"), map.put_if_absent("short", 2)]).to eq [1, ["long"], false, nil, nil]
      expect(map.expires_in("long")).to be_between(1, 60)
      expect(map.expires_at("long")).to be_within(2).of(Time.now + map.expires_in("long"))
      expect([map.expires_at("short"), map.expires_at("none"), map.touch("none"), map.touch("long"), map.expires_in("long")]).to eq [nil, nil, false, true, nil]
      expect([map.touch("long", expires_in: 5), map["long"], map.expires_in("long").ceil]).to eq [true, 1, 5]
      map["long"] = 2
      expect(map.expires_in("long")).to be_nil
    end

    it "counts the time of a counter from the first increment" do
      map.increment("n", expires_in: 50)
      expect { map.increment("n", expires_in: 500) }.not_to(change { map.expires_in("n").ceil.clamp(49, 50) })
      map.touch("n", expires_in: -1)
      expect([map.increment("n", initial: 5), map.expires_in("n")]).to eq [6, nil]
    end

    it "refuses times that are none" do
      ["soon", "1", Time.now, Object.new].each { |time| expect { map.store(1, 1, expires_in: time) }.to raise_error(TypeError) }
      expect { map.store(1, 1, expires_in: Float::NAN) }.to raise_error(ArgumentError)
      map.store(2, 1, expires_in: Float::INFINITY)
      expect([map[2], map.expires_in(2)]).to eq [1, nil]
    end

    it "refuses what cannot be stored, and changes nothing" do
      map["key"] = 1
      expect { map["key"] = -> {} }.to raise_error(TypeError)
      expect { map[-> {}] = 1 }.to raise_error(TypeError)
      expect { map["key"] = "x" * (2 << 20) }.to raise_error(ProcessShared::FullError)
      expect { map["x" * (5 << 20)] = 1 }.to raise_error(ArgumentError, /a key takes at most/)
      expect([map["key"], map.size]).to eq [1, 1]
      expect(ProcessShared::FullError.superclass).to be ProcessShared::ProcessError
      [0, -1, 2**70, 121 << 30].each { |bytes| expect { described_class.new(bytes) }.to raise_error(ArgumentError) }
      expect { described_class.new("1") }.to raise_error(TypeError)
    end

    it "says what has happened" do
      map["key"] = "value"
      3.times { map["key"] }
      map["none"]
      map.key?("key")
      expect(map.stats).to include(hits: 3, misses: 1, stores: 1, evictions: 0, expirations: 0, entries: 1)
      expect(map.stats[:bytes_used] + map.stats[:bytes_free]).to be >= 1 << 20
      expect(map.inspect).to match(/\A#<#{described_class} 1 entry, \d+ of 1048576 bytes, 75 % hits>\z/)
      expect(map.bytes).to eq 1 << 20
    end

    describe "computing a value" do
      it "calls the block once over all processes" do
        calls = ProcessShared::AtomicFixnum.new
        children = Array.new(4) do
          fork_child { |parent| parent.listen && map.fetch("key") { |key| calls.increment && sleep(0.05) && "#{key}!" } }
        end
        children.each { |child| child.tell(:go) }
        expect([children.map(&:value), calls.value, map["key"]]).to eq [["key!"] * 4, 1, "key!"]
      end

      it "lets others wait, but not those who want other keys" do
        computing, go = Array.new(2) { ProcessShared::Event.new }
        first = fork_child { map.fetch("key") { computing.set && go.wait && 1 } }
        computing.wait
        second = fork_child { map.compute_if_absent("key") { 2 } }
        wait_until { map.waiters == 1 }
        expect([map.fetch("other") { 3 }, map["key"], map.inspect]).to match [3, nil, /1 waiting/]
        go.set
        expect([first.value, second.value, map.waiters]).to eq [1, 1, 0]
      end

      it "has the next one compute when the first is killed" do
        computing = ProcessShared::Event.new
        first = fork_child { map.fetch("key") { computing.set && sleep } }
        computing.wait
        children = Array.new(3) { |index| fork_child { map.fetch("key") { index } } }
        wait_until { map.waiters == 3 }
        first.kill
        expect(children.map(&:value).uniq.size).to eq 1
      end

      it "has the next one compute when the block raises, throws or is left" do
        expect { map.fetch("key") { raise "failed" } }.to raise_error("failed")
        expect(catch(:out) { map.fetch("key") { throw :out, 1 } }).to eq 1
        expect(map.fetch("key") { break :left }).to be :left
        thread = Thread.new { map.fetch("key") { sleep } }
        wait_until { thread.status == "sleep" }
        thread.kill.join
        expect(map.fetch("key") { 2 }).to eq 2
      end

      it "refuses recursion on its own key only" do
        expect { map.fetch(1) { map.fetch(1) { 2 } } }.to raise_error(ProcessShared::ProcessError, /deadlock/)
        expect(map.fetch(1) { map.fetch(2) { map.fetch(3) { 4 } } }).to eq 4
        expect(map.size).to eq 3
      end

      it "goes on in a child that is forked in the block, which has nothing to compute" do
        value = map.fetch("key") do
          pid = fork { exit!(map["key"].nil? ? 0 : 1) }
          Process.wait2(pid).last.exitstatus
        end
        expect([value, map["key"]]).to eq [0, 0]
      end

      it "keeps nil, and what expires" do
        expect([map.fetch("nil") { nil }, map.key?("nil"), map.fetch("nil") { 1 }]).to eq [nil, true, nil]
        map.fetch("short", expires_in: 30) { 1 }
        expect(map.expires_in("short")).to be_between(1, 30)
      end

      it "updates exactly with many processes" do
        children = Array.new(3) { fork_child { 200.times { map.compute("n") { |old| (old || 0) + 1 } } && :done } }
        200.times { map.merge_pair("n", 1) { |old| old + 1 } }
        expect([children.map(&:value), map["n"]]).to eq [[:done] * 3, 800]
      end
    end

    describe "with a path" do
      around { |example| Dir.mktmpdir { |folder| (@path = "#{folder}/map") && example.run } }

      def at_path(bytes = 1 << 16) = described_class.new(bytes, path: @path)

      # Runs the script in a process that is not related to this one; `killed` if it does not end by itself.
      def elsewhere(script, killed: false)
        making = "map = #{described_class}.new(1 << 16, path: #{@path.inspect})"
        output, status = ruby_with_status("#{making}\n#{script}")
        expect([status.termsig, output]).to eq([9, ""]) if killed
        output
      end

      it "survives all its users, with what expires" do
        elsewhere(<<~RUBY, killed: true)
          map["text"] = "x" * 5000
          map.store([1, :two], { three: 4.0 }, expires_in: 500)
          map.increment("n", 7)
          map.fetch("computed") { Process.kill(:KILL, $$) }
        RUBY
        map = at_path
        expect([map["text"].size, map[[1, :two]], map["n"], map.size]).to eq [5000, { three: 4.0 }, 7, 3]
        expect([map.expires_in([1, :two]), map.expires_in("n")]).to match [be_between(300, 500), nil]
        expect([map.fetch("computed") { 1 }, map.increment("n")]).to eq [1, 8]
      end

      it "goes on with whole entries when all its writers are killed at once, and has the same room" do
        5.times do
          writers = Array.new(2) { fork_child { map = at_path; loop { map[rand(20)] = [rand(256)].pack("C") * rand(3000) } } }
          wait_until { File.exist?(@path) && at_path.then { |map| map.size.positive?.tap { map.close } } }
          writers.each(&:kill)
          map = at_path
          map.each_value { |value| expect(value.bytes.uniq.size).to be <= 1 }
          expect(map.keys - [*0...20]).to eq []
          map.close
        end
        map = at_path
        map.clear
        expect(map.stats).to include(entries: 0, bytes_used: 0)
        expect((map["large"] = "x" * 60_000) && map["large"].size).to eq 60_000
      end

      it "is one map for strangers, also while one of them computes" do
        map = at_path
        thread = Thread.new do
          elsewhere("puts map.fetch('key') { map['computing'] = true; sleep 0.001 until map.key?('go'); 'theirs' }")
        end
        wait_until { map.key?("computing") }
        own = Thread.new { map.fetch("key") { "ours" } }
        wait_until { map.waiters == 1 }
        map["go"] = true
        expect([thread.value, own.value]).to eq %W[theirs\n theirs]
      end

      it "takes all its memory when it is made, and refuses another size or class" do
        at_path
        expect(File.stat(@path).blocks * 512).to be >= 1 << 16
        expect { at_path(1 << 17) }.to raise_error(ArgumentError, /65536 bytes.*131072 bytes/)
        other = (described_class == ProcessShared::Map ? ProcessShared::Cache : ProcessShared::Map)
        expect { other.new(1 << 16, path: @path) }.to raise_error(ArgumentError, /is a #{described_class.name[/\w+\z/]}/)
        expect { described_class.new }.to raise_error(ArgumentError, /given 0, expected 1/)
      end
    end

    it "has whole values and takes no memory with its writers that are killed" do
      20.times do
        writers = Array.new(2) do
          fork_child { loop { map[rand(50)] = [rand(256)].pack("C") * rand(20_000) } }
        end
        sleep 0.005
        50.times { |key| expect((map[key] || "").bytes.uniq.size).to be <= 1 }
        writers.each(&:kill)
      end
      map.clear
      expect(map.stats).to include(entries: 0, bytes_used: 0)
      map["large"] = "x" * 900_000
      expect(map["large"].size).to eq 900_000
    end
  end
end
