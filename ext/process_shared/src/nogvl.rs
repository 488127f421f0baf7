//! Waiting without the GVL, so that it obeys Timeout, Thread#raise, Thread#kill and signals: the one place for it.
//!
//! `rb_thread_call_without_gvl2` never raises, so nothing jumps over Rust frames; it skips the call when an interrupt
//! is due already. `RUBY_UBF_IO` makes Ruby interrupt the thread with a signal, again and again until it reacts, so
//! the futex wait comes back with EINTR whenever there is something to do.
//!
//! The order is: try with the GVL (the caller did), look at interrupts, wait without it, repeat. The look comes first
//! because an exception that is due under `Thread.handle_interrupt(.. => :on_blocking)` would otherwise be slept over.

use magnus::{RModule, Ruby, Value, function, prelude::*};
use process_shared_core::{Outcome, Thread};
use rb_sys::{VALUE, rb_mutex_lock, rb_mutex_new, rb_mutex_unlock, rb_thread_call_without_gvl2};
use std::ffi::c_void;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use crate::errors::Error;
use crate::waiting::Waiting;
use crate::{errors, interrupts, thread};

/// Runs `call` without the GVL. `None` if Ruby skipped it because an interrupt is due. `call` must not touch Ruby.
pub fn without_gvl<T>(call: impl FnOnce() -> T) -> Option<T> {
    struct Job<F, T> {
        call: Option<F>,
        result: Option<T>,
    }
    unsafe extern "C" fn run<F: FnOnce() -> T, T>(job: *mut c_void) -> *mut c_void {
        // SAFETY: the job of the call below, which waits for us.
        let job = unsafe { &mut *job.cast::<Job<F, T>>() };
        job.result = job.call.take().map(|call| call());
        std::ptr::null_mut()
    }
    fn run_of<F: FnOnce() -> T, T>(_: &F) -> unsafe extern "C" fn(*mut c_void) -> *mut c_void {
        run::<F, T>
    }
    let run = run_of(&call);
    let mut job = Job { call: Some(call), result: None };
    // SAFETY: RUBY_UBF_IO is the address -1, which Ruby compares and never calls; `run` gets the job it is made for.
    unsafe {
        let ubf_io: unsafe extern "C" fn(*mut c_void) = std::mem::transmute(usize::MAX);
        rb_thread_call_without_gvl2(Some(run), (&raw mut job).cast(), Some(ubf_io), std::ptr::null_mut());
    }
    job.result
}

/// Waits until `wait`, called without the GVL, says that it acquired (true) or timed out (false). It gets the calling
/// thread, which is another after a signal handler that forked. Closing one of `objects` has it looked at `check` again.
///
/// What was acquired while an interrupt came due is given back before that is looked at: the GVL may have been long in
/// coming, and an exception takes nothing with it. So does Ruby's own mutex.
///
/// # Errors
/// The exception that an interrupt raised, or what `check` says before each wait: then `wait` has taken nothing.
pub fn block(
    ruby: &Ruby,
    objects: [Option<Value>; 2],
    mut check: impl FnMut() -> Result<(), Error>,
    mut wait: impl FnMut(&Thread) -> Outcome,
    mut give_back: impl FnMut(&Thread),
) -> Result<bool, Error> {
    loop {
        interrupts::check(ruby)?;
        check()?;
        let thread = thread::current(ruby)?;
        let _waiting = objects.map(|object| object.map(Waiting::with)); // in this process: see `thread`
        match without_gvl(|| wait(&thread)) {
            Some(Outcome::Acquired) if interrupts::are_due(ruby) => give_back(&thread),
            Some(Outcome::Acquired) => return Ok(true),
            Some(Outcome::TimedOut) => return Ok(false),
            Some(Outcome::Interrupted) | None => {}
        }
    }
}

/// Waits as `block` does, but lets nothing end the wait: an interrupt's exception is kept and returned in the end.
/// `rest` runs before any Ruby code does.
pub fn block_through(
    ruby: &Ruby,
    mut wait: impl FnMut(&Thread) -> Outcome,
    rest: &mut dyn FnMut(),
) -> Option<Error> {
    let mut raised = None;
    loop {
        thread::give_up_main(ruby);
        let thread = match thread::current(ruby) {
            Ok(thread) => thread,
            Err(error) => return raised.or(Some(error)),
        };
        match without_gvl(|| wait(&thread)) {
            Some(Outcome::Acquired | Outcome::TimedOut) => return raised,
            Some(Outcome::Interrupted) | None => {
                rest();
                raised = interrupts::check(ruby).err().or(raised);
            }
        }
    }
}

