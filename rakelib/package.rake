# frozen_string_literal: true

# The gem as users get it: holds exactly what it needs, installs into an empty GEM_HOME (in a directory with
# spaces), is small, and works there.

require_relative "support/gem_home"

namespace :package do
  dir = "tmp/package/with spaces"
  gem_file = File.expand_path("process_shared.gem", dir)

  desc "Build the gem into tmp/package"
  task(:build) { GemHome.build(gem_file) }

  desc "Does the built gem hold exactly the files it needs?"
  task files: :build do
    next puts("not a git checkout, so the gem's files are not compared") unless system("git", "rev-parse", %i[out err] => File::NULL)

    packed = Gem::Package.new(gem_file).contents
    wanted = `git ls-files --cached --others --exclude-standard lib sig src ext examples`.lines(chomp: true)
    wanted += %w[Cargo.toml Cargo.lock COPYING README.md CHANGELOG.md DESIGN.md SECURITY.md .yardopts]
    wanted.select! { |name| File.exist?(name) }
    abort "unexpected: #{packed - wanted}\nmissing: #{wanted - packed}" unless packed.sort == wanted.sort
    puts "#{packed.size} files in the gem, all of them expected"
  end

  desc "Does `gem install` into an empty GEM_HOME work, and leave at most 7 MB?"
  task install: :build do
    home = GemHome.new("#{dir}/home")
    seconds = home.install(gem_file, "CARGO_TARGET_DIR" => nil)
    home.verify
    puts format("installed in %.0f s, %.2f MB on disk", seconds, home.bytes / 1e6)
    abort "too big" if home.bytes > 7_000_000
  end
end

desc "All checks of the built gem"
task package: %w[package:files package:install]
