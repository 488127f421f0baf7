# frozen_string_literal: true

# How a Map is full, and how a Cache is not.
RSpec.describe ProcessShared::Cache do
  let!(:cache) { described_class.new(1 << 20) }

  it "drops entries when it is full; a Map does not" do
    20_000.times { |number| cache[number] = "x" * 100 }
    expect(cache.stats).to include(stores: 20_000, evictions: 20_000 - cache.size)
    expect(cache.size).to be > 6000
    map = ProcessShared::Map.new(1 << 20)
    expect { 20_000.times { |number| map[number] = "x" * 100 } }.to raise_error(ProcessShared::FullError, /no room is left: .* more bytes/)
    before = map.size
    expect { map[1] = "x" * 20_000 }.to raise_error(ProcessShared::FullError)
    expect([map[1], map.size, map[before - 1]]).to eq ["x" * 100, before, "x" * 100]
  end

  it "has room for a value of a quarter of its bytes, whatever was in it" do
    [10, 100, 3000, 30_000, 200_000].each do |length|
      200_000.div(length).clamp(100, 20_000).times { |number| cache[[length, number]] = "x" * rand(length) }
      cache["large"] = "y" * (1 << 18)
      expect(cache["large"]).to eq "y" * (1 << 18)
    end
  end

  it "keeps what is read" do
    100.times { |number| cache["often #{number}"] = "x" * 100 }
    50.times do |round|
      100.times { |number| cache["often #{number}"] }
      500.times { |number| cache["scan #{round} #{number}"] = "x" * 100 }
    end
    expect(Array.new(100) { |number| cache["often #{number}"] }.compact.size).to be > 95
  end

  it "drops what has expired before all else" do
    2000.times { |number| cache.store([:short, number], "x" * 100, expires_in: 0.2) }
    2000.times { |number| cache[[:long, number]] = "x" * 100 }
    wait_until { cache[[:short, 1999]].nil? }
    4000.times { |number| cache[number] = "x" * 100 }
    expect(cache.stats).to include(evictions: 0, entries: 6000)
  end

  it "is bounded in what a store takes while it drops" do
    cache = described_class.new(16 << 20)
    value = "x" * 1000
    times = Array.new(60_000) do |number|
      before = Process.clock_gettime(Process::CLOCK_THREAD_CPUTIME_ID)
      cache[number] = value
      Process.clock_gettime(Process::CLOCK_THREAD_CPUTIME_ID) - before
    end
    expect(times.max).to be < 0.1
  end
end