/// What a wait that can be woken by `Thread#wakeup` came to.
pub enum Nap {
    Over(Outcome),
    /// `Thread#wakeup` or `Thread#run` was called.
    WokenUp,
    /// It was not begun, or a signal handler ran and returned: nap again.
    Again,
}

/// Waits once, like `block` but for `Thread#wakeup`. `rest` runs before any Ruby code does.
///
/// # Errors
/// As `block`.
pub fn nap<S>(
    ruby: &Ruby,
    state: &mut S,
    wait: impl FnOnce(&mut S) -> Outcome,
    rest: impl FnOnce(&mut S),
) -> Result<Nap, Error> {
    if let Some(outcome @ (Outcome::Acquired | Outcome::TimedOut)) = without_gvl(|| wait(state)) {
        return Ok(Nap::Over(outcome));
    }
    rest(state);
    let meant = interrupts::are_due(ruby); // not by a signal that merely hit this native thread
    interrupts::check(ruby)?;
    Ok(if meant && was_woken_up(ruby)? { Nap::WokenUp } else { Nap::Again })
}

/// Whether `Thread#wakeup` was called on the main thread since this was last asked, and the process in which it is noted:
/// the main thread may be another after a fork.
static WOKEN_UP: AtomicBool = AtomicBool::new(false);
static NOTED_IN: AtomicU32 = AtomicU32::new(0);

/// Tells `Thread#wakeup` from a signal handler that ran. Only the main thread runs those, and there `wakeup` leaves a
/// note (`lib/process_shared/wakeup.rb`); on any other thread nothing else interrupts but an exception, which raises, or
/// is deferred.
fn was_woken_up(ruby: &Ruby) -> Result<bool, Error> {
    if !is_main(ruby) {
        return Ok(!ruby.thread_current().funcall::<_, _, bool>("pending_interrupt?", ())?);
    }
    let pid = thread::current(ruby)?.pid();
    if NOTED_IN.load(Relaxed) != pid {
        let notes: RModule = ruby.get_inner(&errors::MODULE).const_get("Wakeup")?;
        ruby.thread_current().funcall::<_, _, Value>("extend", (notes,))?;
        NOTED_IN.store(pid, Relaxed);
    }
    Ok(WOKEN_UP.swap(false, Relaxed))
}

fn note_wakeup() {
    WOKEN_UP.store(true, Relaxed);
}

/// Forgets that `Thread#wakeup` was called before the nap.
///
/// # Errors
/// `NoMemoryError` and the like.
pub fn forget_wakeup(ruby: &Ruby) -> Result<(), Error> {
    if is_main(ruby) { was_woken_up(ruby).map(|_| ()) } else { Ok(()) }
}

/// Whether this is the thread that runs signal handlers.
fn is_main(ruby: &Ruby) -> bool {
    thread::in_main_ractor() && thread::is_first(ruby)
}

static PROBE: OnceLock<VALUE> = OnceLock::new();

pub fn init(module: RModule) -> Result<(), Error> {
    // SAFETY: on a Ruby thread; the mutex is registered for good before anything else can happen.
    let _ = PROBE.set(unsafe {
        let mutex = rb_mutex_new();
        rb_sys::rb_gc_register_mark_object(mutex);
        mutex
    });
    Ok(module.define_module("Wakeup")?.define_singleton_method("note", function!(note_wakeup, 0))?)
}

/// Refuses to wait in a signal handler, where nobody else could run.
///
/// # Errors
/// `ThreadError` "can't be called from trap context".
pub fn refuse_in_trap(ruby: &Ruby) -> Result<(), Error> {
    if !is_main(ruby) {
        return Ok(());
    }
    let Some(&probe) = PROBE.get() else { return Ok(()) };
    // Nothing public tells a trap handler's context, but Ruby's own mutex refuses to be locked there.
    magnus::rb_sys::protect(|| {
        // SAFETY: a mutex that is kept for ever, and that only the main thread locks, never across other code.
        unsafe {
            rb_mutex_lock(probe);
            rb_mutex_unlock(probe)
        }
    })?;
    Ok(())
}
