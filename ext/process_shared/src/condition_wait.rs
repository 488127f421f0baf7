//! Waiting for a condition: `ConditionVariable#wait`, and `Mutex#sleep`, which waits for the mutex's own condition.

use magnus::{Ruby, Value, prelude::*, rb_sys::AsRawValue};
use process_shared_core::platform::fork_depth;
use process_shared_core::{Condition, Outcome, deadline};
use rb_sys::VALUE;

use crate::close_wakeups::Waiting;
use crate::errors::{self, Error};
use crate::lock::{Callables, Lock};
use crate::nogvl::{self, WaitResult};
use crate::object::Object;
use crate::raw_methods::{self, Method3, answer, ruby, value};
use crate::timeout::Timeout;
use crate::{fiber_scheduler, interrupts, thread, trap_context, typed_data, wakeup};

/// An object with a condition to wait for.
pub trait Waitable {
    /// The condition, unless the object cannot be used.
    fn condition(&self, ruby: &Ruby) -> Result<Condition<'_>, Error>;
}

/// Releases `lock`, in the object `lock_object`, waits for the condition of `object`, and takes the lock again whatever
/// happens. Returns the seconds it took, rounded, or nil if `timeout` passed.
pub fn wait(
    ruby: &Ruby,
    object: Value,
    waitable: &dyn Waitable,
    lock_object: Value,
    lock: &dyn Lock,
    timeout: Timeout,
) -> Result<Value, Error> {
    waitable.condition(ruby)?;
    trap_context::refuse(ruby)?;
    if fiber_scheduler::is_non_blocking() {
        return fiber_scheduler::wait(ruby, object, lock_object, timeout);
    }
    wait_in_thread(ruby, object, waitable, lock_object, lock, timeout)
}

/// The same in the calling thread, which does nothing else meanwhile.
fn wait_in_thread(
    ruby: &Ruby,
    object: Value,
    waitable: &dyn Waitable,
    lock_object: Value,
    lock: &dyn Lock,
    timeout: Timeout,
) -> Result<Value, Error> {
    let condition = waitable.condition(ruby)?;
    let start = deadline::now();
    interrupts::check(ruby)?;
    wakeup::forget(ruby)?;
    let (mut thread, mut depth) = (thread::current(ruby)?, fork_depth());
    let name = lock.name(ruby)?;
    let mut wait = condition.begin_wait(&thread, name).map_err(|error| errors::to_ruby(ruby, error))?;
    let held = match lock.release(ruby) {
        Ok(held) => held,
        Err(error) => {
            condition.cancel_wait(&thread, wait);
            return Err(error);
        }
    };

    let mut until = timeout.deadline();
    // What is left of the wait, if it was granted; whether it timed out; what to raise.
    let (mut granted, timed_out, raised) = loop {
        if let Err(closed) = waitable.condition(ruby) {
            condition.cancel_wait(&thread, wait);
            break (None, false, Some(closed));
        }
        let mut waiting = Some(Waiting::with(object));
        let rest = |wait: &mut _| {
            waiting = None; // a signal handler may never come back, and may fork
            condition.release_baton(&thread, wait);
        };
        let result = nogvl::wait_once(ruby, &mut wait, |wait| condition.sleep(&thread, wait, until), rest);
        drop(waiting);
        if fork_depth() != depth {
            // A signal handler has forked, and this is the child. The wait is the parent's; the child begins its own.
            let again = result.and_then(|_| {
                thread = thread::current(ruby)?;
                condition.begin_wait(&thread, name).map_err(|error| errors::to_ruby(ruby, error))
            });
            match again {
                Ok(own) => (wait, depth) = (own, fork_depth()),
                Err(error) => break (None, false, Some(error)),
            }
            continue;
        }
        match result {
            Ok(WaitResult::Over(Outcome::Acquired)) => break (Some(wait), false, None),
            Ok(WaitResult::Over(_)) => match condition.try_cancel_wait(&thread, wait) {
                None => break (None, true, None),
                Some(same) => (wait, until) = (same, None),
            },
            Ok(WaitResult::Again) => {}
            Ok(WaitResult::WokenUp) => {
                condition.cancel_wait(&thread, wait);
                break (None, false, waitable.condition(ruby).err());
            }
            Err(error) => {
                condition.cancel_wait(&thread, wait);
                break (None, false, Some(error));
            }
        }
    };
    let mut rest = || {
        if let Some(wait) = granted.as_mut().filter(|_| fork_depth() == depth) {
            condition.release_baton(&thread, wait);
        }
    };
    let mut raised = lock.retake(ruby, lock_object, held, raised, &mut rest);
    if raised.is_none() && interrupts::are_due(ruby) {
        rest();
        raised = interrupts::check(ruby).err();
    }
    match (granted.filter(|_| fork_depth() == depth), &raised) {
        (Some(wait), None) => condition.finish_wait(&thread, wait),
        (Some(wait), Some(_)) => condition.cancel_wait(&thread, wait), // an exception takes no signal
        (None, _) => {}
    }
    match raised {
        Some(error) => Err(error),
        None if timed_out => Ok(ruby.qnil().as_value()),
        None => {
            let seconds = deadline::now().saturating_sub(start).as_secs_f64().round();
            Ok(ruby.integer_from_u64(seconds as u64).as_value())
        }
    }
}

unsafe extern "C" fn wait_between<T: Object + Waitable>(
    this: VALUE,
    release: VALUE,
    retake: VALUE,
    timeout: VALUE,
) -> VALUE {
    answer(|| {
        let ruby = ruby();
        let (object, timeout) = (value(this), Timeout::parse(&ruby, value(timeout))?);
        trap_context::refuse(&ruby)?;
        if fiber_scheduler::is_non_blocking() {
            return Err(errors::ownership(&ruby, "wait within a wait".to_owned()));
        }
        let lock = Callables { release: value(release), retake: value(retake) };
        let data = typed_data::of::<T>(object);
        wait_in_thread(&ruby, object, data, object, &lock, timeout).map(|result| result.as_raw())
    })
}

/// `wait_between(release, retake, timeout)`, a wait with two callables for a lock: for `fiber_scheduler.rb`.
pub fn define_methods<T: Object + Waitable>(class: impl AsRawValue) -> Result<(), Error> {
    raw_methods::define_private(class, "wait_between", wait_between::<T> as Method3)
}
