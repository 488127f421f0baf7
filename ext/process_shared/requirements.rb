# frozen_string_literal: true

# What building the extension needs, and how to say that it is missing: one line for each thing, before anything
# is built. A check reports only what is certain to stop the build; what it cannot be sure of, it lets pass.
#
# A cross build runs in a container that has its compilers, and whose Ruby cannot be asked; only cargo and the
# crates are looked at there.
require "open3"
require "rbconfig"
require "shellwords"
require "tempfile"

class Requirements
  RUST = "1.85" # rust-version in Cargo.toml
  RUSTUP = "Install Rust #{RUST} or newer (https://rustup.rs)"

  # Where clang-sys, which finds libclang for bindgen, looks on Linux, besides in what `llvm-config` names.
  LIBRARIES = "{/usr/lib*,/usr/local/lib*,/usr/local/llvm*/lib*}/{,*/,*/*/}"

  def initialize(cargo, manifest)
    @cargo = cargo
    @manifest = manifest
    @config = RbConfig::CONFIG
    @target = ENV.fetch("CARGO_BUILD_TARGET", "")
  end

  # A sentence for each thing that is missing. The crates are fetched last, with all else in place.
  def missing
    problems = [rust, *(toolchain if @target.empty?)].compact
    problems.empty? ? [crates].compact : problems
  end

  private

  def toolchain = [make, ruby_headers, *compilers, libclang]

  def rust
    output, status = Open3.capture2e(@cargo, "--version", "--verbose")
    return "cargo does not run (#{reason(output)}). #{RUSTUP}" unless status.success?

    @host = output[/^host: (\S+)/, 1]
    version = output[/\d+(\.\d+)+/]
    "cargo #{version} is too old. #{RUSTUP}" if version && Gem::Version.new(version) < Gem::Version.new(RUST)
  rescue SystemCallError
    "cargo not found. #{RUSTUP}"
  end

  def make
    names = [ENV["MAKE"] || ENV["make"] || %w[make gmake]].flatten
    return if names.any? { |name| program?(name.shellsplit.first) }

    "make not found. Install it (Debian, Ubuntu, Fedora, Alpine: make; macOS: xcode-select --install)"
  end

  def ruby_headers
    return if [File.join(@config["rubyhdrdir"].to_s, "ruby.h"),
               File.join(@config["rubyarchhdrdir"].to_s, "ruby/config.h")].all? { |file| File.exist?(file) }

    "Ruby's headers not found (ruby.h). Install them (Debian, Ubuntu, Alpine: ruby-dev; Fedora: ruby-devel)"
  end

  # The compiler this Ruby was built with links the extension, and `cc` links the build scripts of the crates, unless
  # cargo was told of another linker.
  def compilers
    commands = [@config["CC"].shellsplit]
    commands << ["cc"] if ENV.keys.grep(/\ACARGO_TARGET_.*_LINKER\z/).empty?
    commands.uniq(&:first).filter_map { |command| compiler(command) }.first(1)
  end

  def compiler(command)
    unless program?(command.first)
      return "C compiler not found (#{command.first}). Install it (Debian, Ubuntu: gcc libc6-dev; Fedora: gcc; " \
             "Alpine: gcc musl-dev; macOS: xcode-select --install)"
    end

    Tempfile.create("process_shared") do |program|
      output, status = Open3.capture2e(*command, "-x", "c", "-", "-o", program.path,
                                       stdin_data: "#include <stdio.h>\nint main(void) { return 0; }\n")
      next if status.success?

      "the C compiler #{command.first} cannot build a program (#{output[/.*error: .*/] || last_line(output)}). Install the " \
        "C library's headers (Debian, Ubuntu: libc6-dev; Fedora: glibc-devel; Alpine: musl-dev)"
    end
  end

  # bindgen reads Ruby's headers with libclang, and libclang needs the headers that every compiler brings along.
  def libclang
    return unless RUBY_PLATFORM.include?("linux") # macOS: comes with the compiler
    return if ENV["LIBCLANG_PATH"]

    install = "Install it (Debian, Ubuntu: libclang-dev; Fedora: clang-devel; Alpine: clang-dev)"
    places = [LIBRARIES, *llvm_libraries]
    return "libclang not found. #{install} or set LIBCLANG_PATH to its directory" if Dir[*places.map { |dir| "#{dir}libclang{,-*}.so*" }].empty?
    return if ENV["BINDGEN_EXTRA_CLANG_ARGS"] || ENV["CLANG_PATH"] || program?("clang")
    return if File.exist?("/usr/include/stdarg.h") # musl has its own

    "libclang's own headers not found (stdarg.h). #{install}" if Dir[*places.map { |dir| "#{dir}clang/*/include/stdarg.h" }].empty?
  end

  def llvm_libraries
    prefix, status = Open3.capture2(ENV.fetch("LLVM_CONFIG_PATH", "llvm-config"), "--prefix", err: File::NULL)
    status.success? ? "#{prefix.strip}/lib*/" : []
  rescue SystemCallError
    []
  end

  # Downloads what cargo has not got yet.
  def crates
    target = @target.empty? ? @host : @target
    fetch = [@cargo, "fetch", "--locked", "--manifest-path", @manifest, *(["--target", target] if target)]
    return if Open3.capture2e(*fetch, "--offline").last.success?

    output, status = Open3.capture2e(*fetch)
    return if status.success?

    "cargo cannot get the crates to build with (#{reason(output)}). Let it reach https://index.crates.io and " \
      "https://static.crates.io, or a mirror named in cargo's configuration"
  end

  # The innermost "Caused by:" of cargo and rustup, or their error.
  def reason(output)
    return "it is told to be offline, and has not got them" if output.include?("--offline")

    (output.split("Caused by:").drop(1).last || output[/error: .*/] || last_line(output))[/\S.*/].to_s.delete_prefix("error: ")
  end

  def last_line(output) = output.lines(chomp: true).grep(/\S/).last.to_s.strip

  def program?(name)
    return File.executable?(name) if name.include?("/")

    ENV.fetch("PATH", "").split(File::PATH_SEPARATOR).any? { |dir| File.file?(file = File.join(dir, name)) && File.executable?(file) }
  end
end
