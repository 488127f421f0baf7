# frozen_string_literal: true

# Writes a Makefile that builds the Rust crate beside this file with cargo, with the targets RubyGems and
# rake-compiler call: all (default), install, clean. Needs nothing but Ruby itself, make and what requirements.rb
# looks for.
#
# Heeds CARGO (the cargo to run), CARGO_BUILD_TARGET (cross-compiling), CARGO_TARGET_DIR (kept between builds)
# and make's DESTDIR. Without CARGO_TARGET_DIR, `gem install` keeps nothing of the build, also when it fails or is
# interrupted.
require "rbconfig"
require "shellwords"
require_relative "requirements"

NAME = "process_shared"
CARGO = ENV.fetch("CARGO", "cargo")
MANIFEST = File.join(__dir__, "Cargo.toml")

missing = Requirements.new(CARGO, MANIFEST).missing
missing.empty? or abort missing.map { |sentence| "#{NAME}: #{sentence}, then run the same command again." }.join("\n")

config     = RbConfig::CONFIG
in_place   = File.realpath(__dir__) == Dir.pwd    # RubyGems builds here; rake-compiler in tmp/
triple     = ENV.fetch("CARGO_BUILD_TARGET", "")
kept_dir   = ENV.fetch("CARGO_TARGET_DIR", "")
target_dir = kept_dir.empty? ? "target" : kept_dir
leftovers  = [("target" if kept_dir.empty?), "#{NAME}.#{config["DLEXT"]}"].compact.shelljoin
once       = in_place && kept_dir.empty?          # nobody builds here again

linker, *link_args = config["CC"].shellsplit      # link the way this Ruby was linked
link_args << "-Wl,-undefined,dynamic_lookup" if config["target_os"].start_with?("darwin")
rustc_args = ["-Clinker=#{linker}", *link_args.map { |arg| "-Clink-arg=#{arg}" }]
rustc_args << "-Ctarget-feature=-crt-static" if config["host_os"].include?("musl")

build = [CARGO, "rustc", "--manifest-path", MANIFEST, "--locked", "--release", "--lib",
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

  $(dllib):#{" FORCE" unless once}
  \t@#{"trap 'rm -rf target' EXIT; trap 'exit 1' HUP INT TERM; " if once}set -ex; \\
  \t#{for_make(build)}; \\
  \tcp #{for_make(built)} $@

  install: $(dllib)
  \tmkdir -p "$(dest)"
  \tcp $(dllib) "$(dest)/$(dllib).tmp" && mv -f "$(dest)/$(dllib).tmp" "$(dest)/$(dllib)"
  #{"\trm -f $(dllib)" if in_place}

  clean distclean realclean:
  \trm -rf #{leftovers}
MAKE
