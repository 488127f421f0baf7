# frozen_string_literal: true

# Writes a Makefile that builds the Rust crate beside this file with cargo, with the targets RubyGems and
# rake-compiler call: all (default), install, clean. Needs nothing but Ruby itself, make and cargo; what is
# missing is said in one line, before anything is built.
#
# Heeds CARGO (the cargo to run), CARGO_BUILD_TARGET (cross-compiling), CARGO_TARGET_DIR (kept between
# builds; without it the build's own directory is removed after `gem install`) and make's DESTDIR.
require "rbconfig"
require "shellwords"

NAME = "process_shared"
RUST = "1.85"             # rust-version in Cargo.toml
CARGO = ENV.fetch("CARGO", "cargo")

# Where bindgen, which reads Ruby's headers for rb-sys, looks for libclang on Linux.
LIBCLANG = "{/usr/lib*,/usr/local/lib*,/usr/local/llvm*/lib*}/{,*/,*/*/}libclang{,-*}.so*"

def stop(problem) = abort("#{NAME}: #{problem}, then run the same command again.")

def cargo_version
  IO.popen([CARGO, "--version"], err: File::NULL, &:read)[/\d+(\.\d+)+/]
rescue SystemCallError
  nil
end

def libclang?
  return true unless RUBY_PLATFORM.include?("linux") # macOS: comes with the compiler
  return true if ENV["LIBCLANG_PATH"] || ENV["LLVM_CONFIG_PATH"] || Dir[LIBCLANG].any?

  ENV.fetch("PATH", "").split(File::PATH_SEPARATOR).any? { |dir| File.executable?(File.join(dir, "llvm-config")) }
end

version = cargo_version or
  stop "cargo not found. Install Rust #{RUST} or newer (https://rustup.rs)"
Gem::Version.new(version) >= Gem::Version.new(RUST) or
  stop "cargo #{version} is too old. Install Rust #{RUST} or newer (https://rustup.rs)"
libclang? or
  stop "libclang not found. Install it (Debian, Ubuntu: libclang-dev; Fedora: clang-devel; Alpine: clang-dev) " \
       "or set LIBCLANG_PATH to its directory"

config     = RbConfig::CONFIG
in_place   = File.realpath(__dir__) == Dir.pwd    # RubyGems builds here; rake-compiler in tmp/
triple     = ENV.fetch("CARGO_BUILD_TARGET", "")
kept_dir   = ENV.fetch("CARGO_TARGET_DIR", "")
target_dir = kept_dir.empty? ? "target" : kept_dir
leftovers  = [("target" if kept_dir.empty?), "#{NAME}.#{config["DLEXT"]}"].compact.shelljoin

linker, *link_args = config["CC"].shellsplit      # link the way this Ruby was linked
link_args << "-Wl,-undefined,dynamic_lookup" if config["target_os"].start_with?("darwin")
rustc_args = ["-Clinker=#{linker}", *link_args.map { |arg| "-Clink-arg=#{arg}" }]
rustc_args << "-Ctarget-feature=-crt-static" if config["host_os"].include?("musl")

build = [CARGO, "rustc", "--manifest-path", File.join(__dir__, "Cargo.toml"), "--locked", "--release", "--lib",
         "--target-dir", target_dir, "--", *rustc_args]
built = File.join(target_dir, triple, "release", "lib#{NAME}.#{config["SOEXT"]}")

def for_make(words) = Array(words).shelljoin.gsub("$", "$$")

# How rb-sys learns about the Ruby it is compiled for: it asks that Ruby; one for another machine cannot run here, but its
# configuration has been read into this process.
settings = triple.empty? ? { "RUBY" => RbConfig.ruby } : config.transform_keys { |key| "RBCONFIG_#{key}" }
exports = settings.map { |name, value| "export #{name} := #{value.to_s.tr("\n", " ").gsub("$", "$$").gsub("#", "\\#")}" }

File.write("Makefile", <<~MAKE)
  sitearchdir   = #{config["sitearchdir"]}
  target_prefix = /#{NAME}
  dest          = $(DESTDIR)$(sitearchdir)$(target_prefix)
  dllib         = #{NAME}.#{config["DLEXT"]}
  #{exports.join("\n")}

  .PHONY: all install clean distclean realclean FORCE
  all: $(dllib)

  $(dllib): FORCE
  \t#{for_make(build)}
  \tcp #{for_make(built)} $@

  install: $(dllib)
  \tmkdir -p "$(dest)"
  \tcp $(dllib) "$(dest)/$(dllib).tmp" && mv -f "$(dest)/$(dllib).tmp" "$(dest)/$(dllib)"
  #{"\trm -rf #{leftovers}" if in_place}

  clean distclean realclean:
  \trm -rf #{leftovers}
MAKE
