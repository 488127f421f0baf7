# frozen_string_literal: true

# Handing over: how fast one process gets another going.

# Pairs of processes that send a ball back and forth, or a ring that it goes around in.
module HandOver
  # The ball goes from each station to the next; `send` and `receive` take a station.
  class Semaphores
    def initialize(stations) = @semaphores = Array.new(stations) { ProcessShared::Semaphore.new(0) }
    def send(station) = @semaphores[station].post
    def receive(station) = @semaphores[station].wait
    def close; end
  end

  # A byte is the ball.
  class Pipes
    def initialize(stations)
      @pipes = Array.new(stations) { IO.pipe }
      @byte = +"."
    end

    def send(station) = @pipes[station][1].syswrite(@byte)
    def receive(station) = @pipes[station][0].sysread(1, @byte)
    def close = @pipes.flatten.each(&:close)
  end

  module_function

  # Seconds a round takes in `rings` rings of `size` processes each, all at once.
  def time(kind, rings, size, rounds)
    balls = kind.new(rings * size)
    seconds = Bench::Crew.time(rings * size) do |number|
      first = number - number % size
      ahead = first + (number + 1) % size
      balls.send(ahead) if number == first
      (rounds - 1).times do
        balls.receive(number)
        balls.send(ahead)
      end
      balls.receive(number)
      balls.send(ahead) unless number == first
    end
    seconds / (rounds * rings)
  ensure
    balls&.close
  end
end

rounds = Bench.quick? ? 20 : 4000
{
  "round trip between 2 processes" => [1, 2, 0.5],
  "round trip, 4 pairs of processes" => [4, 2, 1.0],
  "round through a ring of 8 processes" => [1, 8, 1.0]
}.each do |work, (rings, size, goal)|
  Bench.compare("Semaphore", work, rounds: 31) do |c|
    c.timed("Semaphore") { HandOver.time(HandOver::Semaphores, rings, size, rounds / size) }
    c.timed("a byte over pipes", goal: goal) { HandOver.time(HandOver::Pipes, rings, size, rounds / size) }
  end
end
