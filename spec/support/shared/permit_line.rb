# frozen_string_literal: true

RSpec.shared_examples "a line of those who want several permits" do |options, give|
  it "serves them strictly in the order they came, and passes by whoever was killed in line" do
    empty = ProcessShared::Semaphore.new(0, **options)
    order = ProcessShared::SharedArray.new(:int, 12)
    served = order.atomic
    children = Array.new(10) do |place|
      child = fork_child { empty.acquire(2 + (place % 2)) { order[1 + served.increment] = place } && nil }
      wait_until { empty.waiters == place + 1 }
      child
    end
    [0, 4, 5, 9].each { |place| children[place].kill }
    give.call(empty)
    children.values_at(1, 2, 3, 6, 7, 8).each(&:value)
    expect(order.to_a.drop(2).first(6)).to eq [1, 2, 3, 6, 7, 8]
    expect([empty.value, empty.waiters]).to eq [3, 0]
  end
end
