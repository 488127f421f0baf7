//! The thread that is about to fork: one at a time is between `handover::prepare` and its fork. A fork within that, by a
//! signal handler on the same thread, is one more level.

use super::mach::{Mach, System};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

/// The thread between `prepare` and its fork, or 0.
static THREAD: AtomicU64 = AtomicU64::new(0);
/// How many forks it is in, one within the other.
static LEVEL: AtomicU32 = AtomicU32::new(0);

/// Whether the calling thread is between `prepare` and its fork.
pub fn is_mine() -> bool {
    let thread = THREAD.load(Relaxed);
    thread != 0 && thread == System::current_thread()
}

/// Whether the calling thread's fork is within no other.
pub fn is_outermost() -> bool {
    LEVEL.load(Relaxed) == 1
}

/// False if another thread is between `prepare` and its fork.
pub fn begin() -> bool {
    let thread = System::current_thread();
    let before = THREAD.compare_exchange(0, thread, Acquire, Acquire);
    let mine = before.is_ok() || before == Err(thread);
    if mine {
        LEVEL.fetch_add(1, Relaxed);
    }
    mine
}

/// Ends `begin`. `last` is called before another thread can begin, if no fork is under way any more.
pub fn end(last: impl FnOnce()) {
    if LEVEL.fetch_sub(1, Relaxed) == 1 {
        last();
        THREAD.store(0, Release);
    }
}

/// In a child, first thing: its parent's fork is over here.
pub fn forget() {
    THREAD.store(0, Relaxed);
    LEVEL.store(0, Relaxed);
}
