# frozen_string_literal: true

# The programs in examples/, and ways to kill the processes that take part in them.
module Recipes
  DIRECTORY = File.expand_path("../../examples", __dir__)

  # A module with what a program defines; the program itself does not run.
  def self.load(name)
    Module.new.tap { |defined| Kernel.load("#{DIRECTORY}/#{name}.rb", defined) }
  end

  # Runs the block, and kills this process at its `step`th step: a line, or a call that Ruby knows of.
  def self.dying_at(step, &block)
    deadly(step).enable(target_thread: Thread.current, &block)
  end

  # Kills this process so many steps from here.
  def self.die_in(steps)
    deadly(steps).enable(target_thread: Thread.current)
  end

  def self.deadly(step)
    steps = 0
    TracePoint.new(:line, :call, :c_call, :c_return) { (steps += 1) == step and Process.kill(:KILL, Process.pid) }
  end

  # Runs `operation` in children that are killed at its first step, at its second and so on until one of them comes to its
  # end. Yields before each, for what it works on to be made, and calls what that returns after the death. With a stride it
  # leaves out steps, others in each run of the specs.
  def kill_at_every_step(operation, stride: 1)
    rand(1..stride).step(by: stride) do |step|
      check = yield
      child = fork_child { Recipes.dying_at(step) { operation.call } }
      status = child.wait
      return step - 1 unless status.signaled?

      check.call
    end
  end

  # Has `count` children run the block, with their number, and kills one after the other; each is replaced by another.
  def kill_again_and_again(count, kills)
    crew = Array.new(count) { |number| fork_child { yield number } }
    kills.times do
      number = rand(count)
      sleep Random.rand(0.01)
      crew[number].kill
      crew[number] = fork_child { yield number }
    end
    crew
  end
end
