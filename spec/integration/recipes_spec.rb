# frozen_string_literal: true

# What the recipes of the README promise when the processes that take part in them are killed, at every step and again
# and again.
RSpec.describe "The recipe", :unstressed, limit: 120 do
  include Recipes

  describe "that hands two numbers over" do
    # Runs the program, and kills its first sender, which finds the receiver waiting, at `step`. True if the sender's end
    # came first.
    def sent_before?(step)
      in_child do
        $stdout.reopen(File::NULL)
        sent = ProcessShared::Semaphore.new(0)
        forks = []
        example = self
        TOPLEVEL_BINDING.receiver.define_singleton_method(:fork) do |&block|
          example.wait_until_blocked(forks.first) if forks.size == 1
          die = forks.size == 1
          forks << super() { die ? Recipes.dying_at(step, &block) && sent.post : block.call }
          forks.last
        end
        load "#{Recipes::DIRECTORY}/condition_variable_hand_over.rb"
        sent.value == 1
      end
    end

    it "gets them there, wherever the sender is killed" do
      expect(1.step.find { |step| sent_before?(step) }).to be > 10
    end
  end

  describe "of the limit" do
    it "holds whoever is killed, and keeps the permits that killed processes waited for" do
      limit = ProcessShared::Semaphore.new(2)
      inside = Array.new(2) { ProcessShared::Mutex.new } # held by those who are inside
      broken = ProcessShared::Semaphore.new(0)
      holders = Array.new(2) { fork_child { |parent| limit.synchronize { parent.say && parent.listen } } }
      holders.each(&:hear)
      kill_again_and_again(3, 30) { loop { limit.synchronize { broken.post } } }.each(&:kill)
      expect(broken.value).to be 0
      holders.each { |holder| holder.tell(:go) }.each(&:value)
      expect(limit.value).to be 2

      crew = kill_again_and_again(5, 100) do
        loop do
          limit.synchronize { inside.find(&:try_lock)&.unlock or broken.post }
          sleep 0.001
        end
      end
      crew.each(&:kill)
      expect([broken.value, limit.value]).to match [0, 0..2]
    end
  end

  describe "of the limit that survives" do
    recipe = Recipes.load(:robust_limit)

    it "never lets in too many, and has all permits back, whoever is killed" do
      slow_part = recipe::SlowPart.new(->(work) { work.call }, limit: 2, patience: 20)
      inside = Array.new(2) { ProcessShared::Mutex.new } # held by those who are inside
      crowded = ProcessShared::Semaphore.new(0)
      work = -> { inside.any? { |place| place.try_lock(0.5) && place.unlock } || crowded.post }
      crew = kill_again_and_again(5, 60) { loop { slow_part.call(work) } }
      expect(slow_part.call(-> { :done })).to be :done
      crew.each(&:kill)
      expect([crowded.value, slow_part.busy, slow_part.call(-> { :done })]).to eq [0, {}, :done]
    end

    it "has a permit back wherever its holder is killed" do
      slow_part = nil
      steps = kill_at_every_step(-> { slow_part.call({}) }) do
        slow_part = recipe::SlowPart.new(->(_) { 1 + 1 }, limit: 1, patience: 10)
        -> { expect([slow_part.call({}), slow_part.busy]).to eq [2, {}] }
      end
      expect(steps).to be > 5
    end
  end

  describe "of the status page" do
    recipe = Recipes.load(:status_page)

    it "shows who lives, wherever a worker is killed" do
      page = nil
      steps = kill_at_every_step(-> { page.enter("dead") && page.call({ "PATH_INFO" => "/" }) }, stride: 3) do
        page = recipe::StatusPage.new(->(_) { [200, {}, []] })
        -> { expect(page.to_s).to eq "0 workers\n" }
      end
      expect(steps).to be > 10
      page.enter("here")
      page.call({ "PATH_INFO" => "/some" })
      expect(page.call({ "PATH_INFO" => "/workers" }).last.first).to match(%r{\A1 workers\nhere +pid #{Process.pid} +1 requests, .*last /some\n\z})
    end
  end

  describe "for Puma's workers" do
    recipe = Recipes.load(:puma_cluster)

    it "never allows more than the limit, whoever is killed; a death costs what the dead had taken" do
      limit = ProcessShared::RateLimiter.new(0.001, burst: 50)
      allowed = ProcessShared::AtomicFixnum.new(0)
      crew = kill_again_and_again(4, 20) do
        loop { limit.try_acquire ? allowed.increment : sleep(0.001) }
      end
      wait_until("an end") { limit.retry_after.positive? }
      crew.each(&:kill)
      expect(allowed.value).to be_between(50 - 24, 50)
    end

    it "goes on with the job when it raises, and in another worker when the worker is killed" do
      leader = recipe::Leader.new(every: 0.001)
      runs = ProcessShared::SharedArray.new(:int, 4)
      work = lambda do |number|
        $stderr.reopen(File::NULL)
        leader.start { (runs[number] += 1) && raise(number.even? ? NotImplementedError : "the job failed") }
        sleep
      end
      crew = Array.new(4) { |number| fork_child { work.call(number) } }
      20.times do
        number = wait_until("a leader") { crew.index { |worker| worker.pid == leader.pid } }
        before = runs[number]
        wait_until("the job to run again") { runs[number] > before + 2 }
        crew[number].kill
        crew[number] = fork_child { work.call(number) }
      end
    end
  end

  describe "of the work queue" do
    recipe = Recipes.load(:work_queue)
    let!(:queue) { recipe::WorkQueue.new(places: 3) }

    # All that is in the queue.
    def drain
      # which asks for deaths: macOS does not tell of them, and a pop need not ask
      queue.instance_variable_get(:@jobs).in_flight if ProcessShared.const_defined?(:Handover, false)
      queue.push(:last)
      jobs = []
      queue.pop { |job| jobs << job } until jobs.last == :last
      jobs[..-2]
    end

    # Every place can be filled, and the jobs come in order.
    def expect_sound
      3.times { |job| queue.push(job) }
      expect(Array.new(3) { queue.pop { |job| job } }).to eq [0, 1, 2]
    end

    it "keeps a job until it is done, wherever its worker is killed" do
      done = ProcessShared::Semaphore.new(0)
      steps = kill_at_every_step(-> { queue.pop { |_job| done.post } }) do
        2.times { |job| queue.push(job) }
        lambda do
          jobs = drain
          expect(jobs == [0, 1] || (jobs == [1] && done.value == 1)).to be true
          done.wait while done.value.positive?
          expect_sound
        end
      end
      expect(steps).to be > 10
    end

    it "has a job or not, wherever its producer is killed" do
      steps = kill_at_every_step(-> { queue.push(:job) }) do
        lambda do
          expect(drain).to eq([:job]).or eq([])
          expect_sound
        end
      end
      expect(steps).to be > 10
    end

    it "gives a job back whose block raises, and refuses one that is too large" do
      queue.push(:job)
      expect { queue.pop { raise "failed" } }.to raise_error("failed")
      expect { queue.push("x" * (65 << 20)) }.to raise_error(IndexError)
      expect(drain).to eq [:job]
    end

    it "loses no job when workers and producers are killed again and again" do
      pushed = ProcessShared::SharedArray.new(:int32, 3)                # how many each producer has pushed
      done = Array.new(3) { ProcessShared::SharedArray.new(:uint8, 1000) }
      crew = kill_again_and_again(6, 100) do |number|
        loop { queue.pop { |producer, job| done[producer][job] = 1 } } if number > 2

        while pushed[number] < 1000
          queue.push([number, pushed[number]])
          pushed[number] += 1
          sleep 0.001
        end
        sleep
      end
      crew.first(3).each(&:kill)
      wait_until("all jobs done") { (0..2).all? { |producer| (0...pushed[producer]).all? { |job| done[producer][job] == 1 } } }
      crew.each(&:kill)
      expect(pushed).to all(be > 10)
      drain
      expect_sound
    end
  end

  describe "of the session registry" do
    recipe = Recipes.load(:session_registry)

    it "has each session or not, wherever a process is killed" do
      registry = token = nil
      steps = kill_at_every_step(-> { registry.log_in("ada") && registry.user(token) && registry.log_out_everywhere("bob") }, stride: 3) do
        registry = recipe::SessionRegistry.new(1 << 16, lifetime: 60)
        token = registry.log_in("bob")
        lambda do
          expect([nil, "bob"]).to include(registry.user(token))
          expect(registry.sessions.values).to all(eq 1)
          expect(registry.log_in("eve").then { |mine| [registry.user(mine), registry.log_out(mine), registry.user(mine)] }).to eq ["eve", "eve", nil]
        end
      end
      expect(steps).to be > 10
    end

    it "outlives the server, and forgets whom nobody has seen for a while" do
      Dir.mktmpdir do |folder|
        make = -> { recipe::SessionRegistry.new(1 << 16, lifetime: 60, path: "#{folder}/sessions") }
        token = fork_child { make.call.log_in("ada") }.value
        expect(make.call.user(token)).to eq "ada"
        short = recipe::SessionRegistry.new(1 << 16, lifetime: 0.01, path: "#{folder}/sessions")
        expect(short.user(token)).to eq "ada"
        wait_until { short.sessions.empty? }
        expect(short.user(token)).to be_nil
      end
    end
  end

  describe "of the map" do
    map = Recipes.load(:parallel_map)::ParallelMap

    # Kills this process the first time it comes here with the number.
    def die_once(number, deaths)
      Process.kill(:KILL, Process.pid) if deaths[number].zero? && (deaths[number] = 1)
    end

    it "has all values in order, whoever is killed, but for what kills everybody" do
      deaths = ProcessShared::SharedArray.new(:uint8, 60)
      values = map.map((0...60).to_a, processes: 3, otherwise: :poison) do |number|
        die_once(number, deaths) if (number % 10).zero?
        Process.kill(:KILL, Process.pid) if number == 33
        number * 2
      end
      expect(values).to eq((0...60).map { |number| number == 33 ? :poison : number * 2 })
      expect([map.map([]) { 1 }, map.map([nil, nil]) { |item| item }]).to eq [[], [nil, nil]]
    end

    it "has each value once, wherever a worker is killed between its value and the next item" do
      begun = ProcessShared::AtomicFixnum.new
      (1..25).step(4) do |step|
        begun.value = 0
        values = map.map((0...6).to_a, processes: 2) do |number|
          Recipes.die_in(step) if begun.increment == 1
          number + 1
        end
        expect(values).to eq [*1..6]
      end
    end
  end

  describe "of results and progress" do
    recipe = Recipes.load(:results_and_progress)

    it "yields each result once, in a crew whose workers are killed" do
      deaths = ProcessShared::SharedArray.new(:uint8, 40)
      crew = recipe::Crew.new(3) do |number|
        Process.kill(:KILL, Process.pid) if (number % 8).zero? && deaths[number].zero? && (deaths[number] = 1)
        number * 2
      end
      results, progress = {}, []
      crew.run((0...40).to_a) do |job, result, state|
        expect(results.store(job, result)).to eq job * 2
        progress << state.done
      end
      expect([results.keys.sort, progress]).to eq [[*0...40], [*1..40]]
    end
  end

  describe "of the cache" do
    let!(:cache) { ProcessShared::Cache.new(64 << 10) }

    it "has the value or computes it, wherever a process is killed" do
      steps = kill_at_every_step(-> { cache.fetch(:new) { 2 } }) do
        cache.clear
        cache.fetch(:old) { 1 }
        -> { expect([:old, :new].map { |key| cache.fetch(key) { key == :old ? 1 : 2 } }).to eq [1, 2] }
      end
      expect(steps).to be > 10
    end

    it "makes room when it is full" do
      2000.times { |key| expect(cache.fetch(key) { key.to_s * 20 }).to eq key.to_s * 20 }
      expect(cache.stats[:evictions]).to be_positive
    end
  end

  describe "of the lock across a process tree" do
    recipe = Recipes.load(:process_tree_lock)
    let(:program) { Object.new.extend(recipe).tap { |program| program.define_singleton_method(:puts) { |*| nil } } }

    it "has the lock free, wherever its holder is killed" do
      steps = kill_at_every_step(-> { program.send(:deploy, "tool", 0) }) do
        -> { expect(program.send(:deploy, "program", 0)).to be true }
      end
      expect(steps).to be > 10
    end
  end
end
