# frozen_string_literal: true

require "open3"
require "rbconfig"
require "tempfile"
require "timeout"

# Scripts in a Ruby of their own: for what must not touch the process of the specs (Ractors, -w, limits), or needs a
# process that has not forked.
module Rubies
  LIB = File.expand_path("../../lib", __dir__)
  # Where the extension under test is, which may be another than that in lib.
  EXTENSION = $LOAD_PATH.find { |dir| File.exist?("#{dir}/process_shared/process_shared.#{RbConfig::CONFIG["DLEXT"]}") }
  LOAD = [*EXTENSION, LIB].uniq.map { |dir| "-I#{dir}" }.freeze

  # Runs the script with process_shared loaded; returns what it printed on both outputs. Fails unless it succeeds.
  def ruby(script, **options)
    output, status = ruby_with_status(script, **options)
    raise "#{status.inspect}: #{output}" unless status.success?

    output
  end

  # Runs a script that was preceded by another, from before process_shared was loaded.
  def ruby_after(before, script)
    Tempfile.create(["before", ".rb"]) do |file|
      file.write(before)
      file.flush
      ruby(script, options: ["-r", file.path])
    end
  end

  # With <tt>loaded: false</tt> the script loads process_shared itself.
  def ruby_with_status(script, options: [], env: {}, within: 20, loaded: true)
    load = ["-rprocess_shared"] if loaded
    command = [env, RbConfig.ruby, *LOAD, *options, *load, *Stress.options, "-e", script]
    Open3.popen2e(*command, pgroup: true) do |input, output, thread|
      input.close
      text = Timeout.timeout(within) { output.read }
      [text, thread.value]
    ensure
      Process.kill(:KILL, -thread.pid) if thread.alive?
    end
  end
end
