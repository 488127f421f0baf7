# frozen_string_literal: true

require "tmpdir"

# Limits, caches and metrics of applications are those of all workers together, with real servers.
RSpec.describe "A Puma cluster with ActiveSupport's cache", :unstressed, limit: 120 do
  around { |example| Dir.mktmpdir { |dir| @dir = dir and example.run } }
  after { @server&.stop }

  before(:all) { skip "Puma or ActiveSupport is not installed" unless Server.installed?("puma", "rack", "logger", "active_support/cache") }

  # A cluster of two workers with an application; `lines` are of its config.ru, before `run`.
  def start(lines, application)
    ru = <<~RUBY
      require "logger"
      require "active_support"
      require "active_support/cache"
      CACHE = ActiveSupport::Cache.lookup_store(:process_shared_store, size: 1 << 20)
      #{lines}
      run #{application}
    RUBY
    puma = "bind \"unix://#{@dir}/socket\"\nworkers 2\nthreads 1, 4\npreload_app!\n"
    @server = Server.new(@dir, { "puma.rb" => puma, "config.ru" => ru }, RbConfig.ruby, "-S", "puma", "-C", "puma.rb")
    wait_until("an answer; log: #{File.read(@server.log)[-2000..]}", within: 60) { @server.get }
  end

  # Answers to so many requests, of several threads at once.
  def ask(requests)
    Array.new(4) { Thread.new { Array.new(requests / 4) { @server.get } } }.flat_map(&:value)
  end

  it "lets Rack::Attack count exactly, whichever worker answers, also after one was killed" do
    skip "Rack::Attack is not installed" unless Server.installed?("rack/attack")
    start(<<~RUBY, '->(_env) { [200, {}, ["#{Process.pid}"]] }')
      require "rack/attack"
      Rack::Attack.cache.store = CACHE
      Rack::Attack.throttle("all", limit: 40, period: 86_400 * 1000) { "everybody" }
      use Rack::Attack
    RUBY
    workers = ask(20).map { |answer| Integer(answer) }
    Process.kill(:KILL, workers.first)
    wait_until("its end") { !File.exist?("/proc/#{workers.first}") }
    expect(ask(40).grep(/\A\d+\z/).size).to eq 19 # the 21 before were answered: one by start, and 20
  end

  it "knows its sessions, whichever worker answers, also after all of them were killed" do
    File.symlink(Recipes::DIRECTORY, File.join(@dir, "examples"))
    lines = 'require_relative "examples/session_registry"; REGISTRY = SessionRegistry.new(1 << 20, lifetime: 60)'
    start(lines, '->(_env) { [200, {}, ["#{REGISTRY.log_in("user")} #{REGISTRY.sessions["user"]} #{Process.pid}"]] }')
    answers = ask(20).map(&:split)
    expect(answers.map { |_, count, _| count.to_i }.max).to eq 21 # with that of `start`
    answers.map(&:last).uniq.each { |worker| Process.kill(:KILL, worker.to_i) }
    wait_until("a new worker") { @server.get&.split&.at(1).to_i >= 22 }
  end

  it "has the metrics of all workers, as the README's recipe makes them: totals of all that were, gauges of those that live" do
    client = Server.installed?("prometheus/client") ? "prometheus/client" : File.expand_path("../support/prometheus_client", __dir__)
    recipe = File.read(File.expand_path("../../README.md", __dir__))[%r{^# config/initializers/prometheus\.rb\n.*?(?=^```)}m]
    start(<<~RUBY, '->(env) { [200, {}, [ANSWER.(env["PATH_INFO"])]] }')
      require #{client.dump}
      #{recipe}
      BUSY = busy
      REQUESTS = Prometheus::Client.registry.counter(:requests, docstring: "Requests", labels: [:path])
      ANSWER = lambda do |path|
        return Prometheus::Client.registry.metrics.to_h { |metric| [metric.name, metric.values.values.sum] }.inspect if path == "/metrics"

        REQUESTS.increment(labels: { path: path })
        BUSY.set(1)
        Process.pid.to_s
      end
    RUBY
    metrics = -> { @server.get("/metrics").to_s.scan(/\d+\.\d+/).map(&:to_f) }
    workers = wait_until("both workers") { ask(20).uniq.then { |pids| pids if pids.size == 2 } }
    busy, requests = metrics.call
    expect([busy, requests % 4]).to eq [2.0, 1.0] # one by start, then four threads' equal shares
    Process.kill(:KILL, Integer(workers.first))
    wait_until("its end") { metrics.call == [1.0, requests] }
  end

  it "has one cache" do
    start("", '->(_env) { [200, {}, ["#{CACHE.increment("n")} #{CACHE.fetch("made") { Process.pid }}"]] }')
    answers = ask(40).compact.map { |answer| answer.split.map(&:to_i) }
    expect(answers.map(&:first).sort).to eq (2..41).to_a
    expect(answers.map(&:last).uniq.size).to eq 1
  end
end
