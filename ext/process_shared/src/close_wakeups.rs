//! Which threads wait with which object, so that closing the object ends their waits.
//!
//! Only threads of the main Ractor are on the list, which their Ractor's lock guards; threads of other Ractors find out
//! when they are woken. The object and the thread of an entry are on the stack of the waiter, so the collector neither
//! frees nor moves them.

use std::cell::UnsafeCell;

use magnus::Value;
use magnus::rb_sys::AsRawValue;
use process_shared_core::platform::fork_depth;
use rb_sys::{VALUE, rb_thread_current, rb_thread_wakeup_alive};

use crate::ractor;

/// The waiters, and the process they belong to: a fork leaves their threads behind.
struct Waiters {
    fork_depth: u32,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry {
    object: VALUE,
    thread: VALUE,
}

struct Guarded(UnsafeCell<Waiters>);

// SAFETY: only `with_waiters` reaches the inside, in threads of the main Ractor, one at a time.
unsafe impl Sync for Guarded {}

static WAITERS: Guarded = Guarded(UnsafeCell::new(Waiters { fork_depth: 0, entries: Vec::new() }));

/// Does nothing on a thread of another Ractor. `action` must not let other threads run.
fn with_waiters(action: impl FnOnce(&mut Vec<Entry>)) {
    if !ractor::is_main() {
        return;
    }
    // SAFETY: the main Ractor's lock is held, and `action` neither gives it away nor comes back here.
    let waiters = unsafe { &mut *WAITERS.0.get() };
    if waiters.fork_depth != fork_depth() {
        // Another Ractor may have forked while the parent was writing, so the parent's list is not even dropped.
        std::mem::forget(std::mem::take(&mut waiters.entries));
        waiters.fork_depth = fork_depth();
    }
    action(&mut waiters.entries);
}

/// Says, until it is dropped, that the calling thread waits.
pub struct Waiting(Entry);

impl Waiting {
    pub fn with(object: Value) -> Self {
        // SAFETY: called on a Ruby thread with the GVL.
        let entry = Entry { object: object.as_raw(), thread: unsafe { rb_thread_current() } };
        with_waiters(|entries| entries.push(entry));
        Waiting(entry)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        with_waiters(|entries| {
            if let Some(position) = entries.iter().rposition(|entry| *entry == self.0) {
                entries.swap_remove(position);
            }
        });
    }
}

/// Wakes the threads that wait with `object`, which has been closed.
pub fn wake(object: Value) {
    with_waiters(|entries| {
        for entry in entries.iter().filter(|entry| entry.object == object.as_raw()) {
            // SAFETY: a living thread, since it waits. Sets its interrupt flag, and runs no Ruby code.
            unsafe { rb_thread_wakeup_alive(entry.thread) };
        }
    });
}
