# frozen_string_literal: true

# A process that forks while Marshal writes or reads what it adds or takes: what it has in flight is its own, and not the
# child's, which goes on in the middle of the call.
RSpec.describe ProcessShared::Queue, "with items that fork", if: RUBY_PLATFORM.include?("linux") do
  let!(:queue) { described_class.new }

  # Forks when it is read; then the child calls `in_child`, and the parent lets it end first.
  def forking(&in_child)
    forking = Class.new do
      define_method(:marshal_dump) { nil }
      define_method(:marshal_load) { |_| (pid = fork) ? Process.wait(pid) : in_child.call }
    end
    stub_const("Forking", forking).new
  end

  { "pop_all" => :pop_all.to_proc, "pop with a block" => ->(queue) { queue.pop { |item| item } until queue.empty? } }.each do |name, take|
    { "raises" => -> { raise KeyError }, "goes on" => -> {} }.each do |how, in_child|
      it "has them done by #{name} of the parent, though its child #{how}" do
        parent = Process.pid
        queue.concat([1, forking(&in_child), 3])
        begin
          take.call(queue)
        rescue KeyError
          exit!(1) if Process.pid == parent
        ensure
          exit!(0) unless Process.pid == parent
        end
        expect([queue.size, queue.in_flight]).to eq [0, {}]
      end
    end
  end

  it "has an item once in both processes when it forks as it is written" do
    pid = nil
    stub_const("Forked", Class.new { define_method(:marshal_dump) { pid = fork; 1 }; def marshal_load(_) = nil }) # rubocop:disable Style/Semicolon
    queue.push(Forked.new)
    exit!(0) unless pid
    Process.wait(pid)
    expect(queue.pop_all.size).to eq 2
  end
end
