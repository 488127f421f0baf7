//! The calling thread as the core knows it, and what Ruby adds to threads: they may move between native threads, and
//! may end while their native thread lives on.

use magnus::{Error, Ruby, prelude::*};
use process_shared_core::kernel::Kernel;
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
    let thread = Thread::current().map_err(|error| errors::to_ruby(ruby, error))?;
    if thread.id() != thread.pid() {
        watch_thread_ends();
    }
    Ok(thread)
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

/// Has `thread_ended` called when a thread ends, on that thread. Ruby's main thread ends with the process, where the
/// kernel does the same.
///
/// Ruby 3.2 and newer have a hook for it. Ruby 3.1 has an event that misses threads which are killed or raise, and
/// which has to be asked for in each Ractor; `lib/process_shared/thread_end.rb` sees to the rest.
fn watch_thread_ends() {
    type Callback = unsafe extern "C" fn(rb_event_flag_t, *const c_void, *mut c_void);
    type AddHook = unsafe extern "C" fn(Callback, rb_event_flag_t, *mut c_void) -> *mut c_void;
    const EXITED: rb_event_flag_t = 1 << 4; // RUBY_INTERNAL_THREAD_EVENT_EXITED

    unsafe extern "C" fn exited(_: rb_event_flag_t, _: *const c_void, _: *mut c_void) {
        thread_ended();
    }
    unsafe extern "C" fn ended(_: rb_event_flag_t, _: VALUE, _: VALUE, _: ID, _: VALUE) {
        thread_ended();
    }
    static HOOKED: OnceLock<bool> = OnceLock::new();
    let hooked = HOOKED.get_or_init(|| {
        // SAFETY: if Ruby has the function, it has this signature; the hook stays for ever and touches no object.
        unsafe {
            let symbol = libc::dlsym(libc::RTLD_DEFAULT, c"rb_internal_thread_add_event_hook".as_ptr());
            if !symbol.is_null() {
                std::mem::transmute::<*mut c_void, AddHook>(symbol)(exited, EXITED, std::ptr::null_mut());
            }
            !symbol.is_null()
        }
    });
    if !hooked {
        static KEY: OnceLock<usize> = OnceLock::new();
        // SAFETY: called on a Ruby thread with the GVL; what is stored in the Ractor is only a mark.
        unsafe {
            let key = *KEY
                .get_or_init(|| rb_sys::rb_ractor_local_storage_ptr_newkey(&raw const NO_FREE) as usize)
                as rb_sys::rb_ractor_local_key_t;
            if rb_sys::rb_ractor_local_storage_ptr(key).is_null() {
                rb_sys::rb_ractor_local_storage_ptr_set(key, std::ptr::without_provenance_mut(1));
                rb_sys::rb_add_event_hook(Some(ended), rb_sys::RUBY_EVENT_THREAD_END, rb_sys::Qnil as VALUE);
            }
        }
    }
}

static NO_FREE: rb_sys::rb_ractor_local_storage_type =
    rb_sys::rb_ractor_local_storage_type { mark: None, free: None };

/// What the calling thread still holds is abandoned, as if the process had died.
pub fn thread_ended() {
    if let Some(thread) = Thread::known() {
        abandon_held(&thread);
        Thread::forget();
    }
}

pub fn init(module: magnus::RModule) -> Result<(), Error> {
    module.define_singleton_method("thread_ends", magnus::function!(thread_ended, 0))?;
    module.singleton_class()?.funcall::<_, _, magnus::Value>("private", ("thread_ends",)).map(|_| ())
}
