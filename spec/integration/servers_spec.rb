# frozen_string_literal: true

require "tmpdir"

# What is shared with whom under real servers: what the README's table says.
RSpec.describe "Objects shared under", :unstressed, limit: 120 do
  around { |example| Dir.mktmpdir { |dir| @dir = dir and example.run } }
  after { Array(@servers).each(&:stop) }

  # An application that answers with the worker's number and how often an object made here, and one made in the
  # configuration, has been counted. It takes its time, so that a second request goes to another worker.
  application = <<~RUBY
    require "process_shared"
    HERE = ProcessShared::AtomicFixnum.new(0)
    run lambda { |_env|
      sleep 0.05
      [200, {}, ["\#{Process.pid} \#{HERE.increment} \#{defined?(CONFIGURED) ? CONFIGURED.increment : 0}"]]
    }
  RUBY

  def start(files, *command)
    (@servers ||= []) << Server.new(@dir, files, *command)
    @servers.last
  end

  # Asks, as many at once, until `workers` of them have answered, but for those in `gone`; all answers, as [worker, here,
  # configured].
  def ask(server, workers: 2, gone: [])
    answers = []
    wait_until("answers of #{workers} workers; log: #{File.read(server.log)[-2000..]}", within: 60) do
      answers += Array.new(workers) { Thread.new { server.get&.split&.map(&:to_i) } }.filter_map(&:value)
      (answers.map(&:first) - gone).uniq.size >= workers
    end
    answers
  end

  # Each request counted once more: every worker counts the same object.
  def be_one_object = satisfy("be counted in one object") { |counts| counts == (counts.first...counts.first + counts.size).to_a }

  # Each of two workers began at 1.
  def be_private_to_each_worker = satisfy("begin at 1 in each worker") { |counts| counts.count(1) == 2 }

  # An application by the recipe: each worker would lead, and all count what they serve.
  define_method(:once_per_host) do
    <<~RUBY
      require "process_shared"
      require #{File.join(Recipes::DIRECTORY, "once_per_host").inspect}
      HOST = Host.new(#{@dir.inspect})
      HOST.lead { sleep }
      run ->(_env) { [200, {}, ["\#{Process.pid} \#{HOST.serve { HOST.served.value }}"]] }
    RUBY
  end

  # The same for this process, and what a console says of it.
  def host = @host ||= Recipes.load(:once_per_host)::Host.new(@dir)

  def console(question)
    ruby("require #{File.join(Recipes::DIRECTORY, "once_per_host").inspect}; p Host.new(#{@dir.inspect}).#{question}")
  end

  def here(answers) = answers.map { |_, count, _| count }.sort
  def configured(answers) = answers.map(&:last).sort

  describe "Puma" do
    before(:all) { skip "Puma is not installed" unless Server.installed?("puma", "rack") }

    # Puma with two workers, which start anew as `options` say.
    define_method(:puma) do |options|
      configuration = <<~RUBY
        require "process_shared"
        ::CONFIGURED ||= ProcessShared::AtomicFixnum.new(0) # a name that the application finds, made once
        bind "unix://#{@dir}/socket"
        workers 2
        threads 1, 1
        #{options}
      RUBY
      start({ "puma.rb" => configuration, "config.ru" => application }, RbConfig.ruby, "-S", "puma", "-C", "puma.rb")
    end

    it "with preload_app!: what the application and the configuration make is shared, also with a worker's successor" do
      server = puma("preload_app!")
      answers = ask(server)
      expect([here(answers), configured(answers)]).to all(be_one_object)
      Process.kill(:KILL, answers.last.first)
      answers += ask(server, workers: 1, gone: answers.map(&:first))
      expect([here(answers), configured(answers)]).to all(be_one_object)
    end

    it "without it: what the configuration makes is shared and survives a phased restart, what the application makes is private" do
      server = puma("")
      answers = ask(server)
      expect(configured(answers)).to be_one_object
      expect(here(answers)).to be_private_to_each_worker
      server.signal(:USR1)
      answers += ask(server, gone: answers.map(&:first))
      expect(configured(answers)).to be_one_object
    end

    it "with a status page: all workers are on it, and who is killed is off it at once" do
      page = <<~RUBY
        require "#{Recipes::DIRECTORY}/status_page"
        STATUS = StatusPage.new(->(_env) { [200, {}, ["hello"]] })
        run STATUS
      RUBY
      configuration = "bind 'unix://#{@dir}/socket'\nworkers 2\nthreads 1, 1\npreload_app!\n" \
                      "on_worker_boot { |number| ::STATUS.enter(\"worker \#{number}\") }\n"
      server = start({ "puma.rb" => configuration, "config.ru" => page }, RbConfig.ruby, "-S", "puma", "-C", "puma.rb")
      pids = -> { server.get("/workers").to_s.scan(/pid (\d+)/).flatten.map(&:to_i) }
      wait_until("two workers", within: 60) { pids.call.size == 2 }
      server.get("/first")
      expect(server.get("/workers")).to match(%r{2 workers.* 1 requests.*last /first}m)
      killed = pids.call.first
      Process.kill(:KILL, killed)
      wait_until("its end") { Process.kill(0, killed) && false rescue true } # its master has seen it
      shown = wait_until("a page", within: 60) { pids.call.then { |all| all unless all.empty? } }
      expect(shown).not_to include killed
      wait_until("two workers again", within: 60) { pids.call.size == 2 }
    end

    it "after a restart by USR2: all is made anew" do
      server = puma("preload_app!")
      before = ask(server)
      server.signal(:USR2)
      after = ask(server, gone: before.map(&:first)).reject { |worker, *| before.map(&:first).include?(worker) }
      expect([here(after).first, configured(after).first]).to eq [1, 1]
    end

    it "after a restart by USR2: there is one leader again, and numbers go on, also for a console, by their paths" do
      configuration = "bind 'unix://#{@dir}/socket'\nworkers 2\nthreads 1, 1\n"
      server = start({ "puma.rb" => configuration, "config.ru" => once_per_host }, RbConfig.ruby, "-S", "puma", "-C", "puma.rb")
      before = ask(server)
      wait_until("a leader", within: 60) { before.map(&:first).include?(host.leader) }
      server.signal(:USR2)
      after = ask(server, gone: before.map(&:first))
      wait_until("another leader", within: 60) { (after.map(&:first) - before.map(&:first)).include?(host.leader) }
      expect(host.served.value).to be >= before.size + after.size # a worker that ends may not get rid of its last answer
      expect(console("served.value")).to eq "#{host.served.value}\n"
    end
  end

  describe "Unicorn" do
    before(:all) { skip "Unicorn is not installed" unless Server.installed?("unicorn") }

    define_method(:unicorn) do |preload|
      configuration = <<~RUBY
        require "process_shared"
        ::CONFIGURED ||= ProcessShared::AtomicFixnum.new(0) # a name that the application finds, made once
        listen "#{@dir}/socket"
        worker_processes 2
        preload_app #{preload}
      RUBY
      start({ "unicorn.rb" => configuration, "config.ru" => application }, RbConfig.ruby, "-S", "unicorn", "-c", "unicorn.rb")
    end

    it "with preload_app true: what the application and the configuration make is shared" do
      answers = ask(unicorn(true))
      expect([here(answers), configured(answers)]).to all(be_one_object)
    end

    it "without it: what the configuration makes is shared and survives a reload by HUP, what the application makes is private" do
      server = unicorn(false)
      answers = ask(server)
      expect(configured(answers)).to be_one_object
      expect(here(answers)).to be_private_to_each_worker
      server.signal(:HUP)
      answers += ask(server, gone: answers.map(&:first))
      expect(configured(answers)).to be_one_object
    end

    it "with a limit: requests that take too long, and are killed with their workers, give their permits back" do
      limited = <<~RUBY
        require "#{Recipes::DIRECTORY}/robust_limit"
        run SlowPart.new(->(env) { env["PATH_INFO"] == "/hang" ? sleep : [200, {}, ["done"]] }, limit: 2, patience: 0)
      RUBY
      configuration = "listen '#{@dir}/socket'\nworker_processes 3\npreload_app true\nset[:timeout] = 2 # `timeout` takes 3 and more\n"
      server = start({ "unicorn.rb" => configuration, "config.ru" => limited }, RbConfig.ruby, "-S", "unicorn", "-c", "unicorn.rb")
      wait_until("an answer", within: 60) { server.get == "done" }
      hanging = Array.new(2) { Thread.new { server.get("/hang") } }
      wait_until("two that hang") { server.get == "busy\n" }
      expect(hanging.map(&:value)).to eq [nil, nil]
      expect(File.read(server.log).scan(/killing/).size).to be >= 2
      expect(Array.new(10) { server.get }).to eq ["done"] * 10
    end

    it "through a restart by USR2: there is one leader, and numbers go on, also for a console, by their paths" do
      configuration = "listen '#{@dir}/socket'\npid '#{@dir}/pid'\nworker_processes 1\n"
      command = [RbConfig.ruby, "-S", "unicorn", "-c", "unicorn.rb"]
      server = start({ "unicorn.rb" => configuration, "config.ru" => once_per_host }, *command)
      answers = ask(server, workers: 1)
      old = answers.last.first
      wait_until("a leader", within: 60) { host.leader == old }
      server.signal(:USR2)
      answers += ask(server, workers: 1, gone: [old]) # both masters have workers
      expect(host.leader).to eq old
      server.signal(:QUIT)
      wait_until("another leader", within: 60) { host.leader == answers.last.first }
      expect(here(answers)).to eq (0...answers.size).to_a
      expect(console("served.value")).to eq "#{answers.size}\n"
    end
  end

  describe "Sidekiq" do
    # A Sidekiq that is too old for this Ruby can be loaded, and does not start.
    before(:all) do
      commands = [[RbConfig.ruby, "-S", "sidekiq", "--version"], %w[redis-server --version]]
      runs = commands.all? { |command| system(*command, %i[out err] => File::NULL) }
      skip "Sidekiq or Redis is not installed" unless runs
    end

    worker = <<~RUBY
      require "sidekiq"
      require "process_shared"
      require #{File.join(Recipes::DIRECTORY, "once_per_host").inspect}
      COUNT = ProcessShared::Semaphore.new(0)
      HOST = Host.new(__dir__)
      INSIDE, MOST = %w[inside most].map { |name| ProcessShared::AtomicFixnum.new(path: "\#{__dir__}/\#{name}") }
      Sidekiq.logger.level = Logger::ERROR
      settings = { url: "unix://\#{__dir__}/redis", id: nil }
      Sidekiq.configure_server { |config| config.redis = settings }
      Sidekiq.configure_client { |config| config.redis = settings }
      class Count
        include Sidekiq::Worker

        def perform
          HOST.serve do
            inside = INSIDE.increment
            MOST.update { |most| [most, inside].max }
            sleep 0.02
            INSIDE.decrement
          end
          Sidekiq.redis { |redis| redis.rpush("answers", "\#{Process.pid} \#{COUNT.post.value}") }
        end
      end
    RUBY

    def client(code)
      Open3.capture2e(Server::LIBRARY, RbConfig.ruby, "-r./worker.rb", "-e", code, chdir: @dir).first
    end

    it "is shared by the threads of a process, and by no other process; what has a path by all" do
      start({ "worker.rb" => worker }, "redis-server", "--port", "0", "--unixsocket", "#{@dir}/redis", "--save", "")
      wait_until("Redis") { File.socket?("#{@dir}/redis") }
      2.times { start({}, RbConfig.ruby, "-S", "sidekiq", "-r", "./worker.rb", "-c", "4") }
      answers = []
      wait_until("answers of both processes", within: 60) do
        said = client('20.times { Count.perform_async }; puts Sidekiq.redis { |redis| redis.lrange("answers", 0, -1) }')
        answers = said.lines.grep(/\A\d+ \d+$/).map { |line| line.split.map(&:to_i) }
        answers.map(&:first).uniq.size == 2 && ProcessShared::AtomicFixnum.new(path: "#{@dir}/most").value > 1
      end
      expect(ProcessShared::AtomicFixnum.new(path: "#{@dir}/most").value).to be 2 # of eight threads
      expect(host.served.value).to be >= answers.size
      counts = answers.group_by(&:first).values.map { |all| all.map(&:last).sort }
      expect(counts.map { |all| all == (1..all.size).to_a }).to eq [true, true]
    end
  end

  it "the parallel gem: what was made before is shared with in_processes, and with in_threads" do
    skip "parallel is not installed" unless Server.installed?("parallel")
    code = <<~RUBY
      require "process_shared"
      require "parallel"
      count = ProcessShared::Semaphore.new(0)
      Parallel.each(1..10, in_processes: 3) { count.post }
      Parallel.each(1..10, in_threads: 3) { count.post }
      print count.value
    RUBY
    expect(Open3.capture2e(Server::LIBRARY, RbConfig.ruby, "-e", code).first).to eq "20"
  end
end
