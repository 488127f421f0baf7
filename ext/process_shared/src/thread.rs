//! The calling thread as the core knows it, and what Ruby adds to threads: they may move between native threads, and
//! may end while their native thread lives on.

use magnus::rb_sys::{AsRawValue, FromRawValue};
use magnus::{RModule, Ruby, prelude::*};
use process_shared_core::platform::{ProcessLocal, fork_depth};
use process_shared_core::{Thread, release_held_as_dead};
use rb_sys::{ID, VALUE, rb_event_flag_t};
use std::ffi::c_void;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};

use crate::errors::Error;
use crate::{errors, interrupts, migrating_thread, ractor, raw_methods};

/// The calling thread, if it has been here before.
#[inline]
pub fn known() -> Option<Thread> {
    Thread::known().or_else(migrating_thread::known)
}

/// The calling thread, as the owner of locks.
#[inline]
pub fn current(ruby: &Ruby) -> Result<Thread, Error> {
    match Thread::known() {
        Some(thread) => Ok(thread),
        None => introduce(ruby),
    }
}

/// The calling fiber.
#[inline]
pub fn current_fiber() -> usize {
    // SAFETY: called on a Ruby thread with the GVL.
    unsafe { rb_sys::rb_fiber_current() as usize }
}

/// The first time on this native thread in this Ruby thread's life.
#[cold]
fn introduce(ruby: &Ruby) -> Result<Thread, Error> {
    if let Some(thread) = migrating_thread::known() {
        return Ok(thread);
    }
    if let Some(thread) = migrating_thread::introduce(ruby)? {
        hook_thread_ends(ruby)?;
        return Ok(thread);
    }
    let thread = Thread::current().map_err(|error| errors::to_ruby(ruby, error))?;
    if ractor::is_main_thread(ruby) {
        remember_main(ruby);
    } else {
        hook_thread_ends(ruby)?;
    }
    Ok(thread)
}

type Callback = unsafe extern "C" fn(rb_event_flag_t, *const c_void, *mut c_void);
type AddHook = unsafe extern "C" fn(Callback, rb_event_flag_t, *mut c_void) -> *mut c_void;

/// Ruby's `rb_internal_thread_add_event_hook`, if it has it. Looked up by `init`: a child forked while another Ractor looks
/// for it would wait for that Ractor for ever.
static ADD_HOOK: OnceLock<Option<AddHook>> = OnceLock::new();

/// Makes Ruby call `thread_ended` on each thread that ends. Ruby's main thread ends with the process, where the kernel
/// does the same.
///
/// Ruby 3.2 and newer have a hook for it. Ruby 3.1 has an event that misses threads which are killed or raise, and
/// that each Ractor has to ask for; `lib/process_shared/thread_end.rb` does the rest.
fn hook_thread_ends(ruby: &Ruby) -> Result<(), Error> {
    const EXITED: rb_event_flag_t = 1 << 4; // RUBY_INTERNAL_THREAD_EVENT_EXITED

    // The data is a struct that begins with the thread since Ruby 3.3, null before.
    unsafe extern "C" fn exited(_: rb_event_flag_t, data: *const c_void, _: *mut c_void) {
        // SAFETY: see above.
        if let Some(thread) = unsafe { data.cast::<VALUE>().as_ref() } {
            migrating_thread::ended(*thread);
        }
        thread_ended();
    }
    unsafe extern "C" fn ended(_: rb_event_flag_t, _: VALUE, _: VALUE, _: ID, _: VALUE) {
        thread_ended();
    }
    static ADDED: AtomicBool = AtomicBool::new(false);
    match ADD_HOOK.get().copied().flatten() {
        Some(add_hook) if !ADDED.swap(true, Relaxed) => {
            // SAFETY: the hook stays for ever and touches no object.
            unsafe { add_hook(exited, EXITED, std::ptr::null_mut()) };
        }
        Some(_) => {}
        None => {
            if !ractor::has_mark(ractor::HOOKED) {
                ractor::set_mark(ractor::HOOKED);
                let (end, nothing) = (rb_sys::RUBY_EVENT_THREAD_END, rb_sys::Qnil as VALUE);
                // SAFETY: called on a Ruby thread with the GVL; the hook touches no object.
                unsafe { rb_sys::rb_add_event_hook(Some(ended), end, nothing) };
            }
            let needs_guard = !ractor::is_main() && !ractor::has_mark(ractor::GUARDED);
            if needs_guard && ractor::is_first_thread(ruby) {
                ractor::set_mark(ractor::GUARDED);
                let ends: RModule = ruby.get_inner(&errors::MODULE).const_get("ThreadEnd")?;
                let memory = Thread::memory();
                GUARDED.with(|guarded| guarded.push(memory));
                ends.funcall::<_, _, magnus::Value>("guard", (memory,))?;
            }
        }
    }
    Ok(())
}

