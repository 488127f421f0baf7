# frozen_string_literal: true

begin
  require "rbs"
rescue LoadError
  nil # comes with most Rubies
end

# The signatures in sig/ against the running classes: all public methods, and none that is not there, each taking
# as many arguments as the method does.
RSpec.describe "Signatures", skip: !defined?(RBS) && "the rbs gem is not here",
                             unstressed: "the parser of rbs 2.1, which comes with Ruby 3.1, does not keep its strings" do
  # Mach is there on macOS only.
  def modules
    require "process_shared/prometheus"
    require "mach" if ProcessShared.const_defined?(:MachCalls, false)
    [ProcessShared, *(Mach if defined?(Mach))]
  end

  def ours
    modules.flat_map { |space| spaces(space) }
  end

  # Modules and classes of ours, from this one down.
  def spaces(space)
    [space] + space.constants(false).map { |name| space.const_get(name) }.grep(Module).flat_map { |inner| spaces(inner) }
  end

  def definitions
    @definitions ||= begin
      loader = RBS::EnvironmentLoader.new
      loader.add(path: Pathname(File.expand_path("../sig", __dir__)))
      RBS::DefinitionBuilder.new(env: RBS::Environment.from_loader(loader).resolve_type_names)
    end
  end

  # The methods that the signatures give this class itself.
  def declared(space)
    name = RBS::Namespace.parse("::#{space}").to_type_name
    definitions.build_instance(name).methods.select do |method, signature|
      signature.implemented_in == name && (signature.public? || method == :initialize)
    end
  end

  def running(space)
    names = space.public_instance_methods(false)
    space.private_instance_methods(false).include?(:initialize) && space.is_a?(Class) ? names + [:initialize] : names
  end

  # [fewest, most] arguments, and keywords, of all overloads together.
  def accepted(method)
    functions = method.method_types.map(&:type)
    fewest = functions.map { |function| function.required_positionals.size + function.trailing_positionals.size }
    most = functions.zip(fewest).map { |function, least| function.rest_positionals ? Float::INFINITY : least + function.optional_positionals.size }
    keywords = functions.flat_map { |function| function.required_keywords.keys + function.optional_keywords.keys + [function.rest_keywords && :**] }
    [fewest.min, most.max, keywords.compact.uniq.sort]
  end

  # The same of the method itself; nil where a native method does not tell.
  def taken(method)
    return (method.arity.negative? ? nil : [method.arity, method.arity, []]) unless method.source_location

    kinds = method.parameters.group_by(&:first)
    required = kinds.fetch(:req, []).size
    most = kinds.key?(:rest) ? Float::INFINITY : required + kinds.fetch(:opt, []).size
    keywords = kinds.values_at(:key, :keyreq).compact.flatten(1).map(&:last) + (kinds.key?(:keyrest) ? [:**] : [])
    [required, most, keywords.sort]
  end

  # Exactly what it takes; the signature may narrow a method that takes any number, as IO#gets does.
  def fits?(declares, takes)
    declares == takes ||
      takes[1] == Float::INFINITY && declares[0] >= takes[0] && declares[0] < declares[1] && declares[2] == takes[2]
  end

  it "cover every public method, and no other" do
    wrong = ours.flat_map do |space|
      names = declared(space).keys
      missing = running(space) - names
      lost = names.reject { |name| space.method_defined?(name) || space.private_method_defined?(:initialize) && name == :initialize }
      missing.map { |name| "#{space}##{name} has no signature" } + lost.map { |name| "#{space}##{name} does not exist" }
    end
    expect(wrong).to be_empty, wrong.join("\n")
  end

  it "name no class that is not there" do
    names = definitions.env.class_decls.keys.map { |name| name.to_s.delete_prefix("::") }
    names = names.grep(/\A(?:#{modules.join("|")})(?:::|\z)/)
    expect(names.reject { |name| Object.const_defined?(name) }).to be_empty
  end

  it "take as many arguments as the methods do" do
    wrong = ours.flat_map do |space|
      declared(space).slice(*running(space)).filter_map do |name, signature|
        declares = accepted(signature)
        takes = taken(space.instance_method(name))
        ok = takes ? fits?(declares, takes) : declares[0] < declares[1] || declares[2].any?
        "#{space}##{name}: declared #{declares}, takes #{takes || "a number that varies"}" unless ok
      end
    end
    expect(wrong).to be_empty, wrong.join("\n")
  end
end
