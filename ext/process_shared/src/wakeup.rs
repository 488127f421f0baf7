//! Tells `Thread#wakeup`, which ends a wait, from a signal handler that ran and returned, which does not: both interrupt
//! the wait.
//!
//! Only the main thread runs signal handlers, and there `wakeup` leaves a note (`lib/process_shared/wakeup.rb`). On any
//! other thread, an interrupt that raises nothing is a `wakeup`, unless an exception is merely deferred.

use magnus::{RModule, Ruby, Value, function, prelude::*};
use process_shared_core::platform::fork_depth;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use crate::errors::{self, Error};
use crate::ractor;

/// Whether `wakeup` was called on the main thread since `was_called` was last asked.
static WOKEN_UP: AtomicBool = AtomicBool::new(false);
/// The fork depth of the process whose main thread leaves notes: it may be another after a fork.
static NOTED_IN: AtomicU32 = AtomicU32::new(0);

/// Whether it was `wakeup` that interrupted the calling thread.
///
/// # Errors
/// `NoMemoryError` and the like.
pub fn was_called(ruby: &Ruby) -> Result<bool, Error> {
    if !ractor::is_main_thread(ruby) {
        return Ok(!ruby.thread_current().funcall::<_, _, bool>("pending_interrupt?", ())?);
    }
    let depth = fork_depth();
    if NOTED_IN.load(Relaxed) != depth {
        let notes: RModule = ruby.get_inner(&errors::MODULE).const_get("Wakeup")?;
        ruby.thread_current().funcall::<_, _, Value>("extend", (notes,))?;
        NOTED_IN.store(depth, Relaxed);
    }
    Ok(WOKEN_UP.swap(false, Relaxed))
}

/// Forgets a `wakeup` from before the wait.
///
/// # Errors
/// As `was_called`.
pub fn forget(ruby: &Ruby) -> Result<(), Error> {
    if ractor::is_main_thread(ruby) { was_called(ruby).map(|_| ()) } else { Ok(()) }
}

fn note() {
    WOKEN_UP.store(true, Relaxed);
}

pub fn init(module: RModule) -> Result<(), Error> {
    Ok(module.define_module("Wakeup")?.define_singleton_method("note", function!(note, 0))?)
}
