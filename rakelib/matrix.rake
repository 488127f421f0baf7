# frozen_string_literal: true

# The built gem on every Ruby we say it works on: installed by that Ruby, the whole RSpec suite run against the
# installation, and a warning of that Ruby about one of our files counts as a failure.
#
# This machine's Ruby is the first; the newer ones are unpacked from Debian's packages into tmp/rubies
# (or RUBIES=dir, which has 3.3/env and 3.4/env) where that can be done, and said to be left out elsewhere.

require_relative "support/gem_home"

namespace :matrix do
  gem_file = File.expand_path("tmp/matrix/process_shared.gem")
  rubies = ENV.fetch("RUBIES", "tmp/rubies")

  task(:build) { GemHome.build(gem_file) }

  # What sourcing an env file of bin/ruby-from-debs sets.
  def environment(file)
    IO.popen(["sh", "-c", '. "$1" && env -0', "sh", File.expand_path(file)], &:read)
      .split("\0").to_h { |pair| pair.split("=", 2) }.slice("PATH", "RUBY", "RUBYLIB")
  end

  # RSpec runs in a copy of what specs read, without lib/, so that only the installed gem can be found.
  def workplace(dir)
    rm_rf dir, verbose: false
    mkdir_p dir, verbose: false
    cp_r FileList[".rspec", "spec", "sig", "examples", "README.md"].existing, dir, verbose: false
  end

  def run_suite(version, gem_file, env)
    dir = File.expand_path("tmp/matrix/#{version}")
    home = GemHome.new("#{dir}/gems", env)
    workplace("#{dir}/work")
    seconds = home.install(gem_file, "CARGO_TARGET_DIR" => "#{dir}/target")
    home.verify(chdir: "#{dir}/work")
    puts format("== Ruby %s: installed in %.0f s", home.ruby("-e", "print RUBY_VERSION"), seconds)
    output = home.rspec(chdir: "#{dir}/work")
    warnings = output.lines.grep(/^#{Regexp.union("#{dir}/", "./spec/")}.*: warning: /)
    abort "warnings on Ruby #{version}:\n#{warnings.uniq.join}" unless warnings.empty?
  end

  desc "Install the gem and run the suite on this machine's Ruby"
  task("own" => :build) { run_suite(RUBY_VERSION[/\d+\.\d+/], gem_file, {}) }

  %w[3.3 3.4].each do |version|
    desc "Install the gem and run the suite on Ruby #{version}"
    task version => :build do
      dir = "#{rubies}/#{version}"
      system("bin/ruby-from-debs", version, dir) unless File.exist?("#{dir}/env")
      next run_suite(version, gem_file, environment("#{dir}/env")) if File.exist?("#{dir}/env")

      puts "== Ruby #{version}: LEFT OUT, it cannot be had on this machine"
    end
  end
end

desc "Install the gem and run the suite on every supported Ruby"
task matrix: %w[matrix:own matrix:3.3 matrix:3.4]
