# frozen_string_literal: true

# The gem as users get it: holds exactly what it needs, installs into an empty GEM_HOME (in a directory with
# spaces) in time and small, works there, and says in one line what is missing.

require "tmpdir"
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
    wanted = `git ls-files --cached --others --exclude-standard lib sig src ext`.lines(chomp: true)
    wanted += %w[Cargo.toml Cargo.lock COPYING README.md CHANGELOG.md DESIGN.md SECURITY.md .yardopts]
    wanted.select! { |name| File.exist?(name) }
    abort "unexpected: #{packed - wanted}\nmissing: #{wanted - packed}" unless packed.sort == wanted.sort
    puts "#{packed.size} files in the gem, all of them expected"
  end

  # More than a minute by the clock is too slow, unless other work on the machine took the processors: on two idle cores
  # the clock shows less than the processor time, and that grows by a third at most on a busy machine.
  desc "Does `gem install` into an empty GEM_HOME work, within a minute, and leave at most 3 MB?"
  task install: :build do
    home = GemHome.new("#{dir}/home")
    before = Process.times
    seconds = home.install(gem_file, "CARGO_TARGET_DIR" => nil)
    processor = Process.times.then { |after| after.cutime + after.cstime - before.cutime - before.cstime }
    home.verify
    puts format("installed in %.0f s (%.0f s of processor time), %.2f MB on disk", seconds, processor, home.bytes / 1e6)
    abort "too slow" if seconds > 60 && processor > 80
    abort "too big" if home.bytes > 3_000_000
  end

  # Runs extconf.rb with this cargo; it must stop with this one line.
  def refused(cargo, line)
    Dir.mktmpdir do |work|
      output = IO.popen(GemHome::CLEAN.merge("CARGO" => cargo), [Gem.ruby, File.expand_path("ext/process_shared/extconf.rb")],
                        chdir: work, err: %i[child out], &:read)
      abort "expected #{line}, got: #{output}" if $?.success? || !output.match?(/\A#{line}\n\z/)
      puts output
    end
  end

  desc "Does a build that cannot succeed say so in one line?"
  task :missing do
    refused("/nonexistent/cargo", /process_shared: cargo not found\. Install Rust .*/)
    Dir.mktmpdir do |bin|
      File.write("#{bin}/cargo", "#!/bin/sh\necho cargo 1.63.0\n", perm: 0o755)
      refused("#{bin}/cargo", /process_shared: cargo 1\.63\.0 is too old\. Install Rust .*/)
    end
  end
end

desc "All checks of the built gem"
task package: %w[package:files package:missing package:install]
