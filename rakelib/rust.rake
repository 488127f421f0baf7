# frozen_string_literal: true

# Both crates: layout of the source, lints, and the core's own tests, which need no Ruby.

namespace :rust do
  cargo = ENV.fetch("CARGO", "cargo")

  # rustfmt does not find modules that a macro declares, as that of the classes in lib.rs does, by itself.
  desc "Is every Rust file laid out by rustfmt?"
  task(:format) { sh cargo, "fmt", "--all", "--check", "--", *FileList["ext/process_shared/src/**/*.rs"], verbose: false }

  desc "Clippy over all crates and targets, warnings denied"
  task :lint do
    sh({ "RUBY" => Gem.ruby }, cargo, "clippy", "--workspace", "--all-targets", "--locked", "--", "-Dwarnings", verbose: false)
  end

  desc "The core crate's tests"
  task(:test) do
    # Those that fork look at the processes through /proc.
    only = RUBY_PLATFORM.include?("linux") ? [] : ["--lib"]
    sh cargo, "test", "--locked", *only, verbose: false
  end
end
