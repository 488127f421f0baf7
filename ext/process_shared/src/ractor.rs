//! The Ractor of the calling thread, and a few marks that each Ractor has.

use magnus::{Ruby, rb_sys::AsRawValue};
use std::sync::OnceLock;

static KEY: OnceLock<usize> = OnceLock::new();
static NO_FREE: rb_sys::rb_ractor_local_storage_type =
    rb_sys::rb_ractor_local_storage_type { mark: None, free: None };

/// The Ractor that this extension was loaded in: the main one.
const MAIN: usize = 1;
/// Ruby 3.1: the Ractor tells when its threads end.
pub const HOOKED: usize = 2;
/// Ruby 3.1: the Ractor has a thread that waits for the end of its first.
pub const GUARDED: usize = 4;

/// To be called in the main Ractor.
pub fn init() {
    // SAFETY: on a Ruby thread.
    let _ = KEY.set(unsafe { rb_sys::rb_ractor_local_storage_ptr_newkey(&raw const NO_FREE) } as usize);
    set_mark(MAIN);
}

fn marks() -> usize {
    let Some(&key) = KEY.get() else { return 0 };
    // SAFETY: called on a Ruby thread.
    unsafe { rb_sys::rb_ractor_local_storage_ptr(key as rb_sys::rb_ractor_local_key_t) as usize }
}

/// Whether the calling thread's Ractor has that mark.
pub fn has_mark(mark: usize) -> bool {
    marks() & mark != 0
}

/// Gives the calling thread's Ractor a mark.
pub fn set_mark(mark: usize) {
    let Some(&key) = KEY.get() else { return };
    let marks = std::ptr::without_provenance_mut(marks() | mark);
    // SAFETY: called on a Ruby thread; what is stored is only a number.
    unsafe { rb_sys::rb_ractor_local_storage_ptr_set(key as rb_sys::rb_ractor_local_key_t, marks) };
}

/// Whether the calling thread is of the main Ractor.
pub fn is_main() -> bool {
    has_mark(MAIN)
}

/// Whether the calling thread is the first of its Ractor.
pub fn is_first_thread(ruby: &Ruby) -> bool {
    // SAFETY: called on a Ruby thread with the GVL.
    ruby.thread_current().as_raw() == unsafe { rb_sys::rb_thread_main() }
}

/// Whether the calling thread is the process's main thread, which runs signal handlers.
pub fn is_main_thread(ruby: &Ruby) -> bool {
    is_main() && is_first_thread(ruby)
}
