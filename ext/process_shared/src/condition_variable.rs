//! `ProcessShared::ConditionVariable`, and the wait that `Mutex#sleep` shares with it.

use magnus::{RModule, Ruby, Value, method, prelude::*, rb_sys::AsRawValue};
use process_shared_core::platform::fork_depth;
use process_shared_core::{ConditionRef, ConditionVariable, Outcome, deadline};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::data::{self, Data, DataType};
use crate::errors::Error;
use crate::mutex::{MutexData, define};
use crate::nogvl::{self, Nap};
use crate::semaphore_mutex::SemaphoreMutexData;
use crate::timeout::Timeout;
use crate::waiting::{self, Waiting};
use crate::{errors, interrupts, scheduled, thread};

#[derive(Default)]
pub struct ConditionVariableData {
    condition: OnceLock<ConditionVariable>,
    closed: AtomicBool,
}

impl Data for ConditionVariableData {
    const TYPE: &'static DataType = {
        static TYPE: DataType = DataType::of::<ConditionVariableData>(c"ProcessShared::ConditionVariable");
        &TYPE
    };

    fn extra_size(&self) -> usize {
        process_shared_core::arena::SLOT
    }
}

const NAME: &str = "ProcessShared::ConditionVariable";

impl ConditionVariableData {
    fn open(&self, ruby: &Ruby) -> Result<&ConditionVariable, Error> {
        let condition = self.condition.get();
        let reached = || condition.map(ConditionVariable::is_accessible);
        let usable = condition.filter(|condition| !self.closed.load(Relaxed) && condition.is_accessible());
        usable.ok_or_else(|| errors::unusable(ruby, NAME, reached()))
    }
}

/// What is released while its holder waits.
pub enum Lock<'a> {
    /// A Mutex or Monitor, and its object.
    Mutex(&'a MutexData, Value),
    /// What `Semaphore#to_mtx` gives, and its object.
    Semaphore(&'a SemaphoreMutexData, Value),
    /// Two callables: one that releases it, one that takes it again, and is told whether an exception ended the wait.
    Procs(Value, Value),
}

impl Lock<'_> {
    fn name(&self, ruby: &Ruby) -> Result<u32, Error> {
        match self {
            Lock::Mutex(data, _) => Ok(data.open(ruby)?.name()),
            Lock::Semaphore(data, _) => data.name(ruby),
            Lock::Procs(..) => Ok(0),
        }
    }

    /// Gives it back; returns what `retake` wants to know.
    fn release(&self, ruby: &Ruby) -> Result<u32, Error> {
        match self {
            Lock::Mutex(data, _) => data.release_all(ruby),
            Lock::Semaphore(data, _) => data.unlock(ruby).map(|()| 1),
            Lock::Procs(release, _) => Ok(release.funcall::<_, _, Value>("call", ()).map(|_| 1)?),
        }
    }

    /// Takes it again, whatever happens. Returns what has to be raised then. `rest` runs before any Ruby code of
    /// others does.
    fn retake(
        &self,
        ruby: &Ruby,
        levels: u32,
        raised: Option<Error>,
        rest: &mut dyn FnMut(),
    ) -> Option<Error> {
        match self {
            Lock::Mutex(data, object) => data.retake(ruby, *object, levels, raised, rest),
            Lock::Semaphore(data, object) => data.retake(ruby, *object, raised, rest),
            // Nobody waits for the one who wants a lock without a name, so there is no need to rest.
            Lock::Procs(_, retake) => {
                let broken =
                    if raised.is_some() { ruby.qtrue().as_value() } else { ruby.qfalse().as_value() };
                interrupts::call(ruby, *retake, "call", [broken]).err().or(raised)
            }
        }
    }
}

