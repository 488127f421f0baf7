# frozen_string_literal: true

# The examples run in a Ruby of their own: ActiveSupport changes core classes, and all other specs are about Ruby as it is.
RSpec.describe "ActiveSupport::Cache::ProcessSharedStore", :unstressed, limit: 300 do
  before { skip "ActiveSupport is not installed" unless Server.installed?("logger", "active_support", "active_support/cache") }

  it "does what Rails asks of a store" do
    examples = File.join(__dir__, "process_shared_store_examples.rb")
    output, status = Open3.capture2e(Server::LIBRARY, RbConfig.ruby, $PROGRAM_NAME, "--no-color", examples)
    expect(status).to be_success, output
  end
end
