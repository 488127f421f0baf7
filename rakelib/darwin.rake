# frozen_string_literal: true

# macOS without a Mac: both crates checked for it, and the core crate linked against the list of symbols its libraries
# really export. And what macOS runs, run on Linux over a model of the Mach kernel.

namespace :rust do
  targets = %w[aarch64-apple-darwin x86_64-apple-darwin]
  sysroot = File.expand_path(ENV.fetch("DARWIN_SYSROOT", "tmp/darwin"))
  cargo = ENV.fetch("CARGO", "cargo")

  # What sourcing the sysroot's env sets.
  darwin = lambda do
    output = IO.popen(["sh", "-c", '. "$1" && env -0', "sh", "#{sysroot}/env"], &:read)
    output.split("\0").to_h { |pair| pair.split("=", 2) }.slice("SDKROOT").merge(
      output.split("\0").grep(/\ACARGO_TARGET_\w+_APPLE/).to_h { |pair| pair.split("=", 2) }
    )
  end

  # Links the core crate with all its code; returns what it takes from the system's libraries.
  link = lambda do |env, target|
    system(env, cargo, "rustc", "--quiet", "--locked", "-p", "process_shared-core", "--lib", "--crate-type", "cdylib",
           "--target", target) or abort "does not link for #{target}"
    library = "#{ENV.fetch("CARGO_TARGET_DIR", "target")}/#{target}/debug/libprocess_shared_core.dylib"
    exported = File.binread("#{sysroot}/sdk/usr/lib/libSystem.tbd").scan(/\b_\w+/)
    taken = File.binread(library).scan(/(?<=\0)_\w+(?=\0)/) & exported
    taken.grep(/\A_(mach|semaphore|task|host|clock|bootstrap|proc|shm|pthread_threadid)_/).sort
  end

  # There are no headers of a Ruby for macOS here. Those of this machine's Ruby declare the same functions, so they
  # do for a check, once rb-sys is told that they are for macOS, and clang, which reads them, that they are not.
  as_if_for_darwin = RbConfig::CONFIG.to_h { |key, value| ["RBCONFIG_#{key}", value] }.merge(
    "RBCONFIG_CROSS_COMPILING" => "yes", "RBCONFIG_target_os" => "darwin", "RUBY" => Gem.ruby,
    "BINDGEN_EXTRA_CLANG_ARGS" => "--target=#{RbConfig::CONFIG["host"]}"
  )

  desc "Check both crates for macOS (both processors), and link the core against its symbols"
  task :darwin do
    unless File.exist?("#{sysroot}/env") || system("rakelib/darwin_sysroot.sh", sysroot, *targets)
      abort "no sysroot for macOS" unless $?.exitstatus == 3
      puts "LEFT OUT: a sysroot for macOS cannot be made on this machine"
      next
    end
    env = darwin.call
    targets.each do |target|
      sh(env, cargo, "clippy", "--quiet", "--locked", "-p", "process_shared-core", "--target", target, "--", "-Dwarnings",
         verbose: false)
      puts "== #{target}: checked and linked; of the system it takes", link.call(env, target).join(" ")
      sh(env.merge(as_if_for_darwin), cargo, "clippy", "--quiet", "--locked", "-p", "process_shared", "--target", target,
         "--", "-Dwarnings", verbose: false)
      puts "   the extension: checked, with this machine's Ruby headers"
    end
  end

  namespace :darwin do
    desc "Does a symbol that macOS does not have make rust:darwin fail?"
    task :proof do
      next puts("no sysroot for macOS") unless File.exist?("#{sysroot}/env")

      source = "tmp/darwin_proof.rs"
      File.write(source, <<~RUST)
        unsafe extern "C" { fn mach_made_up() -> i32; }
        pub fn nobody_calls_this() -> i32 { unsafe { mach_made_up() } }
      RUST
      env = darwin.call
      key = "CARGO_TARGET_AARCH64_APPLE_DARWIN"
      flags = env.fetch("#{key}_RUSTFLAGS").split
      log = IO.popen([env, "rustc", "--crate-type", "cdylib", "--target", targets.first, *flags,
                      "-Clinker=#{env.fetch("#{key}_LINKER")}", "-o", "tmp/darwin_proof.dylib", source,
                      { err: %i[child out] }], &:read)
      abort "a made-up symbol was linked:\n#{log}" if $?.success? || !log.include?("undefined symbol: _mach_made_up")
      puts "a made-up symbol is refused"
    end
  end

  desc "The core crate's tests over the model of the Mach kernel"
  task(:simulated) do
    next puts("the model of the Mach kernel runs on Linux only") unless RUBY_PLATFORM.include?("linux")

    sh cargo, "clippy", "--quiet", "--workspace", "--all-targets", "--locked", "--features", "process_shared/simulated-mach",
       "--", "-Dwarnings", verbose: false
    sh cargo, "test", "--locked", "--features", "simulated-mach", verbose: false
  end
end

desc "Specs of the fork hook and the Mach module, over the model of the Mach kernel"
task :simulated do
  next puts("the model of the Mach kernel runs on Linux only") unless RUBY_PLATFORM.include?("linux")

  cargo = ENV.fetch("CARGO", "cargo")
  sh({ "RUBY" => Gem.ruby }, cargo, "build", "--quiet", "--locked", "-p", "process_shared", "--features", "simulated-mach",
     verbose: false)
  mkdir_p "tmp/simulated/process_shared", verbose: false
  cp "#{ENV.fetch("CARGO_TARGET_DIR", "target")}/debug/libprocess_shared.so",
     "tmp/simulated/process_shared/process_shared.so", verbose: false
  path = %w[tmp/simulated lib].map { |dir| File.expand_path(dir) }
  specs = FileList["spec/macos/*_spec.rb"]
  sh({ "RUBYLIB" => path.join(":") }, Gem.ruby, "-w", "-S", "rspec", "-Ispec", "--require", "spec_helper", *specs,
     verbose: false)
end
