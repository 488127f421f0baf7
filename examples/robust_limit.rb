# frozen_string_literal: true

# A limit on concurrent work that survives whatever ends a worker: `kill -9`, a crash, memory that runs out, or Unicorn, which
# kills each worker whose request takes longer than its `timeout`. The permits of a robust Semaphore belong to processes: they
# come back by themselves when their process is gone. Here plain forked processes stand for Unicorn's workers, and the
# program kills each worker that takes too long.

require "process_shared"

# At most `limit` requests at a time may do what is slow; more wait for `patience` seconds, and are refused then.
class SlowPart
  BUSY = [503, { "Content-Type" => "text/plain", "Retry-After" => "1" }, ["busy\n"]].freeze

  def initialize(app, limit:, patience: 1)
    @app = app
    @limit = ProcessShared::Semaphore.new(limit, robust: true)
    @patience = patience
  end

  def call(env)
    @limit.try_acquire(1, @patience) { @app.call(env) } || BUSY
  end

  # Which processes are at it, for a status page: {pid => requests}.
  def busy = @limit.holders
end

return unless $PROGRAM_NAME == __FILE__

application = ->(env) { env[:hangs] ? sleep : [200, {}, ["done\n"]] }
slow_part = SlowPart.new(application, limit: 2, patience: 0.05)

stuck = Array.new(2) { fork { slow_part.call({ hangs: true }) } }
sleep 0.01 until slow_part.busy.size == 2
puts "two requests hang; the next one gets #{slow_part.call({}).first}"
stuck.each { |pid| Process.kill(:KILL, pid) && Process.wait(pid) } # as Unicorn does after its timeout
answers = Array.new(10) { slow_part.call({}).first }
puts "they were killed; the next ten get #{answers.uniq.join(", ")}"
abort "permits were lost" unless answers == [200] * 10 && slow_part.busy.empty?
