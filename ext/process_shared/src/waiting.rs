//! Which threads wait with which object, so that closing the object ends their waits.
//!
//! Only threads of the main Ractor are in the book, under its lock; those of others find out when they are woken. Both
//! objects of an entry are on the stack of the thread that waits, so the collector neither frees nor moves them.

use std::cell::UnsafeCell;

use magnus::Value;
use magnus::rb_sys::AsRawValue;
use process_shared_core::platform::fork_depth;
use rb_sys::{VALUE, rb_thread_current, rb_thread_wakeup_alive};

use crate::thread::in_main_ractor;

/// The entries, and the process they belong to: a fork leaves the threads behind.
struct Book {
    fork_depth: u32,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry {
    object: VALUE,
    thread: VALUE,
}

struct Guarded(UnsafeCell<Book>);

// SAFETY: only `with_book` reaches the inside, in threads of the main Ractor, one at a time.
unsafe impl Sync for Guarded {}

static BOOK: Guarded = Guarded(UnsafeCell::new(Book { fork_depth: 0, entries: Vec::new() }));

/// Nothing if this is not a thread of the main Ractor. `action` must not let other threads run.
fn with_book(action: impl FnOnce(&mut Vec<Entry>)) {
    if !in_main_ractor() {
        return;
    }
    // SAFETY: the main Ractor's lock is held, and `action` neither gives it away nor comes back here.
    let book = unsafe { &mut *BOOK.0.get() };
    if book.fork_depth != fork_depth() {
        // Another Ractor may have forked while its parent was writing: what is there is not even looked at.
        std::mem::forget(std::mem::take(&mut book.entries));
        book.fork_depth = fork_depth();
    }
    action(&mut book.entries);
}

/// Says, until it is dropped, that the calling thread waits.
pub struct Waiting(Entry);

impl Waiting {
    pub fn with(object: Value) -> Self {
        // SAFETY: called on a Ruby thread with the GVL.
        let entry = Entry { object: object.as_raw(), thread: unsafe { rb_thread_current() } };
        with_book(|entries| entries.push(entry));
        Waiting(entry)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        with_book(|entries| {
            if let Some(position) = entries.iter().rposition(|entry| *entry == self.0) {
                entries.swap_remove(position);
            }
        });
    }
}

/// Has all look up who wait with `object`, which has been closed.
pub fn rouse(object: Value) {
    with_book(|entries| {
        for entry in entries.iter().filter(|entry| entry.object == object.as_raw()) {
            // SAFETY: a living thread, since it waits. Sets its interrupt flag, and runs no Ruby code.
            unsafe { rb_thread_wakeup_alive(entry.thread) };
        }
    });
}
