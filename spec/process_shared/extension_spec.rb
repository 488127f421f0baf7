# frozen_string_literal: true

require "fileutils"
require "open3"
require "rbconfig"
require "tmpdir"

RSpec.describe "The native extension" do
  library = File.dirname($LOADED_FEATURES.grep(%r{/process_shared/native\.rb\z}).first)
  binary = $LOADED_FEATURES.grep(%r{/process_shared\.#{RbConfig::CONFIG["DLEXT"]}\z}).first

  # A copy of lib/ without the extension, but for what the block puts there.
  def in_a_copy(library)
    Dir.mktmpdir do |dir|
      FileUtils.cp_r(library, dir)
      FileUtils.cp("#{library}.rb", dir)
      FileUtils.rm_f(Dir["#{dir}/**/*.{so,bundle}"])
      yield dir
      return Open3.capture2e(RbConfig.ruby, "--disable-gems", "-w", "-I#{dir}", "-e", <<~RUBY).first
        begin
          require "process_shared"
          print $LOADED_FEATURES.grep(/process_shared\\.(so|bundle)\\z/).first.delete_prefix("#{File.realpath(dir)}/")
        rescue LoadError => error
          print "LoadError: ", error.message
        end
      RUBY
    end
  end

  it "says what to do where it is missing" do
    expect(in_a_copy(library) { nil }).to match(/\ALoadError: process_shared has no native extension for Ruby #{RUBY_VERSION} .*`rake compile`/)
  end

  it "says what to do where it cannot be loaded" do
    said = in_a_copy(library) { |dir| File.write("#{dir}/process_shared/#{File.basename(binary)}", "nonsense") }
    expect(said).to match(/\ALoadError: process_shared has no native extension .*`gem pristine process_shared`/)
  end

  it "is the precompiled one of this Ruby, if there is one" do
    name = "process_shared/#{RUBY_VERSION[/\d+\.\d+/]}/#{File.basename(binary)}"
    said = in_a_copy(library) do |dir|
      FileUtils.mkdir_p(File.dirname("#{dir}/#{name}"))
      FileUtils.cp(binary, "#{dir}/#{name}")
    end
    expect(said).to eq name
  end
end
