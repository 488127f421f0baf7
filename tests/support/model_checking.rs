//! How scenarios are run under the model checker.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// Runs `scenario` in every order of its steps, with at most so many preemptions.
pub fn check(preemptions: usize, scenario: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    builder.check(scenario);
}

/// Runs `scenario` with a thread that lives 0, 1, 2, ... steps, until it lives long enough to end by itself. The
/// scenario is told the steps, and tells whether the thread died.
pub fn check_deaths(preemptions: usize, scenario: fn(usize) -> bool) {
    for steps in 0.. {
        let died = std::sync::Arc::new(AtomicBool::new(false));
        let deaths = died.clone();
        check(preemptions, move || {
            if scenario(steps) {
                deaths.store(true, SeqCst);
            }
        });
        if !died.load(SeqCst) {
            println!("{steps} points of death");
            return;
        }
    }
}

#[allow(dead_code)] // where nothing is taken away
/// Runs a scenario that fails on purpose, and looks how. In a process of its own: loom aborts.
pub fn notices(scenario: &str, complaint: &str) {
    let program = std::env::current_exe().unwrap();
    let arguments = ["--exact", scenario, "--ignored", "--nocapture", "--test-threads", "1"];
    let output = std::process::Command::new(program).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains(complaint), "{scenario}: {text}");
}
