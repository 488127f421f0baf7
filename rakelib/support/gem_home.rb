# frozen_string_literal: true

require "fileutils"

# The built gem, installed the way a user installs it: into a GEM_HOME of its own, by one Ruby, with nothing
# of this process's RubyGems, Bundler or load path leaking in.
class GemHome
  CLEAN = %w[BUNDLE_GEMFILE BUNDLE_PATH BUNDLER_VERSION GEM_PATH RUBYLIB RUBYOPT].to_h { |name| [name, nil] }.freeze

  # Builds the gem of this checkout as `file`.
  def self.build(file)
    FileUtils.mkdir_p(File.dirname(file))
    quietly(CLEAN, Gem.ruby, "-S", "gem", "build", "--strict", "--output", file, "process_shared.gemspec")
  end

  # Runs a command, shows its output only if it fails, and returns the output.
  def self.quietly(env, *command, chdir: Dir.pwd)
    output = IO.popen(env, command, chdir: chdir, err: %i[child out], &:read)
    abort "#{command.join(" ")}\n#{output}" unless $?.success?
    output
  end

  attr_reader :path

  def initialize(path, env = {})
    @path = File.expand_path(path)
    @env = CLEAN.merge(env, "GEM_HOME" => @path)
    @ruby = env.fetch("RUBY", Gem.ruby)
    FileUtils.rm_rf(@path)
    FileUtils.mkdir_p(@path)
  end

  # Installs a gem file with `gem install`; seconds it took.
  def install(file, env = {})
    start = Process.clock_gettime(Process::CLOCK_MONOTONIC)
    self.class.quietly(@env.merge(env), @ruby, "-S", "gem", "install", "--local", "--no-document", file, chdir: path)
    Process.clock_gettime(Process::CLOCK_MONOTONIC) - start
  end

  # Runs Ruby with the installed gem; its output. The working directory has no copy of the library.
  def ruby(*args, chdir: path)
    self.class.quietly(@env, @ruby, *args, chdir: chdir)
  end

  # Stops unless `require "process_shared"` is silent and loads the installed extension.
  def verify(chdir: path)
    loaded = ruby("-w", "-rprocess_shared", "-e", 'print $LOADED_FEATURES.grep(/\bprocess_shared\.(so|bundle)\z/)', chdir: chdir)
    abort "expected the one under #{path}, got #{loaded}" unless loaded.match?(/\A\["#{Regexp.escape(path)}[^"]+"\]\z/)
  end

  # Runs the specs in `chdir` with all of Ruby's warnings on, showing what they print; returns that too.
  def rspec(chdir:)
    output = +""
    IO.popen(@env, [@ruby, "-w", "-S", "rspec"], chdir: chdir, err: %i[child out]) do |io|
      io.each { |line| print(line) || output << line }
    end
    abort "the specs failed" unless $?.success?
    output
  end

  # What the installation takes on disk.
  def bytes
    Dir.glob("#{path}/**/*", File::FNM_DOTMATCH).select { |name| File.file?(name) }.sum { |name| File.size(name) }
  end
end
