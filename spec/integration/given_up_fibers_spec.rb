# frozen_string_literal: true

# A fiber that nobody resumes never ends its block. What it holds is free when its thread ends; Ruby 3.1 uses the native thread
# again for the next thread.
RSpec.describe "A fiber that is given up in a block" do
  { "Mutex#synchronize" => [-> { ProcessShared::Mutex.new }, ->(mutex, &block) { mutex.synchronize(&block) }],
    "ReadWriteLock#with_read_lock" => [-> { ProcessShared::ReadWriteLock.new }, ->(lock, &block) { lock.with_read_lock(&block) }, :with_write_lock],
    "ReadWriteLock#with_write_lock" => [-> { ProcessShared::ReadWriteLock.new }, ->(lock, &block) { lock.with_write_lock(&block) }],
    "ReadWriteLock#with_upgradable_lock" => [-> { ProcessShared::ReadWriteLock.new }, ->(lock, &block) { lock.with_upgradable_lock(&block) }],
    "Map#fetch" => [-> { ProcessShared::Map.new(1 << 16) }, ->(map, &block) { map.fetch(:key, &block) }],
    "Map#compute" => [-> { ProcessShared::Map.new(1 << 16) }, ->(map, &block) { map.compute(:key, &block) }] }.each do |name, (make, hold, want)|

    it "of #{name} holds nothing when its thread has ended" do
      object = make.call
      wants = want ? ->(&block) { object.public_send(want, &block) } : ->(&block) { hold.call(object, &block) }
      Thread.new { Fiber.new { hold.call(object) { Fiber.yield } }.resume }.join
      expect(wants.call { 1 }).to eq 1
      Thread.new { Fiber.new { hold.call(object) { Fiber.yield } }.resume }.join if want.nil? && !name.start_with?("Map")
      expect(Thread.new { wants.call { 1 } }.value).to eq 1
    end
  end

  it "of Map#fetch does not keep the next thread from computing the same" do
    map = ProcessShared::Map.new(1 << 16)
    3.times { Thread.new { Fiber.new { map.fetch(:key) { Fiber.yield } }.resume }.join }
    expect(Thread.new { map.fetch(:key) { 1 } }.value).to eq 1
  end

  it "of Map#fetch that goes, too, keeps nobody from what its memory was used for" do
    maps = 50.times.map do
      Thread.new { ProcessShared::Map.new(1 << 16).tap { |map| Fiber.new { map.fetch(:key) { Fiber.yield } }.resume } && nil }.join
      GC.start
      ProcessShared::Map.new(1 << 16)
    end
    expect(maps.map { |map| map.fetch(:key) { 1 } }).to all eq 1
  end
end
