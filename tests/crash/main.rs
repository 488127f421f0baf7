//! A child is killed before each instruction of an operation in turn. Wherever that is, the object must work on for all
//! others: it has one owner at a time, no permit or signal is lost, doubled or kept, and nobody is left asleep.
//!
//! Each object has a file with a table of its operations. A new operation is a row there; a new object is a file with a
//! scene and a table. `cargo test` tries a spread of the points, `rake rust:crash` (`CRASH_STRIDE=1`) all.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[macro_use]
mod operation;

mod atomic;
mod barrier;
mod condition;
mod event;
#[path = "../support/filter.rs"]
mod filter;
#[path = "../support/folder.rs"]
mod folder;
mod latch;
mod map;
mod mutex;
mod path;
mod points;
mod presence;
mod queue;
mod rate_limiter;
mod read_write_lock;
mod robust_semaphore;
mod semaphore;
#[path = "../support/mod.rs"]
mod support;
mod tracer;

use process_shared_core::Thread;
use process_shared_core::kernel::Kernel;

fn me() -> Thread {
    Thread::current().unwrap()
}

/// For an operation that sleeps once: whether this is that time. Where the kernel tells nobody of deaths, sleepers look
/// by themselves and fall asleep again.
fn is_first(naps: usize) -> bool {
    assert!(naps == 0 || !Thread::TELLS_OF_DEATHS);
    naps == 0
}