/// Releases `lock`, waits for the condition of `object`, and takes the lock again whatever happens. Returns the seconds it
/// took, rounded, or nil if `timeout` passed.
pub fn wait(ruby: &Ruby, object: Value, lock: &Lock<'_>, timeout: Timeout) -> Result<Value, Error> {
    let condition = condition_of(ruby, object)?;
    nogvl::refuse_in_trap(ruby)?;
    if scheduled::is_non_blocking() {
        return scheduled::wait(ruby, object, lock, timeout);
    }
    let start = deadline::now();
    interrupts::check(ruby)?;
    nogvl::forget_wakeup(ruby)?;
    let (mut thread, mut born) = (thread::current(ruby)?, fork_depth());
    let name = lock.name(ruby)?;
    let mut wait = condition.enter(&thread, name).map_err(|error| errors::to_ruby(ruby, error))?;
    let levels = match lock.release(ruby) {
        Ok(levels) => levels,
        Err(error) => {
            condition.leave(&thread, wait);
            return Err(error);
        }
    };

    let mut until = timeout.deadline();
    // What is left of the wait, if it was granted; whether it timed out; what to raise.
    let (mut granted, timed_out, raised) = loop {
        let _waiting = Waiting::with(object); // in this process: a signal handler may fork
        if let Err(closed) = condition_of(ruby, object) {
            condition.leave(&thread, wait);
            break (None, false, Some(closed));
        }
        let nap = nogvl::nap(
            ruby,
            &mut wait,
            |wait| condition.sleep(&thread, wait, until),
            |wait| condition.rest(&thread, wait),
        );
        if fork_depth() != born {
            // A signal handler has forked, and this is the child: that wait is its parent's, and this one begins anew.
            let again = nap.and_then(|_| {
                thread = thread::current(ruby)?;
                condition.enter(&thread, name).map_err(|error| errors::to_ruby(ruby, error))
            });
            match again {
                Ok(own) => (wait, born) = (own, fork_depth()),
                Err(error) => break (None, false, Some(error)),
            }
            continue;
        }
        match nap {
            Ok(Nap::Over(Outcome::Acquired)) => break (Some(wait), false, None),
            Ok(Nap::Over(_)) => match condition.expire(&thread, wait) {
                None => break (None, true, None),
                Some(same) => (wait, until) = (same, None),
            },
            Ok(Nap::Again) => {}
            Ok(Nap::WokenUp) => {
                condition.leave(&thread, wait);
                break (None, false, condition_of(ruby, object).err());
            }
            Err(error) => {
                condition.leave(&thread, wait);
                break (None, false, Some(error));
            }
        }
    };
    let mut rest = || {
        if let Some(wait) = granted.as_mut().filter(|_| fork_depth() == born) {
            condition.rest(&thread, wait);
        }
    };
    let mut raised = lock.retake(ruby, levels, raised, &mut rest);
    if raised.is_none() && interrupts::are_due(ruby) {
        rest();
        raised = interrupts::check(ruby).err();
    }
    match (granted.filter(|_| fork_depth() == born), &raised) {
        (Some(wait), None) => condition.finish(&thread, wait),
        (Some(wait), Some(_)) => condition.leave(&thread, wait), // an exception takes no signal
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

fn of<'a>(object: Value) -> &'a ConditionVariableData {
    // SAFETY: called first thing in a method, whose receiver stays alive while it runs.
    unsafe { data::get(object.as_raw()) }
}

fn initialize(ruby: &Ruby, object: Value) -> Result<(), Error> {
    let data = of(object);
    let condition = ConditionVariable::new().map_err(|error| errors::to_ruby(ruby, error))?;
    data.condition.set(condition).map_err(|_| errors::already_initialized(ruby, NAME))
}

fn wait_method(ruby: &Ruby, object: Value, args: &[Value]) -> Result<Value, Error> {
    ruby.check_arity(args.len(), 1..=2)?;
    let (lock, timeout) = (args[0], args.get(1).copied().unwrap_or(ruby.qnil().as_value()));
    of(object).open(ruby)?;
    let native = if let Some(data) = data::find::<MutexData>(lock.as_raw()) {
        Lock::Mutex(data, lock)
    } else if let Some(data) = data::find::<SemaphoreMutexData>(lock.as_raw()) {
        Lock::Semaphore(data, lock)
    } else if lock.respond_to("sleep", false)? {
        return scheduled::sleep_on(ruby, object, lock, timeout);
    } else {
        return Err(errors::wrong_type(ruby, lock, "a lock: it has to respond to sleep(timeout)"));
    };
    let timeout = Timeout::parse(ruby, timeout)?;
    if let Lock::Mutex(data, _) = native {
        data.assert_owned(ruby)?;
    }
    wait(ruby, object, &native, timeout)
}

/// `wait_between(release, retake, timeout)`: waits with two callables for a lock. For `scheduled`.
fn wait_between(
    ruby: &Ruby,
    object: Value,
    release: Value,
    retake: Value,
    timeout: Value,
) -> Result<Value, Error> {
    let timeout = Timeout::parse(ruby, timeout)?;
    wait(ruby, object, &Lock::Procs(release, retake), timeout)
}

/// The condition of a ConditionVariable or of a Mutex.
fn condition_of<'a>(ruby: &Ruby, object: Value) -> Result<ConditionRef<'a>, Error> {
    match data::find::<MutexData>(object.as_raw()) {
        Some(data) => Ok(data.open(ruby)?.condition()),
        None => Ok(of(object).open(ruby)?.condition()),
    }
}

fn signal(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    let thread = thread::current(ruby)?;
    of(object).open(ruby)?.condition().signal(&thread);
    Ok(object)
}

fn broadcast(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    let thread = thread::current(ruby)?;
    of(object).open(ruby)?.condition().broadcast(&thread);
    Ok(object)
}

fn waiters(ruby: &Ruby, object: Value) -> Result<usize, Error> {
    Ok(of(object).open(ruby)?.condition().waiters())
}

fn close(ruby: &Ruby, object: Value) -> Result<(), Error> {
    let data = of(object);
    data.condition.get().ok_or_else(|| errors::not_initialized(ruby, NAME))?;
    data.closed.store(true, Relaxed);
    waiting::rouse(object);
    Ok(())
}

fn is_closed(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    let data = of(object);
    data.condition.get().ok_or_else(|| errors::not_initialized(ruby, NAME))?;
    Ok(data.closed.load(Relaxed))
}

fn inspect(object: Value) -> String {
    let data = of(object);
    let state = match data.condition.get() {
        None => "not initialized".to_owned(),
        Some(_) if data.closed.load(Relaxed) => "closed".to_owned(),
        Some(condition) => format!("{} waiting", condition.condition().waiters()),
    };
    format!("#<{} {state}>", errors::class_name(object))
}

pub fn init(ruby: &Ruby, module: RModule) -> Result<(), Error> {
    let class = define::<ConditionVariableData>(module, "ConditionVariable", ruby.class_object())?;
    class.define_method("initialize", method!(initialize, 0))?;
    class.define_method("wait", method!(wait_method, -1))?;
    class.define_method("signal", method!(signal, 0))?;
    class.define_method("broadcast", method!(broadcast, 0))?;
    class.define_method("waiters", method!(waiters, 0))?;
    class.define_method("close", method!(close, 0))?;
    class.define_method("closed?", method!(is_closed, 0))?;
    class.define_method("inspect", method!(inspect, 0))?;
    class.define_method("to_s", method!(inspect, 0))?;
    class.define_private_method("wait_between", method!(wait_between, 3))?;
    let mutex: magnus::RClass = module.const_get("Mutex")?;
    Ok(mutex.define_private_method("wait_between", method!(wait_between, 3))?)
}
