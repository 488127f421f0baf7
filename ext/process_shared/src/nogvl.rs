//! Waiting without the GVL, so that it obeys Timeout, Thread#raise, Thread#kill and signals: the one place for it.
//!
//! `rb_thread_call_without_gvl2` never raises, so nothing jumps over Rust frames; it skips the call when an interrupt
//! is due already. `RUBY_UBF_IO` makes Ruby interrupt the thread with a signal, again and again until it reacts, so
//! the futex wait comes back with EINTR whenever there is something to do.
//!
//! The order is: try with the GVL (the caller did), look at interrupts, wait without it, repeat. The look comes first
//! because an exception that is due under `Thread.handle_interrupt(.. => :on_blocking)` would otherwise be slept over.

use magnus::{Ruby, Value};
use process_shared_core::{Outcome, Thread};
use rb_sys::rb_thread_call_without_gvl2;
use std::ffi::c_void;

use crate::close_wakeups::Waiting;
use crate::errors::Error;
use crate::{interrupts, thread, wakeup};

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

/// Waits until `wait`, called without the GVL, says that it acquired (true) or timed out (false). `wait` gets the calling
/// thread, which is another after a signal handler that forked. Closing one of `objects` ends the sleep, so that `check` is
/// asked again.
///
/// Reacquiring the GVL can take a while after `wait` acquired. If an interrupt is due by then, what was acquired is given
/// back before Ruby looks at the interrupt, so an exception never leaves anything taken. So does Ruby's own mutex.
/// `settle` is called with the GVL after each `wait` that acquired: with true it may keep what there is, with false it gives
/// it back. It returns whether it has been kept; if not, the wait goes on.
///
/// # Errors
/// The exception that an interrupt raised, or what `check` says before each wait: then `wait` has taken nothing.
pub fn block(
    ruby: &Ruby,
    objects: [Option<Value>; 2],
    mut check: impl FnMut() -> Result<(), Error>,
    mut wait: impl FnMut(&Thread) -> Outcome,
    mut settle: impl FnMut(&Thread, bool) -> bool,
) -> Result<bool, Error> {
    loop {
        interrupts::check(ruby)?;
        check()?;
        let thread = thread::current(ruby)?;
        let _waiting = objects.map(|object| object.map(Waiting::with)); // inside the loop: a signal handler may fork
        match without_gvl(|| wait(&thread)) {
            Some(Outcome::Acquired) if settle(&thread, !interrupts::are_due(ruby)) => return Ok(true),
            Some(Outcome::TimedOut) => return Ok(false),
            Some(Outcome::Acquired | Outcome::Interrupted) | None => {}
        }
    }
}

/// The `settle` of a wait that takes nothing.
pub fn keep(_: &Thread, keep: bool) -> bool {
    keep
}

/// Waits as `block` does, but nothing ends the wait early: an interrupt's exception is kept, and returned in the end.
/// `rest` runs before any Ruby code does.
pub fn block_through(
    ruby: &Ruby,
    mut wait: impl FnMut(&Thread) -> Outcome,
    rest: &mut dyn FnMut(),
) -> Option<Error> {
    let mut raised = None;
    loop {
        thread::release_main_thread(ruby);
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

/// What a wait that `Thread#wakeup` can end came to.
pub enum WaitResult {
    Over(Outcome),
    /// `Thread#wakeup` or `Thread#run` was called.
    WokenUp,
    /// It was not begun, or a signal handler ran and returned: wait again.
    Again,
}

/// Waits once, like `block` but for `Thread#wakeup`. `rest` runs before any Ruby code does.
///
/// # Errors
/// As `block`.
pub fn wait_once<S>(
    ruby: &Ruby,
    state: &mut S,
    wait: impl FnOnce(&mut S) -> Outcome,
    rest: impl FnOnce(&mut S),
) -> Result<WaitResult, Error> {
    if let Some(outcome @ (Outcome::Acquired | Outcome::TimedOut)) = without_gvl(|| wait(state)) {
        return Ok(WaitResult::Over(outcome));
    }
    rest(state);
    let due = interrupts::are_due(ruby); // false for a signal that merely hit this native thread
    interrupts::check(ruby)?;
    Ok(if due && wakeup::was_called(ruby)? { WaitResult::WokenUp } else { WaitResult::Again })
}
