# frozen_string_literal: true

# macOS without a Mac: both crates checked for it, and linked against the lists of symbols its libraries really export.
# That shows that every symbol is there, and nothing about behaviour.
#
# What it takes (see darwin_sysroot.sh) is made in tmp/darwin, or found where DARWIN_SYSROOT says, and used as it is.

namespace :rust do
  targets = %w[aarch64-apple-darwin x86_64-apple-darwin]
  sysroot = File.expand_path(ENV.fetch("DARWIN_SYSROOT", "tmp/darwin"))
  libraries = "#{sysroot}/sdk/usr/lib"
  cargo = ENV.fetch("CARGO", "cargo")

  # False, once it has been said, where it cannot be made.
  ready = lambda do
    next true if ENV.key?("DARWIN_SYSROOT") && File.exist?("#{sysroot}/env")
    next true if system("rakelib/darwin_sysroot.sh", sysroot, *targets)

    abort "no sysroot for macOS" unless $?.exitstatus == 3
    puts "LEFT OUT: a sysroot for macOS cannot be made on this machine"
  end

  # What sourcing the sysroot's env sets.
  darwin = lambda do
    output = IO.popen(["sh", "-c", '. "$1" && env -0', "sh", "#{sysroot}/env"], &:read)
    output.split("\0").grep(/\A(SDKROOT|CARGO_TARGET_\w+_APPLE\w+)=/).to_h { |pair| pair.split("=", 2) }
  end

  # There is no Ruby for macOS here. Headers of this machine's Ruby declare the same functions, so they do for a check,
  # once rb-sys is told that they are for macOS, and clang, which reads them, that they are not.
  as_if_for_darwin = RbConfig::CONFIG.to_h { |key, value| ["RBCONFIG_#{key}", value] }.merge(
    "RBCONFIG_CROSS_COMPILING" => "yes", "RBCONFIG_target_os" => "darwin", "RUBY" => Gem.ruby,
    "BINDGEN_EXTRA_CLANG_ARGS" => "--target=#{RbConfig::CONFIG["host"]}"
  )

  # For the same reason, the symbols that this machine's Ruby exports do for linking.
  list_symbols_of_ruby = lambda do
    shared = RbConfig::CONFIG.values_at("archlibdir", "libdir").compact.map { |dir| "#{dir}/#{RbConfig::CONFIG["LIBRUBY_SO"]}" }
    program = shared.find { |file| File.file?(file) } || Gem.ruby
    names = IO.popen(["nm", "-D", "--defined-only", "-P", program], &:read).scan(/^(?:rb|ruby)_\w+/).uniq
    abort "#{program} exports nothing of Ruby's" if names.empty?
    File.write("#{libraries}/libruby.tbd", <<~TBD)
      --- !tapi-tbd
      tbd-version:     4
      targets:         [ x86_64-macos, arm64-macos ]
      install-name:    'libruby.dylib'
      exports:
        - targets:         [ x86_64-macos, arm64-macos ]
          symbols:         [ #{names.map { |name| "_#{name}" }.join(", ")} ]
      ...
    TBD
  end

  # Checks a crate with its tests, links it with all its code; returns the symbols that it takes from the library.
  link = lambda do |env, target, crate, from:, flags: []|
    common = ["--quiet", "--locked", "-p", crate, "--target", target]
    sh(env, cargo, "clippy", *common, "--all-targets", "--", "-Dwarnings", verbose: false)
    sh(env, cargo, "rustc", *common, "--lib", "--crate-type", "cdylib", "--", *flags, verbose: false)
    built = File.join(ENV.fetch("CARGO_TARGET_DIR", "target"), target, "debug", "lib#{crate.tr("-", "_")}.dylib")
    File.binread(built).scan(/(?<=\0)_\w+(?=\0)/) & File.binread("#{libraries}/#{from}.tbd").scan(/\b_\w+/)
  end

  desc "Check both crates for macOS (both processors), and link them against its symbols"
  task :darwin do
    next unless ready.call

    list_symbols_of_ruby.call
    targets.each do |target|
      taken = link.call(darwin.call, target, "process_shared-core", from: "libSystem")
      puts "== #{target}: the core is checked and linked; of the kernel's it takes",
           taken.grep(/\A_(mach|semaphore|task|host|clock|bootstrap|proc|shm|pthread_threadid)_/).sort.join(" ")
      of_ruby = link.call(darwin.call.merge(as_if_for_darwin), target, "process_shared", from: "libruby", flags: ["-lruby"])
      puts "   the extension is checked and linked; of Ruby's it takes #{of_ruby.size}, which Ruby #{RUBY_VERSION} has"
    end
  end

  namespace :darwin do
    desc "Does a symbol that macOS does not have make rust:darwin fail?"
    task :proof do
      next unless ready.call

      dir = "tmp/darwin_proof"
      mkdir_p dir, verbose: false
      File.write("#{dir}/proof.rs", <<~RUST)
        unsafe extern "C" { fn mach_made_up() -> i32; }
        pub fn nobody_calls_this() -> i32 { unsafe { mach_made_up() } }
      RUST
      env = darwin.call
      targets.each do |target|
        key = "CARGO_TARGET_#{target.upcase.tr("-", "_")}"
        command = ["rustc", "--crate-type", "cdylib", "--target", target, *env.fetch("#{key}_RUSTFLAGS").split,
                   "-Clinker=#{env.fetch("#{key}_LINKER")}", "--out-dir", dir, "#{dir}/proof.rs"]
        log = IO.popen([env, *command, { err: %i[child out] }], &:read)
        refused = !$?.success? && log.include?("undefined symbol: _mach_made_up")
        abort "#{target}: a made-up symbol was linked:\n#{log}" unless refused
        puts "#{target}: a made-up symbol is refused"
      end
    end
  end
end
