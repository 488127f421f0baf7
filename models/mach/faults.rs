//! Where a call begins and ends, for tests: it is one step, which a kill comes before or after, and a process can be told
//! to die, or to have a call fail, at the n-th call it makes from now.

use super::world;
use crate::platform::mach::{Code, Result};
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// How many calls this process's threads are in the middle of. Calls that wait do not count.
static INSIDE: AtomicU32 = AtomicU32::new(0);

thread_local! {
    static DIE_AT: Cell<u32> = const { Cell::new(0) };
    static FAIL_AT: Cell<u32> = const { Cell::new(0) };
}

/// Has this process killed at this thread's `call`-th call from now, before it does anything; 0: never.
pub fn die_at(call: u32) {
    DIE_AT.set(call);
}

/// Has this thread's `call`-th call from now fail; 0: none. Calls that cannot fail do not count.
pub fn fail_at(call: u32) {
    FAIL_AT.set(call);
}

/// One step of the kernel, until dropped.
pub(super) struct Step;

impl Step {
    pub(super) fn begin() -> Self {
        INSIDE.fetch_add(1, Relaxed);
        Step
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        INSIDE.fetch_sub(1, Relaxed);
        call_ends();
    }
}

/// Passed at the end of each call.
#[inline(never)]
pub extern "C" fn call_ends() {
    std::hint::black_box(());
}

/// Does `action` while no process is inside a call.
pub fn between_calls<T>(action: impl FnOnce() -> T) -> T {
    struct Between;
    impl Drop for Between {
        fn drop(&mut self) {
            world::unlock(); // also where `action` panicked
        }
    }
    world::lock();
    let _between = Between;
    action()
}

/// Where a process of this program has the number of calls its threads are inside of, for a tracer.
pub fn calls_begun() -> *const u32 {
    INSIDE.as_ptr()
}

fn is_due(countdown: &Cell<u32>) -> bool {
    let left = countdown.get();
    countdown.set(left.saturating_sub(1));
    left == 1
}

/// Every call passes here first.
pub(super) fn call_begins() -> Result<()> {
    if DIE_AT.with(is_due) {
        // SAFETY: kills this process.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    }
    if FAIL_AT.with(is_due) { Err(Code::FAILURE) } else { Ok(()) }
}

/// A forked child starts afresh.
pub(super) fn forget() {
    INSIDE.store(0, Relaxed);
    die_at(0);
    fail_at(0);
}
