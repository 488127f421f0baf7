# frozen_string_literal: true

RSpec.describe ProcessShared::AtomicBoolean do
  it "is what it was made of, and false without" do
    values = [[], [true], [false], [nil], [:anything]].map { |arguments| described_class.new(*arguments).value }
    expect(values).to eq [false, true, false, false, true]
  end

  it "is made true and false, and tells whether that changed it" do
    flag = described_class.new
    expect([flag.make_true, flag.make_true, flag.true?, flag.false?]).to eq [true, false, true, false]
    expect([flag.make_false, flag.make_false, flag.true?, flag.false?]).to eq [true, false, false, true]
    flag.value = 1
    expect([flag.value, flag.inspect]).to eq [true, "#<ProcessShared::AtomicBoolean value true>"]
    flag.value = nil
    expect(flag.value).to be false
  end

  it "is changed by one of many processes" do
    flag = described_class.new
    changed = Array.new(4) { fork_child { |parent| parent.listen && flag.make_true } }
    changed.each { |child| child.tell(:go) }
    expect([changed.map(&:value).count(true), flag.value]).to eq [1, true]
  end
end
