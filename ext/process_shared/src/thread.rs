//! The calling thread as the core knows it, and what Ruby adds to threads: they may move between native threads, and
//! may end while their native thread lives on.

use magnus::{Error, Ruby};
use process_shared_core::{Thread, abandon_held};
use rb_sys::{ID, VALUE, rb_event_flag_t};
use std::ffi::c_void;
use std::sync::OnceLock;

use crate::errors;

/// The calling native thread, as the owner of locks.
#[inline]
pub fn current(ruby: &Ruby) -> Result<Thread, Error> {
    match Thread::known() {
        Some(thread) => Ok(thread),
        None => introduce(ruby),
    }
}

/// The first time on this native thread in this Ruby thread's life.
#[cold]
fn introduce(ruby: &Ruby) -> Result<Thread, Error> {
    pin();
    watch_thread_ends();
    Thread::current().map_err(|error| errors::to_ruby(ruby, error))
}

/// Binds the Ruby thread to its native thread, where it could move otherwise (M:N threads, Ruby 3.3 and newer): the
/// kernel knows locks by the native thread.
fn pin() {
    static LOCK_NATIVE_THREAD: OnceLock<Option<unsafe extern "C" fn() -> bool>> = OnceLock::new();
    let lock_native_thread = LOCK_NATIVE_THREAD.get_or_init(|| {
        // SAFETY: looks a name up in the running program; if Ruby has it, it has this signature.
        unsafe {
            let symbol = libc::dlsym(libc::RTLD_DEFAULT, c"rb_thread_lock_native_thread".as_ptr());
            (!symbol.is_null())
                .then(|| std::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> bool>(symbol))
        }
    });
    if let Some(lock_native_thread) = lock_native_thread {
        // SAFETY: called on a Ruby thread.
        unsafe { lock_native_thread() };
    }
}

/// Has `thread_ends` called for the threads of this Ractor: Ruby keeps such hooks for each Ractor by itself.
fn watch_thread_ends() {
    static KEY: OnceLock<usize> = OnceLock::new();
    // SAFETY: called on a Ruby thread with the GVL; the value stored is never dereferenced; the hook lives for ever.
    unsafe {
        let key = *KEY.get_or_init(|| rb_sys::rb_ractor_local_storage_ptr_newkey(&raw const NO_FREE) as usize)
            as rb_sys::rb_ractor_local_key_t;
        if rb_sys::rb_ractor_local_storage_ptr(key).is_null() {
            rb_sys::rb_ractor_local_storage_ptr_set(key, std::ptr::without_provenance_mut(1));
            rb_sys::rb_add_event_hook(
                Some(thread_ends),
                rb_sys::RUBY_EVENT_THREAD_END,
                rb_sys::Qnil as VALUE,
            );
        }
    }
}

static NO_FREE: rb_sys::rb_ractor_local_storage_type =
    rb_sys::rb_ractor_local_storage_type { mark: None, free: None };

/// What the thread still holds is abandoned, as if the process had died.
unsafe extern "C" fn thread_ends(_: rb_event_flag_t, _: VALUE, _: VALUE, _: ID, _: VALUE) {
    if let Some(thread) = Thread::known() {
        abandon_held(&thread);
        Thread::forget();
    }
}
