# frozen_string_literal: true

# The API documentation, by YARD into doc/html: fails on a warning, on what has no documentation, on a public
# method that the running classes have and the documentation lacks or the other way round, and on an example that
# does not do what it says. What is defined natively is documented by @!method
# directives in the file in lib/ that is named like its class.

require_relative "support/program"

desc "Make the API documentation, and check it against the running classes"
task doc: %w[doc:make doc:complete doc:examples]

namespace :doc do
  task make: :compile do
    rm_rf ".yardoc", verbose: false
    sh Gem.ruby, "-S", "yard", "doc", "--quiet", "--fail-on-warning", verbose: false
  end

  task complete: :make do
    require "yard"
    $LOAD_PATH.unshift(File.expand_path("lib"))
    require "process_shared"
    require "process_shared/prometheus"

    YARD::Registry.load!
    documented, bare = YARD::Registry.all(:module, :class, :method, :constant).select { |object| public?(object) }
                                     .partition { |object| !object.docstring.blank? }
    mach = mach?
    rails = rails?
    here = documented.map(&:path).select { |name| (mach || !name.start_with?("Mach")) && (rails || !name.start_with?("ActiveSupport")) }
    running = [ProcessShared, *(Mach if mach), *(ActiveSupport::Cache::ProcessSharedStore if rails)].flat_map { |space| public_names(space) }
    wrong = bare.map { |object| "#{object.path} has no documentation" }
    wrong += (running - here).map { |name| "#{name} exists, but is not documented" }
    wrong += here.reject { |name| exists?(name) }.map { |name| "#{name} is documented, but does not exist" }
    abort wrong.uniq.sort.join("\n") unless wrong.empty?
    puts "documentation: #{running.size} names, all there"
  end

  # A line `expression # => value` must have that value.
  task examples: :make do
    require "yard"
    YARD::Registry.load!
    examples = YARD::Registry.all.flat_map { |object| object.tags(:example).map { |tag| [object.path, tag.text] } }.uniq
    examples.each do |path, code|
      checked = code.gsub(/^(.+?) # => (.+)$/) { "is = (#{$1}).inspect; is == #{$2.dump} or abort \"#{path}: not \#{is}\"" }
      Program.run("-w", "-Ilib", "-rprocess_shared", "-e", checked) or abort "the example of #{path} failed:\n#{code}"
    end
    puts "documentation: #{examples.size} examples run"
  end

  # Whether this system is one that has the module Mach.
  def mach?
    require "mach"
    true
  rescue LoadError
    false
  end

  # Whether ActiveSupport is installed.
  def rails?
    require "active_support"
    require "active_support/cache/process_shared_store"
    true
  rescue LoadError
    false
  end

  # Whether a documented object and all that it is in are public.
  def public?(object)
    object.root? || object.visibility == :public && !object.has_tag?(:private) && public?(object.namespace)
  end

  # Whether a documented name is there, inherited methods included.
  def exists?(name)
    return Object.const_defined?(name) unless name =~ /(#|\.)([^#.:]+)\z/

    space = Object.const_defined?($`) && Object.const_get($`)
    return false unless space

    $1 == "." ? space.respond_to?($2) : space.method_defined?($2) || ($2 == "initialize" && space.private_method_defined?($2))
  end

  # Names of a module's public constants, and of the public methods that each of them defines itself.
  def public_names(space)
    methods = space.public_instance_methods(false).map { |name| "#{space}##{name}" }
    methods << "#{space}#initialize" if space.is_a?(Class) && space.private_instance_methods(false).include?(:initialize)
    methods += space.singleton_methods(false).map { |name| "#{space}.#{name}" }
    space.constants(false).each_with_object([space.to_s, *methods]) do |name, names|
      value = space.const_get(name)
      value.is_a?(Module) ? names.concat(public_names(value)) : names << "#{space}::#{name}"
    end
  end
end
