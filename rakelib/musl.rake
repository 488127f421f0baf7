# frozen_string_literal: true

# musl, the C library of Alpine Linux: the core's tests run against it, in static programs. What that takes (see
# musl_sysroot.sh) is made in tmp/musl. The binding is not built: that would take a Ruby for musl.

namespace :rust do
  cargo = ENV.fetch("CARGO", "cargo")
  sysroot = File.expand_path("tmp/musl")

  desc "The core crate's tests against musl (behaviour, storm, and a spread of the points of death)"
  task :musl do
    unless system("rakelib/musl_sysroot.sh", sysroot)
      abort "no sysroot for musl" unless $?.exitstatus == 3
      next puts("LEFT OUT: a sysroot for musl cannot be made on this machine")
    end

    output = IO.popen(["sh", "-c", '. "$1" && env -0', "sh", "#{sysroot}/env"], &:read)
    env = output.split("\0").grep(/\A(MUSL_TARGET|CARGO_TARGET_\w+_MUSL_RUSTFLAGS)=/).to_h { |pair| pair.split("=", 2) }
    common = ["--locked", "-p", "process_shared-core", "--target", env.fetch("MUSL_TARGET")]
    sh(env, cargo, "clippy", "--quiet", *common, "--all-targets", "--", "-Dwarnings", verbose: false)
    sh(env, cargo, "test", *common, "--lib", "--tests", verbose: false)
  end
end

Rake::Task["rust:musl"].clear_actions.enhance { puts "rust:musl: on Linux only" } unless RUBY_PLATFORM.include?("linux")
