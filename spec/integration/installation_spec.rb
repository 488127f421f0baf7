# frozen_string_literal: true

require "fileutils"
require "open3"
require "rbconfig"
require "tmpdir"

# What `gem install` does before and after the compiler: extconf.rb says what is missing, and the Makefile it writes keeps
# nothing of a build. Things are really taken away: from PATH, or covered by an empty directory in a mount namespace.
RSpec.describe "Installation", :unstressed, limit: 600 do
  root = File.expand_path("../..", __dir__)
  extconf = "#{root}/ext/process_shared/extconf.rb"
  before { skip "the sources are not here" unless File.exist?(extconf) }

  around { |example| Dir.mktmpdir { |dir| @dir = dir and example.run } }
  attr_reader :dir

  # What extconf.rb says, a line for each thing that is missing; it has written no Makefile then.
  define_method(:said) do |*within, **env|
    work = "#{dir}/work"
    FileUtils.mkdir_p(work)
    env = { "RUBYOPT" => nil, "LIBCLANG_PATH" => nil }.merge(env.transform_keys(&:to_s))
    output, status = Open3.capture2e(env, *within, RbConfig.ruby, extconf, chdir: work)
    expect(File.exist?("#{work}/Makefile")).to be status.success?
    output.lines(chomp: true)
  end

  # A PATH with all programs but these.
  def path_without(*names)
    bin = "#{dir}/bin"
    FileUtils.mkdir_p(bin)
    ENV["PATH"].split(":").reverse.flat_map { |place| Dir["#{place}/*"] }.each do |file|
      FileUtils.ln_sf(file, bin) unless names.include?(File.basename(file))
    end
    bin
  end

  def program(name, text)
    FileUtils.mkdir_p("#{dir}/programs")
    File.write("#{dir}/programs/#{name}", "#!/bin/sh\n#{text}\n", perm: 0o755)
    "#{dir}/programs/#{name}"
  end

  # A command that runs another where these directories are empty.
  def covering(*places)
    empty = "#{dir}/empty"
    FileUtils.mkdir_p(empty)
    covers = places.map { |place| "mount --bind #{empty} #{place}" }.join(" && ")
    namespaces = ["unshare", *("-Ur" unless Process.uid.zero?), "-mn"]
    skip "no mount namespace to be had here" unless system(*namespaces, "true", err: File::NULL)
    [*namespaces, "sh", "-c", "#{covers.empty? ? "true" : covers} && exec \"$@\"", "sh"]
  end

  it "finds nothing missing where the extension can be built" do
    expect(said.grep(/^process_shared:/)).to eq []
  end

  it "says that cargo is missing, is too old, or has no toolchain" do
    expect(said(CARGO: "/nonexistent/cargo")).to contain_exactly(/\Aprocess_shared: cargo not found\. Install Rust /)
    old = program("cargo", "echo cargo 1.63.0")
    expect(said(CARGO: old)).to contain_exactly(/\Aprocess_shared: cargo 1\.63\.0 is too old\. Install Rust /)
    broken = program("cargo", "echo error: no default toolchain >&2; exit 1")
    expect(said(CARGO: broken)).to contain_exactly(/\Aprocess_shared: cargo does not run \(no default toolchain\)\. Install Rust /)
  end

  it "says that make is missing" do
    expect(said(PATH: path_without("make", "gmake"), MAKE: nil)).to contain_exactly(/\Aprocess_shared: make not found\. Install /)
  end

  it "says that the C compiler is missing" do
    path = path_without("cc", RbConfig::CONFIG["CC"].split.first)
    expect(said(PATH: path)).to contain_exactly(/\Aprocess_shared: C compiler not found \(.*\)\. Install /)
  end

  it "says that Ruby's headers are missing" do
    expect(said(*covering(RbConfig::CONFIG["rubyhdrdir"]))).to contain_exactly(/\Aprocess_shared: Ruby's headers not found \(ruby\.h\)\. Install /)
  end

  it "says that the C library's headers are missing" do
    headers = Dir["/usr/include/{,*-linux-*/}bits"].first or skip "not glibc's headers"
    expect(said(*covering(headers))).to contain_exactly(/\Aprocess_shared: the C compiler .* cannot build a program \(.*\)\. Install .*libc6-dev/)
  end

  it "says that clang's own headers are missing, though libclang is there" do
    places = Dir["/usr/lib*/{,*/,*/*/}clang/*/include/stdarg.h"].map { |file| File.dirname(file) }
    skip "no clang headers of the system's to take away" if places.empty? || File.exist?("/usr/include/stdarg.h")
    expect(said(*covering(*places), PATH: path_without("clang"), BINDGEN_EXTRA_CLANG_ARGS: nil))
      .to contain_exactly(/\Aprocess_shared: libclang's own headers not found \(stdarg\.h\)\. Install .*libclang-dev/)
  end

  it "says all that is missing at once" do
    expect(said(PATH: "/nonexistent", CARGO: "/nonexistent/cargo", MAKE: nil).map { |line| line[/\w+ (?:not found|compiler)/] })
      .to start_with("cargo not found", "make not found", "C compiler")
  end

  it "says that the crates cannot be downloaded" do
    empty = { CARGO_HOME: "#{dir}/cargo_home", RUSTUP_TOOLCHAIN: nil, CARGO_NET_RETRY: "0" }
    expect(said(*covering, **empty)).to contain_exactly(/\Aprocess_shared: cargo cannot get the crates to build with \(.*index\.crates\.io/)
    expect(said(CARGO_NET_OFFLINE: "true", **empty))
      .to contain_exactly(/\Aprocess_shared: cargo cannot get the crates to build with \(it is told to be offline/)
  end

  describe "of a gem whose build does not end well" do
    after do
      Process.kill(:KILL, -@make)
    rescue Errno::ESRCH
      nil
    end

    # The gem's files where RubyGems puts them, configured; cargo calls `compiler` for rustc to build a crate.
    define_method(:build) do |compiler|
      files = Dir.chdir(root) { Gem::Specification.load("process_shared.gemspec").files }
      files.each do |file|
        FileUtils.mkdir_p(File.dirname("#{dir}/gem/#{file}"))
        FileUtils.cp("#{root}/#{file}", "#{dir}/gem/#{file}")
      end
      place = "#{dir}/gem/ext/process_shared"
      wrapper = program("rustc", "case \"$*\" in *-vV*|*'--crate-name ___'*) exec \"$@\" ;; esac\nshift\n#{compiler}")
      env = { "CARGO_TARGET_DIR" => nil, "RUBYOPT" => nil, "MAKEFLAGS" => nil, "RUSTC_WRAPPER" => nil }
      expect(system(env, RbConfig.ruby, "extconf.rb", chdir: place, out: File::NULL)).to be true
      log = "#{dir}/log"
      env["RUSTC_WRAPPER"] = wrapper
      [place, @make = spawn(env, "make", chdir: place, pgroup: true, in: File::NULL, %i[out err] => log), log]
    end

    it "leaves nothing of the build when the compiler fails" do
      place, make, log = build("echo the compiler fails; exit 1")
      expect(Process.wait2(make).last).not_to be_success
      expect(File.read(log)).to include("could not compile")
      expect(Dir.children(place)).to contain_exactly("Cargo.toml", "Makefile", "extconf.rb", "requirements.rb", "src")
    end

    %i[INT TERM HUP].each do |signal|
      it "leaves nothing of the build when SIG#{signal} ends it" do
        place, make, = build(": > #{dir}/compiling; sleep 1000")
        wait_until("the compiler's start") { File.exist?("#{dir}/compiling") }
        expect(Dir.children(place)).to include("target")
        Process.kill(signal, -make)
        expect(Process.wait2(make).last).not_to be_success
        wait_until("the build gone") { !Dir.children(place).include?("target") }
      end
    end
  end
end
