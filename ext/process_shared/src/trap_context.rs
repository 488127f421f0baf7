//! Signal handlers, in which nobody else could run while they wait.

use magnus::Ruby;
use rb_sys::{VALUE, rb_mutex_lock, rb_mutex_new, rb_mutex_unlock};
use std::sync::OnceLock;

use crate::errors::Error;
use crate::ractor;

/// Nothing public tells a trap handler's context, but Ruby's own mutex refuses to be locked there.
static PROBE: OnceLock<VALUE> = OnceLock::new();

pub fn init() {
    // SAFETY: on a Ruby thread; the mutex is registered for good before anything else can happen.
    let _ = PROBE.set(unsafe {
        let mutex = rb_mutex_new();
        rb_sys::rb_gc_register_mark_object(mutex);
        mutex
    });
}

/// Refuses to wait in a signal handler.
///
/// # Errors
/// `ThreadError` "can't be called from trap context".
pub fn refuse(ruby: &Ruby) -> Result<(), Error> {
    let Some(&probe) = PROBE.get().filter(|_| ractor::is_main_thread(ruby)) else { return Ok(()) };
    magnus::rb_sys::protect(|| {
        // SAFETY: a mutex that is kept for ever, and that only the main thread locks, never across other code.
        unsafe {
            rb_mutex_lock(probe);
            rb_mutex_unlock(probe)
        }
    })?;
    Ok(())
}
