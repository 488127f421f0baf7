//! The fork epoch: it steps with each fork, in the parent as in the child. What was made in the current epoch of the
//! process that made it is known to no other process. (The fork depth, in contrast, steps in the child alone.)

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

static FORK_EPOCH: AtomicU32 = AtomicU32::new(0);

#[inline]
pub fn fork_epoch() -> u32 {
    FORK_EPOCH.load(Relaxed)
}

/// Begins the next epoch, and returns it.
pub fn step_fork_epoch() -> u32 {
    FORK_EPOCH.fetch_add(1, Relaxed) + 1
}
