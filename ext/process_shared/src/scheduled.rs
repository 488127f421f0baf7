//! Waiting in a non-blocking fiber under a fiber scheduler, and on locks that are not ours: both need a helper thread,
//! and are written in Ruby (`lib/process_shared/scheduled.rb`). This is the way there.

use magnus::{RModule, Ruby, Value, prelude::*};
use process_shared_core::Thread;

use crate::condition_variable::Lock;
use crate::errors::Error;
use crate::timeout::Timeout;
use crate::{errors, interrupts, thread};

/// Whether a wait in the calling fiber has to leave the thread to its other fibers.
pub fn is_non_blocking() -> bool {
    // SAFETY: called on a Ruby thread with the GVL.
    unsafe { rb_sys::rb_fiber_scheduler_current() != rb_sys::Qnil as rb_sys::VALUE }
}

fn module(ruby: &Ruby) -> Result<RModule, Error> {
    Ok(ruby.get_inner(&errors::MODULE).const_get("Scheduled")?)
}

/// Seconds left, for Ruby.
fn seconds(ruby: &Ruby, timeout: Timeout) -> Value {
    match timeout.deadline() {
        None => ruby.qnil().as_value(),
        Some(deadline) => ruby.float_from_f64(deadline.remaining().as_secs_f64()).as_value(),
    }
}

/// Tries until it works (true) or `timeout` passes (false), watching `object` between the tries.
pub fn wait_until(
    ruby: &Ruby,
    object: Value,
    timeout: Timeout,
    mut attempt: impl FnMut() -> Result<bool, Error>,
) -> Result<bool, Error> {
    loop {
        if attempt()? {
            return Ok(true);
        }
        if timeout.has_passed() {
            return Ok(false);
        }
        module(ruby)?.funcall::<_, _, Value>("watch", (object, seconds(ruby, timeout)))?;
    }
}

/// Tries until it works, whatever happens; returns what has to be raised then.
pub fn wait_through(ruby: &Ruby, object: Value, mut attempt: impl FnMut(&Thread) -> bool) -> Option<Error> {
    let mut raised = None;
    loop {
        thread::give_up_main(ruby);
        match thread::current(ruby) {
            Ok(thread) if attempt(&thread) => return raised,
            Ok(_) => {}
            Err(error) => return raised.or(Some(error)),
        }
        let watched = module(ruby).and_then(|scheduled| {
            interrupts::call(ruby, scheduled.as_value(), "watch", [object, ruby.qnil().as_value()])
        });
        raised = watched.err().or(raised);
    }
}

/// `condition_variable::wait` in a helper thread; `lock` is given back and taken again in this one.
pub fn wait(ruby: &Ruby, object: Value, lock: &Lock<'_>, timeout: Timeout) -> Result<Value, Error> {
    let lock = match lock {
        Lock::Mutex(_, lock) | Lock::Semaphore(_, lock) => *lock,
        Lock::Procs(..) => return Err(errors::ownership(ruby, "wait within a wait".to_owned())),
    };
    Ok(module(ruby)?.funcall("wait", (object, lock, seconds(ruby, timeout)))?)
}

/// Waits for the ConditionVariable `object` in the `sleep` of a lock that is not ours.
pub fn sleep_on(ruby: &Ruby, object: Value, lock: Value, timeout: Value) -> Result<Value, Error> {
    Ok(module(ruby)?.funcall("sleep_on", (object, lock, timeout))?)
}
