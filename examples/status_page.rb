# frozen_string_literal: true

# A status page of all workers of a server, which any of them can show: who lives, since when, how many requests it has
# answered, and what it does now. A worker that is gone, however it went, is off the page at once. Nobody has to clean up, and
# there are no files. Here plain forked processes stand for Puma's workers.

require "process_shared"

# Rack middleware. Made before the workers are forked (preload_app!); each worker calls `enter` when it starts.
class StatusPage
  REQUESTS, TEXT, BYTES = 0, 8, 128 # where in a worker's memory its number of requests is, and its last request

  def initialize(app, at: "/workers")
    @app = app
    @at = at
    @workers = ProcessShared::Presence.new(64, bytes: BYTES)
    @writing = Thread::Mutex.new # the threads of a worker share its memory
  end

  # Called by a thread that lives as long as the worker does, as Puma's before_worker_boot is.
  def enter(name)
    @memory = @workers.enter(name).memory
  end

  def call(env)
    return [200, { "Content-Type" => "text/plain" }, [to_s]] if env["PATH_INFO"] == @at

    count(env["PATH_INFO"])
    @app.call(env)
  end

  def to_s
    lines = @workers.map do |worker|
      format("%-10s pid %-7d %6d requests, %.1f s, last %s\n", worker.name, worker.pid, worker.memory.get_int64(REQUESTS),
             Time.now - worker.since, worker.memory.get_string(TEXT))
    end
    "#{lines.size} workers\n#{lines.join}"
  end

  private

  def count(path)
    return unless @memory # a server without workers, as in development

    @writing.synchronize do
      @memory.put_int64(REQUESTS, @memory.get_int64(REQUESTS) + 1)
      @memory.put_string(TEXT, path[0, 25])
    end
  end
end

return unless $PROGRAM_NAME == __FILE__

page = StatusPage.new(->(_env) { [200, {}, ["hello\n"]] })
workers = Array.new(3) do |number|
  fork do
    page.enter("worker #{number}") # in Puma: before_worker_boot { |number| STATUS.enter("worker #{number}") }
    (number + 1).times { |request| page.call({ "PATH_INFO" => "/#{request}" }) }
    sleep
  end
end
sleep 0.01 until (1..3).all? { |requests| page.to_s.include?("#{requests} requests") }
puts page

Process.kill(:KILL, workers[1])
Process.wait(workers[1])
puts page
abort "the page shows a worker that is gone" unless page.to_s.lines.map { |line| line[/worker \d/] } == [nil, "worker 0", "worker 2"]
(workers - [workers[1]]).each { |pid| Process.kill(:TERM, pid) && Process.wait(pid) }
