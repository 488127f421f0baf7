# frozen_string_literal: true

module Storm
  # Who holds and who waits for what, for the reader of a failure.
  module Stall
    module_function

    def report(scenes, pids)
      scenes.each do |scene|
        warn "#{scene.class.title}: progress #{scene.progress}"
        scene.objects.each { |object| warn "  #{object.inspect}" }
      end
      pids.each { |pid| warn "worker #{pid}", *threads(pid) }
    end

    # One line for each native thread of the process: its number, state, and the system call it is in.
    def threads(pid)
      Dir["/proc/#{pid}/task/*"].map do |task|
        status = File.read("#{task}/status")
        "  #{File.basename(task)} #{status[/^State:\s*(\S)/, 1]} #{read("#{task}/wchan")} #{read("#{task}/syscall")[0, 80]}"
      rescue SystemCallError
        "  #{File.basename(task)} is gone"
      end
    end

    def read(file)
      File.read(file).strip
    rescue SystemCallError
      "?"
    end
  end
end
