# frozen_string_literal: true

# The RBS signatures in sig/: well-formed, and every name in them known. spec/sig_spec.rb compares them with the
# running classes.

desc "Validate the signatures"
task :signatures do
  sh Gem.ruby, Gem.bin_path("rbs", "rbs"), "-I", "sig", "validate", "--silent", verbose: false
end
