# frozen_string_literal: true

# What runs on macOS, run on Linux over a model of the Mach kernel (src/platform/macos/simulated.rs).

namespace :rust do
  cargo = ENV.fetch("CARGO", "cargo")

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
  specs = FileList["spec/macos/*_spec.rb", "spec/sig_spec.rb"]
  sh({ "RUBYLIB" => path.join(":") }, Gem.ruby, "-w", "-S", "rspec", "-Ispec", "--require", "spec_helper", *specs,
     verbose: false)
end
