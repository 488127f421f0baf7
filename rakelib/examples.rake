# frozen_string_literal: true

# The programs in examples/: each must end by itself, with success, and without a warning.

desc "Run every program in examples/"
task examples: :compile do
  $stdout.sync = true
  seconds = 60
  failed = FileList["examples/*.rb"].reject do |file|
    puts "== #{file}"
    pid = spawn(Gem.ruby, "-w", "-Ilib", file, pgroup: true, %i[out err] => "tmp/example.out")
    ended = Process.detach(pid).tap { |waiter| waiter.join(seconds) or Process.kill(:KILL, -pid) }.value
    output = File.read("tmp/example.out")
    puts output.gsub(/^/, "   "), ("   FAILED: #{ended}" unless ended.success?)
    ended.success? && !output.include?(": warning: ")
  end
  abort "failed: #{failed.join(", ")}" unless failed.empty?
end
