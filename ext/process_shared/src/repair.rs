//! `on_abandoned`: the repair of the data under a Mutex or Monitor whose holder died.
//!
//! The kernel marks the lock as abandoned; unlocking removes the mark. Until `on_abandoned` has returned, the data count
//! as broken: what gives the lock away for a while before that (`sleep`, ConditionVariable#wait, `close`, an exception)
//! leaves the mark, so that the next holder sees it and runs its own `on_abandoned`. Only an `unlock` in `on_abandoned`
//! itself says that the data are in order.
//!
//! `repair` tells, for the fiber of this process that holds the lock, how far that is:
//!
//! | state    | meaning                                                                        |
//! |----------|--------------------------------------------------------------------------------|
//! | IN_ORDER | nothing is to be repaired, or there is no `on_abandoned`                       |
//! | DUE      | an exception came before `on_abandoned` could run: the next holder has to run it |
//! | RUNNING  | the holder is in `on_abandoned`                                                |

use magnus::{RClass, Ruby, Value, prelude::*, rb_sys::AsRawValue, rb_sys::FromRawValue};
use process_shared_core::arena::Holder;
use process_shared_core::{Mutex, Thread};
use rb_sys::{VALUE, rb_gc_writebarrier};
use std::sync::atomic::Ordering::Relaxed;

use crate::errors::{self, Error};
use crate::interrupts;
use crate::lock::Held;
use crate::mutex::MutexData;
use crate::object::Object;
use crate::thread;

const IN_ORDER: u8 = 0;
const DUE: u8 = 1;
const RUNNING: u8 = 2;

impl MutexData {
    /// Releases the lock, which the calling fiber holds, for good.
    #[inline(always)]
    pub fn unlock(&self, mutex: &Mutex, thread: &Thread) {
        self.unlock_of(self.shared_holder(), mutex, thread);
    }

    /// The same for a caller that has asked for the shared holder.
    #[inline(always)]
    pub fn unlock_of(&self, shared: Option<&Holder>, mutex: &Mutex, thread: &Thread) {
        forget(shared);
        if self.holding(shared).repair.load(Relaxed) == IN_ORDER {
            mutex.unlock(thread);
        } else {
            self.unlock_slow(mutex, thread);
        }
    }

    #[cold]
    fn unlock_slow(&self, mutex: &Mutex, thread: &Thread) {
        // The lock may have been lost since the repair was put off, and the data be in order again.
        if self.holder().repair.swap(IN_ORDER, Relaxed) == DUE && mutex.is_inconsistent() {
            mutex.release_as_dead(thread);
        } else {
            mutex.unlock(thread);
        }
    }

    /// Releases the lock, which the calling fiber holds, on all levels, for a while or for a handle that is closed.
    pub fn release_held(&self, mutex: &Mutex, thread: &Thread) -> Held {
        let shared = self.shared_holder();
        let holder = self.holding(shared);
        let repair = holder.repair.swap(IN_ORDER, Relaxed);
        let held = Held { levels: holder.levels.load(Relaxed), in_repair: repair == RUNNING };
        forget(shared);
        if repair == RUNNING || repair == DUE && mutex.is_inconsistent() {
            mutex.release_as_dead(thread);
        } else {
            mutex.unlock(thread);
        }
        held
    }

    /// With the lock just taken: lets `on_abandoned` repair what a dead holder left. Returns whether the lock is still held:
    /// `on_abandoned` may have unlocked it. If it raises, the lock is released, still marked as abandoned.
    pub fn repair(&self, ruby: &Ruby, object: Value) -> Result<bool, Error> {
        let Some(mutex) = self.shared.get() else { return Ok(true) };
        self.holder().repair.store(IN_ORDER, Relaxed);
        let Some(on_abandoned) = self.on_abandoned().filter(|_| mutex.is_inconsistent()) else {
            return Ok(true);
        };
        self.holder().repair.store(RUNNING, Relaxed);
        let result = interrupts::call(ruby, on_abandoned, "call", [object]);
        let thread = thread::current(ruby)?;
        if !self.is_owned(mutex, &thread) {
            return result.map(|_| false);
        }
        if result.is_ok() {
            self.holder().repair.store(IN_ORDER, Relaxed);
            self.check(ruby).inspect_err(|_| self.unlock(mutex, &thread))?; // closed meanwhile, by another thread
        } else {
            self.release_held(mutex, &thread);
        }
        result.map(|_| true)
    }

