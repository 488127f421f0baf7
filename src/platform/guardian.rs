//! Threads that live as long as the process, and own what belongs to the process and not to one of its threads: the kernel
//! tells of their death when the process ends, in whatever way. There is one for each two thousand things owned.
//!
//! A forked child has none of its parent's.

use super::{ProcessLocal, StandIn, Thread};
use crate::error::Result;
use crate::kernel::Kernel;

/// A thread may use a guardian's `Thread` inside `with`.
static ALL: ProcessLocal<Vec<StandIn>> = ProcessLocal::new(Vec::new());

fn with_room(all: &[StandIn]) -> Option<Thread> {
    all.iter().rev().map(StandIn::thread).find(Thread::may_hold_more)
}

/// Sees to it that there is a guardian that can own one thing more.
///
/// # Errors
/// `System` if the system has no thread left.
pub fn prepare() -> Result<()> {
    if ALL.with(|all| with_room(all).is_some()) {
        return Ok(());
    }
    let guardian = StandIn::start()?;
    ALL.with(|all| all.push(guardian));
    Ok(())
}

/// Has a guardian act. It owns what it takes then. `None` if there is none with room.
pub fn act<T>(action: impl FnOnce(&Thread) -> Option<T>) -> Option<T> {
    ALL.with(|all| action(&with_room(all)?))
}

/// Has the guardian with this number act.
pub fn act_as(id: u32, action: impl FnOnce(&Thread)) {
    ALL.with(|all| {
        if let Some(guardian) = all.iter().map(StandIn::thread).find(|thread| thread.id() == id) {
            action(&guardian);
        }
    });
}
