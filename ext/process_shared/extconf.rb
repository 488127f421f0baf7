# frozen_string_literal: true

# Writes a Makefile that builds the Rust crate beside this file with cargo, with the targets RubyGems and
# rake-compiler call: all (default), install, clean. Needs nothing but Ruby itself and cargo.
require "rbconfig"
require "shellwords"

NAME = "process_shared"
RUST = "1.85"

config = RbConfig::CONFIG
cargo  = ENV.fetch("CARGO", "cargo")
system(cargo, "--version", out: File::NULL, err: File::NULL) or
  abort "#{NAME}: cargo not found. Install Rust #{RUST} or newer (https://rustup.rs), then run the same command again."

linker, *link_args = config["CC"].shellsplit      # link the way this Ruby was linked
link_args << "-Wl,-undefined,dynamic_lookup" if config["target_os"].start_with?("darwin")
rustc_args = ["-Clinker=#{linker}", *link_args.map { |arg| "-Clink-arg=#{arg}" }]
rustc_args << "-Ctarget-feature=-crt-static" if config["host_os"].include?("musl")
in_place   = File.realpath(__dir__) == Dir.pwd    # RubyGems builds here; rake-compiler in tmp/
triple     = ENV["CARGO_BUILD_TARGET"].to_s

File.write("Makefile", <<~MAKE)
  sitearchdir   = #{config["sitearchdir"]}
  target_prefix = /#{NAME}
  dest          = $(DESTDIR)$(sitearchdir)$(target_prefix)
  dllib         = #{NAME}.#{config["DLEXT"]}
  target_dir    = target
  export RUBY   = #{RbConfig.ruby}

  .PHONY: all install clean distclean realclean FORCE
  all: $(dllib)

  $(dllib): FORCE
  \t#{cargo.shellescape} rustc --manifest-path #{File.join(__dir__, "Cargo.toml").shellescape} --locked --release --lib --target-dir $(target_dir) -- #{rustc_args.shelljoin}
  \tcp #{File.join("$(target_dir)", triple, "release", "lib#{NAME}.#{config["SOEXT"]}")} $@

  install: $(dllib)
  \tmkdir -p "$(dest)"
  \tcp $(dllib) "$(dest)/$(dllib).tmp" && mv -f "$(dest)/$(dllib).tmp" "$(dest)/$(dllib)"
  #{"\trm -rf $(target_dir) $(dllib)" if in_place}

  clean distclean realclean:
  \trm -rf $(target_dir) $(dllib)
MAKE
