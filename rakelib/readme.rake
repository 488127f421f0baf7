# frozen_string_literal: true

# What the README shows must work as it stands: a Ruby block in a section that names a program in examples/ consists of lines
# of that program, in their order (and `rake examples` runs it); one that requires what it needs is run as a program of its own;
# one that says at its top which file it belongs to is only parsed. Each command must exist, and each linked file be there.

require_relative "support/program"

# The Ruby blocks of the README, each with the program in examples/ that was named last in its section.
def ruby_blocks(text)
  text.split(/^(?=##)/).flat_map do |section|
    example = nil
    section.scan(/\((examples\/\w+\.rb)\)|^```ruby\n(.*?)^```$/m).filter_map do |name, code|
      example = name || example
      [example, code] if code
    end
  end
end

def lines_of?(file, code)
  rest = File.readlines(file).map(&:strip)
  code.lines.map(&:strip).all? { |line| rest.shift(rest.index(line)&.succ || rest.size + 1)&.last == line }
end

desc "Run or compare the blocks of the README, and look up its commands and links"
task readme: :compile do
  text = File.read("README.md")
  fragments, blocks = ruby_blocks(text).partition { |_, code| code.start_with?("# config/") }
  fragments.each { |_, code| RubyVM::InstructionSequence.compile(code) }
  blocks.each do |example, code|
    abort "the README shows what is not in #{example}:\n#{code}" unless example.nil? || lines_of?(example, code)
    next unless code.start_with?("require ")

    Program.run("-w", "-Ilib", "-e", code) or abort "a Ruby block of the README failed:\n#{code}"
  end

  commands = text.scan(/^```sh\n(.*?)^```$/m).flat_map { |(code)| code.lines }.map { |line| line.sub(/#.*/, "").split }
  lost = commands.reject do |command, argument|
    case command
    when "rake" then argument.start_with?("-") || Rake::Task.task_defined?(argument)
    when "gem"  then true
    else File.executable?(command)
    end
  end
  lost += text.scan(/\]\((?!http)([^)#]+)\)/).flatten.reject { |file| File.exist?(file) }
  abort "the README names what does not exist: #{lost.join(", ")}" unless lost.empty?
  puts "README: #{blocks.size} programs, #{commands.size} commands and all links are right"
end