    /// The same after a wait, with the lock taken again, which stays taken. `raised` is what already ended the wait; returns
    /// what has to be raised, and whether the lock is still held. `rest` runs before any Ruby code does.
    pub fn repair_after_wait(
        &self,
        ruby: &Ruby,
        object: Value,
        held: Held,
        raised: Option<Error>,
        rest: &mut dyn FnMut(),
    ) -> (Option<Error>, bool) {
        let Some(mutex) = self.shared.get() else { return (raised, true) };
        self.holder().repair.store(if held.in_repair { RUNNING } else { IN_ORDER }, Relaxed);
        let Some(on_abandoned) = self.on_abandoned().filter(|_| !held.in_repair && mutex.is_inconsistent())
        else {
            return (raised, true);
        };
        if raised.is_some() {
            self.holder().repair.store(DUE, Relaxed);
            return (raised, true);
        }
        rest();
        self.holder().repair.store(RUNNING, Relaxed);
        let error = interrupts::call(ruby, on_abandoned, "call", [object]).err();
        let is_held = thread::known().is_some_and(|thread| self.is_owned(mutex, &thread));
        if is_held {
            self.holder().repair.store(if error.is_some() { DUE } else { IN_ORDER }, Relaxed);
        }
        (error, is_held)
    }

    fn on_abandoned(&self) -> Option<Value> {
        let callable = self.on_abandoned.load(Relaxed);
        // SAFETY: not 0, so `set_on_abandoned` stored it, and it has been marked since.
        (callable != 0).then(|| unsafe { Value::from_raw(callable as VALUE) })
    }

    pub fn set_on_abandoned(&self, object: Value, callable: Value) {
        self.on_abandoned.store(callable.as_raw() as usize, Relaxed);
        // SAFETY: `object` now refers to `callable`, both alive.
        unsafe { rb_gc_writebarrier(object.as_raw(), callable.as_raw()) };
    }

    pub fn mark_on_abandoned(&self) {
        if let Some(callable) = self.on_abandoned() {
            // SAFETY: called by the collector.
            unsafe { rb_sys::rb_gc_mark(callable.as_raw()) };
        }
    }
}

/// Makes a shared holder forget its fiber and its thread. Called before the lock is released.
#[inline(always)]
fn forget(shared: Option<&Holder>) {
    if let Some(holder) = shared {
        holder.binding.fiber.store(0, Relaxed);
        holder.forget();
    }
}

/// Refuses what could not be called with the mutex: better now than at the first crash.
pub fn require_callable(ruby: &Ruby, callable: Value) -> Result<(), Error> {
    let refuse = |what: String| {
        let text = format!("on_abandoned: must respond to call and take the mutex, {what}");
        Err(Error::new(ruby.exception_type_error(), text))
    };
    if !callable.respond_to("call", false)? {
        return refuse(format!("an instance of {} does not respond to it", errors::class_name(callable)));
    }
    match arity(ruby, callable)? {
        Some(arity) if arity != 1 && !(-2..0).contains(&arity) => {
            let count = if arity < 0 { format!("at least {}", -arity - 1) } else { arity.to_string() };
            refuse(format!("this {} takes {count} arguments", errors::class_name(callable)))
        }
        _ => Ok(()),
    }
}

/// The arity of what is called; None where it takes any number of arguments, or does not tell.
fn arity(ruby: &Ruby, callable: Value) -> Result<Option<i64>, Error> {
    if callable.is_kind_of(ruby.class_proc()) {
        return Ok(if callable.funcall("lambda?", ())? {
            Some(callable.funcall("arity", ())?)
        } else {
            None
        });
    }
    let class: RClass = ruby.class_object().const_get("Method")?;
    if callable.is_kind_of(class) {
        return Ok(Some(callable.funcall("arity", ())?));
    }
    let call =
        errors::understood(ruby, callable.funcall::<_, _, Value>("method", (ruby.to_symbol("call"),)))?;
    call.map_or(Ok(None), |call| Ok(Some(call.funcall("arity", ())?)))
}
