//! The objects processes share: a slot of the arena with a protocol in it.
//!
//! Each is a handle of this process. What was made before a fork is the same object in the child. All methods take
//! the calling thread, and can be called from any.
//!
//! A new object is a file here, with an `impl SharedObject`, and its two lines below.

mod atomic;
mod barrier;
mod condition_variable;
mod event;
mod latch;
mod map;
mod mutex;
pub mod presence;
mod queue;
mod rate_limiter;
mod read_write_lock;
mod semaphore;

pub use atomic::{AtomicBoolean, AtomicFixnum, OutOfRange};
pub use barrier::CyclicBarrier;
pub use condition_variable::ConditionVariable;
pub use event::Event;
pub use latch::CountDownLatch;
pub use map::Map;
pub use mutex::{Mutex, release_held_as_dead, transfer_held};
pub use presence::{Member, Presence, Refusal};
pub use queue::Queue;
pub use rate_limiter::{Rate, RateLimiter};
pub use read_write_lock::{ReadWriteLock, Reader};
pub use semaphore::{
    Arrival as SemaphoreArrival, Kind as SemaphoreKind, Refusal as SemaphoreRefusal, Semaphore,
};

/// What each object has in its slot and beside it, by the file that defines the object here: for the version of the layout
/// of files.
#[cfg(test)]
pub fn layouts() -> Vec<(&'static str, Vec<(&'static str, usize)>)> {
    vec![
        ("atomic", vec![("size", 8)]),
        ("barrier", crate::barrier::layout()),
        ("condition_variable", crate::condition::layout()),
        ("event", crate::event::layout()),
        ("latch", crate::latch::layout()),
        ("map", crate::map::layout()),
        ("mutex", crate::lock::layout()),
        ("presence", presence::layout()),
        ("queue", crate::queue::layout()),
        ("rate_limiter", crate::limiter::layout()),
        ("read_write_lock", crate::read_write_lock::layout()),
        ("semaphore", [crate::semaphore::layout(), crate::robust_semaphore::layout()].concat()),
    ]
}

use crate::arena::{self, Slot};
use crate::atomic::AtomicU64;
use crate::kernel::Kernel;
use crate::participants::{Party, State};
use crate::platform::Thread;

/// This process's handle of a thing that processes share.
pub trait SharedObject {
    /// Whether this process can use it. Not so in another PID namespace than it was made in, and on macOS in a child whose
    /// fork Ruby did not make.
    fn is_accessible(&self) -> bool;
}

/// The roles in which threads take part in the object of a slot.
const WAITS_FOR_OBJECT: u32 = 0;
const WAITS_FOR_CONDITION: u32 = 1;

/// The state of a thread that waits for a lock or a permit: it is there to be counted.
const WAITING: State = 1;

/// The threads that wait for the lock or the permits in a slot, whose range is in `range`.
fn waiters_of<'a>(slot: &'a Slot, range: &'a AtomicU64) -> Party<'a> {
    Party::new(slot.seat(WAITS_FOR_OBJECT), range)
}

fn count(waiters: Party<'_>) -> usize {
    waiters.count::<Thread>(&[WAITING])
}

/// Counts the calling thread as a waiter while `wait` runs. If the table is full, the count is too low.
fn counted<T>(waiters: Party<'_>, thread: &Thread, wait: impl FnOnce() -> T) -> T {
    let ticket = waiters.join(thread, WAITING, 0);
    let outcome = wait();
    if let Some(ticket) = ticket {
        waiters.leave(thread, ticket);
    }
    outcome
}

/// Does what the calling thread has to do for dropped objects, and frees those that no thread of this process is in the
/// middle of using.
fn release_dropped(thread: &Thread) {
    for one in arena::take_deferred(thread) {
        (one.release)(&one.slot, thread);
        if !(one.is_due)(&one.slot, thread) {
            one.slot.defer(one.is_due, one.release); // other threads have something to give back too
        }
    }
}

/// Drops `slot` once `is_due` says that no thread of this process has the kernel look there, or the calling thread can
/// `release` it.
fn drop_when_due(slot: Slot, is_due: fn(&Slot, &Thread) -> bool, release: fn(&Slot, &Thread)) {
    slot.defer(is_due, release);
    if let Some(thread) = Thread::known() {
        release_dropped(&thread);
    }
}

/// Whether the calling thread is known by this number.
fn is_me(thread: &Thread, id: u32) -> bool {
    thread.id() == id
}
