# frozen_string_literal: true

# What the README shows must work as it stands: each Ruby block is run as a program of its own (one that says at
# its top which file it belongs to is only parsed), each command must exist, each linked file must be there.

require_relative "support/program"

desc "Run the blocks of the README, and look up its commands and links"
task readme: :compile do
  text = File.read("README.md")
  blocks = text.scan(/^```(\w+)\n(.*?)^```$/m)

  programs, fragments = blocks.filter_map { |language, code| code if language == "ruby" }.partition { |code| !code.start_with?("# config/") }
  fragments.each { |code| RubyVM::InstructionSequence.compile(code) }
  programs.each.with_index(1) do |code, number|
    Program.run("-w", "-Ilib", "-e", code) or abort "the README's Ruby block #{number} failed:\n#{code}"
  end

  commands = blocks.select { |language, _| language == "sh" }.flat_map { |_, code| code.lines }.map { |line| line.sub(/#.*/, "").split }
  lost = commands.reject do |command, argument|
    case command
    when "rake" then argument.start_with?("-") || Rake::Task.task_defined?(argument)
    when "gem"  then true
    else File.executable?(command)
    end
  end
  lost += text.scan(/\]\((?!http)([^)#]+)\)/).flatten.reject { |file| File.exist?(file) }
  abort "the README names what does not exist: #{lost.join(", ")}" unless lost.empty?
  puts "README: #{programs.size} programs run, #{commands.size} commands and all links looked up"
end
