//! Threads that live as long as the process, and own what belongs to the process and not to one of its threads: the kernel
//! tells of their death when the process ends, in whatever way. There is one for each two thousand things owned.
//!
//! A forked child has none of its parent's.

use super::fork_lock::ForkLock;
use super::{StandIn, Thread};
use crate::error::Result;
use crate::kernel::Kernel;
use std::cell::UnsafeCell;

/// Guarded by `LOCK`.
struct Guardians(UnsafeCell<Vec<StandIn>>);

// SAFETY: only `with_all` reaches the inside, one thread at a time. A guardian's thread may be used by any thread then.
unsafe impl Sync for Guardians {}

static ALL: Guardians = Guardians(UnsafeCell::new(Vec::new()));
static LOCK: ForkLock = ForkLock::new();

fn with_all<T>(action: impl FnOnce(&mut Vec<StandIn>) -> T) -> T {
    let is_new = LOCK.enter().is_some();
    // SAFETY: the lock keeps all other threads out, and `action` never comes back here.
    let all = unsafe { &mut *ALL.0.get() };
    if is_new {
        std::mem::forget(std::mem::take(all)); // the parent's, maybe torn
    }
    let result = action(all);
    LOCK.exit();
    result
}

fn with_room(all: &[StandIn]) -> Option<Thread> {
    all.iter().rev().map(StandIn::thread).find(Thread::may_hold_more)
}

/// Sees to it that there is a guardian that can own one thing more.
///
/// # Errors
/// `System` if the system has no thread left.
pub fn prepare() -> Result<()> {
    if with_all(|all| with_room(all).is_some()) {
        return Ok(());
    }
    let guardian = StandIn::start()?;
    with_all(|all| all.push(guardian));
    Ok(())
}

/// Has a guardian act. It owns what it takes then. `None` if there is none with room.
pub fn act<T>(action: impl FnOnce(&Thread) -> Option<T>) -> Option<T> {
    with_all(|all| action(&with_room(all)?))
}

/// Has the guardian with this number act.
pub fn act_as(id: u32, action: impl FnOnce(&Thread)) {
    with_all(|all| {
        if let Some(guardian) = all.iter().map(StandIn::thread).find(|thread| thread.id() == id) {
            action(&guardian);
        }
    });
}
