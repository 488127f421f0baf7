# frozen_string_literal: true

# A registry of the users that are logged in. All workers of a server share it: a worker finds the sessions that other
# workers began.
# A session ends by itself when nobody has used it for a while. Each step is one call, so a worker that is killed,
# wherever it is, leaves a session as it was or as it should be.
#
# With a path the sessions outlive the server, and a console sees them.

require "process_shared"
require "securerandom"

class SessionRegistry
  # bytes: room for all sessions; lifetime: seconds without a request
  def initialize(bytes, lifetime:, path: nil)
    @users = ProcessShared::Map.new(bytes, path: path)
    @lifetime = lifetime
  end

  # Begins a session, and returns its token. Raises ProcessShared::FullError where there is no room.
  def log_in(user)
    SecureRandom.hex(16).tap { |token| @users.store(token, user, expires_in: @lifetime) }
  end

  # Whose session this is, or nil. It lives on from now.
  def user(token)
    @users[token] if @users.touch(token, expires_in: @lifetime)
  end

  # Returns whose session has ended.
  def log_out(token) = @users.delete(token)

  # Ends all sessions of a user, as after a change of password.
  def log_out_everywhere(user)
    @users.each_pair { |token, other| @users.delete(token) if other == user }
  end

  # The users that are logged in, each with a number of sessions.
  def sessions = @users.values.tally
end

return unless $PROGRAM_NAME == __FILE__

registry = SessionRegistry.new(1 << 20, lifetime: 600)
reader, writer = IO.pipe
Process.wait(fork { writer.write(registry.log_in("ada")) }) # one worker
writer.close
token = reader.read
puts "#{registry.user(token)} is logged in, says another worker"
abort "unknown" unless registry.user(token) == "ada"

worker = fork { loop { registry.log_in("bob") } }
sleep 0.001 until registry.sessions["bob"]
Process.kill(:KILL, worker)
Process.wait(worker)
puts "when a worker was killed, #{registry.sessions.keys.sort.join(" and ")} were logged in"

registry.log_out_everywhere("bob")
registry.log_out(token)
abort "not logged out" unless registry.user(token).nil? && registry.sessions.empty?
