# frozen_string_literal: true

# Runs a Ruby program that must end by itself, with success, and without a warning. Shows what it prints.
module Program
  SECONDS = 60

  # True if it did.
  def self.run(*args)
    output, input = IO.pipe
    pid = spawn(Gem.ruby, *args, pgroup: true, %i[out err] => input)
    input.close
    reader = Thread.new { output.read }
    waiter = Process.detach(pid)
    in_time = waiter.join(SECONDS) && reader.join(1) # a child left running keeps the pipe open
    Process.kill(:KILL, -pid) unless in_time
    puts reader.value.gsub(/^/, "   ") unless reader.value.empty?
    ok = in_time && waiter.value.success? && !reader.value.include?(": warning: ")
    puts "   FAILED: #{in_time ? waiter.value : "not over after #{SECONDS} s, or a child left running"}" unless ok
    ok
  end
end
