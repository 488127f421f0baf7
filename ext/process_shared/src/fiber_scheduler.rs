//! Waiting in a non-blocking fiber under a fiber scheduler, and on locks that are not ours. Both need a helper thread, and
//! are written in Ruby (`lib/process_shared/fiber_scheduler.rb`): this calls that.

use magnus::{RModule, Ruby, Value, prelude::*};
use process_shared_core::Thread;

use crate::errors::Error;
use crate::timeout::Timeout;
use crate::{errors, interrupts, thread};

/// Whether a wait in the calling fiber has to leave the thread to its other fibers.
pub fn is_non_blocking() -> bool {
    // SAFETY: called on a Ruby thread with the GVL.
    unsafe { rb_sys::rb_fiber_scheduler_current() != rb_sys::Qnil as rb_sys::VALUE }
}

fn module(ruby: &Ruby) -> Result<RModule, Error> {
    Ok(ruby.get_inner(&errors::MODULE).const_get("FiberScheduler")?)
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
    attempt: impl FnMut() -> Result<bool, Error>,
) -> Result<bool, Error> {
    wait_until_ready(ruby, timeout, attempt, |scheduler, seconds| {
        scheduler.funcall("watch", (object, seconds))
    })
}

/// The same for `count` of what `object` has.
pub fn wait_until_many(
    ruby: &Ruby,
    object: Value,
    count: u32,
    timeout: Timeout,
    attempt: impl FnMut() -> Result<bool, Error>,
) -> Result<bool, Error> {
    wait_until_ready(ruby, timeout, attempt, |scheduler, seconds| {
        scheduler.funcall("watch", (object, seconds, count))
    })
}

/// The same for what has epochs: until `epoch` is over, also if that comes before the helper begins.
pub fn wait_until_past(
    ruby: &Ruby,
    object: Value,
    timeout: Timeout,
    epoch: u32,
    attempt: impl FnMut() -> Result<bool, Error>,
) -> Result<bool, Error> {
    wait_until_ready(ruby, timeout, attempt, |scheduler, seconds| {
        scheduler.funcall("watch", (object, seconds, epoch))
    })
}

fn wait_until_ready(
    ruby: &Ruby,
    timeout: Timeout,
    mut attempt: impl FnMut() -> Result<bool, Error>,
    watch: impl Fn(RModule, Value) -> Result<Value, magnus::Error>,
) -> Result<bool, Error> {
    loop {
        if attempt()? {
            return Ok(true);
        }
        if timeout.has_passed() {
            return Ok(false);
        }
        watch(module(ruby)?, seconds(ruby, timeout))?;
    }
}

/// Calls a method of `object` in a helper thread. It gets `args`, and the seconds left.
pub fn call_elsewhere(
    ruby: &Ruby,
    object: Value,
    method: &str,
    args: [Value; 2],
    timeout: Timeout,
) -> Result<Value, Error> {
    let name = ruby.to_symbol(method);
    Ok(module(ruby)?.funcall("call", (object, name, args[0], args[1], seconds(ruby, timeout)))?)
}

/// Tries until it works, whatever happens; returns what has to be raised then.
pub fn wait_through(ruby: &Ruby, object: Value, mut attempt: impl FnMut(&Thread) -> bool) -> Option<Error> {
    let mut raised = None;
    loop {
        thread::release_main_thread(ruby);
        match thread::current(ruby) {
            Ok(thread) if attempt(&thread) => return raised,
            Ok(_) => {}
            Err(error) => return raised.or(Some(error)),
        }
        let watched = module(ruby).and_then(|scheduler| {
            interrupts::call(ruby, scheduler.as_value(), "watch", [object, ruby.qnil().as_value()])
        });
        raised = watched.err().or(raised);
    }
}

/// `condition_wait::wait` in a helper thread; `lock` is released and taken again in this one.
pub fn wait(ruby: &Ruby, object: Value, lock: Value, timeout: Timeout) -> Result<Value, Error> {
    Ok(module(ruby)?.funcall("wait", (object, lock, seconds(ruby, timeout)))?)
}

/// Waits for the ConditionVariable `object` in the `sleep` of a lock that is not ours.
pub fn sleep_on(ruby: &Ruby, object: Value, lock: Value, timeout: Value) -> Result<Value, Error> {
    Ok(module(ruby)?.funcall("sleep_on", (object, lock, timeout))?)
}