/// The process's main thread, as Ruby and as the core know it, and the fork depth of that process.
static MAIN_THREAD: AtomicUsize = AtomicUsize::new(0);
static MAIN_MEMORY: AtomicUsize = AtomicUsize::new(0);
static MAIN_FORK_DEPTH: AtomicU32 = AtomicU32::new(0);

fn remember_main(ruby: &Ruby) {
    MAIN_THREAD.store(ruby.thread_current().as_raw() as usize, Relaxed);
    MAIN_MEMORY.store(Thread::memory(), Relaxed);
    MAIN_FORK_DEPTH.store(fork_depth(), Relaxed);
}

/// If the main thread is over, releases what it holds, as Ruby does with its own mutexes: the main thread waits for all
/// others to end, and the calling one may wait for a lock of the main thread's.
pub fn release_main_thread(ruby: &Ruby) {
    let main = MAIN_THREAD.load(Relaxed);
    if main == 0 || MAIN_FORK_DEPTH.load(Relaxed) != fork_depth() {
        return;
    }
    // SAFETY: the main thread's object lives as long as the process.
    let main = unsafe { magnus::Value::from_raw(main as VALUE) };
    if matches!(interrupts::call(ruby, main, "alive?", []), Ok(alive) if !alive.to_bool()) {
        first_thread_ended(MAIN_MEMORY.load(Relaxed));
    }
}

/// Releases what the calling thread still holds as if the process had died.
pub fn thread_ended() {
    if let Some(thread) = Thread::known() {
        release_held(&thread);
        Thread::forget();
    }
}

/// The `Thread::memory` of each first thread of a Ractor that `ThreadEnd.guard` waits for.
static GUARDED: ProcessLocal<Vec<usize>> = ProcessLocal::new(Vec::new());

/// `thread_ended` for the first thread of a Ractor, which is over and waits for this one; `memory` is its `Thread::memory`.
/// Any program can call this method, so it accepts only an address that `ThreadEnd.guard` was given.
fn guarded_thread_ended(memory: usize) {
    let found = GUARDED.with(|guarded| {
        let place = guarded.iter().position(|each| *each == memory)?;
        Some(guarded.swap_remove(place))
    });
    if let Some(memory) = found {
        first_thread_ended(memory);
    }
}

/// For a thread that is over and waits for this one; `memory` is its `Thread::memory`.
fn first_thread_ended(memory: usize) {
    // SAFETY: called for what `ThreadEnd.guard` was given, and by `release_main_thread`, when Ruby ends a Ractor's other
    // threads after its first.
    if let Some(thread) = unsafe { Thread::forget_at(memory) } {
        release_held(&thread);
    }
}

/// Releases what `thread` still holds: it is over.
pub fn release_held(thread: &Thread) {
    crate::map_computing::thread_ended(thread);
    release_held_as_dead(thread);
}

pub fn init(module: RModule) -> Result<(), Error> {
    migrating_thread::init();
    ADD_HOOK.get_or_init(|| {
        // SAFETY: if Ruby has it, it has this signature.
        raw_methods::find(c"rb_internal_thread_add_event_hook")
            .map(|symbol| unsafe { std::mem::transmute::<*mut c_void, AddHook>(symbol) })
    });
    module.define_singleton_method("thread_ends", magnus::function!(thread_ended, 0))?;
    module.define_singleton_method("first_thread_ends", magnus::function!(guarded_thread_ended, 1))?;
    let names = ("thread_ends", "first_thread_ends");
    module.singleton_class()?.funcall::<_, _, magnus::Value>("private", names)?;
    Ok(())
}
