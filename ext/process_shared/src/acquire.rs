//! Taking the lock of a Mutex or Monitor: at once, by waiting, and again after a wait for a condition.

use magnus::{Ruby, Value, rb_sys::AsRawValue};
use process_shared_core::{Mutex, Outcome, Thread};
use rb_sys::VALUE;
use std::cell::Cell;
use std::sync::atomic::Ordering::Relaxed;

use crate::errors::{self, Error};
use crate::lock::Held;
use crate::mutex::MutexData;
use crate::object::Object;
use crate::timeout::Timeout;
use crate::{fiber_scheduler, nogvl, thread, trap_context};

/// How an attempt to take the lock at once went.
#[derive(Clone, Copy)]
pub enum Taken {
    No,
    /// By this fiber of this thread.
    Yes(usize, Thread),
    Abandoned,
}

/// What waiting for the lock came to.
enum Awaited {
    Nothing,
    Lock,
    /// One level more of a Monitor that a signal handler entered meanwhile, and did not leave.
    Level,
}

/// Takes the lock by `attempt`. A thread that holds too many may hold some only because they are garbage.
fn try_at_once(
    ruby: &Ruby,
    mutex: &Mutex,
    thread: &Thread,
    attempt: fn(&Mutex, &Thread) -> process_shared_core::Result<bool>,
) -> Result<bool, Error> {
    attempt(mutex, thread)
        .or_else(|_| {
            ruby.gc_start();
            attempt(mutex, thread)
        })
        .map_err(|error| errors::to_ruby(ruby, error))
}

/// Undoes a `lock` that nobody has heard of yet.
fn give_back(mutex: &Mutex, thread: &Thread) {
    if mutex.is_inconsistent() { mutex.release_as_dead(thread) } else { mutex.unlock(thread) }
}

impl MutexData {
    /// Fast path: takes a free lock on a thread that is known; never raises.
    #[inline(always)]
    pub fn take(&self, object: VALUE) -> Taken {
        let Some(mutex) = self.shared.usable() else { return Taken::No };
        let Some(thread) = thread::known() else { return Taken::No };
        if !mutex.try_lock_at_once(&thread) {
            return Taken::No;
        }
        let fiber = self.own_as(object, Some(thread));
        if mutex.is_inconsistent() { Taken::Abandoned } else { Taken::Yes(fiber, thread) }
    }

    /// Takes the lock, waiting for it if need be: true, or false if `timeout` passed.
    pub fn acquire(&self, ruby: &Ruby, object: Value, timeout: Timeout) -> Result<bool, Error> {
        loop {
            match self.await_lock(ruby, object, timeout)? {
                Awaited::Nothing => return Ok(false),
                Awaited::Lock => {
                    self.own(object.as_raw());
                }
                Awaited::Level => {
                    self.holder().levels.store(self.holder().levels.load(Relaxed) + 1, Relaxed);
                    return Ok(true);
                }
            }
            if self.repair(ruby, object)? {
                return Ok(true);
            }
        }
    }

    /// Takes the lock within `timeout`; false at once if the calling fiber has it.
    pub fn try_acquire(&self, ruby: &Ruby, object: Value, timeout: Timeout) -> Result<bool, Error> {
        let thread = thread::current(ruby)?;
        let mutex = loop {
            let mutex = self.open(ruby)?; // which `on_abandoned` may have closed
            if !try_at_once(ruby, mutex, &thread, Mutex::try_lock_or_reap)? {
                break mutex;
            }
            self.own(object.as_raw());
            if self.repair(ruby, object)? {
                return Ok(true);
            }
        };
        let never = mutex.is_held_by(&thread)
            && (self.is_owned(mutex, &thread) || !fiber_scheduler::is_non_blocking());
        if never || timeout.has_passed() {
            return Ok(false);
        }
        // A lock that a signal handler took meanwhile, and kept, was not to be had either.
        self.acquire(ruby, object, timeout).or_else(|error| {
            let held = thread::known().is_some_and(|thread| mutex.is_held_by(&thread));
            if held && error.is_kind_of(ruby.get_inner(&errors::PROCESS_ERROR)) {
                Ok(false)
            } else {
                Err(error)
            }
        })
    }

    fn await_lock(&self, ruby: &Ruby, object: Value, timeout: Timeout) -> Result<Awaited, Error> {
        let (mutex, thread) = (self.open(ruby)?, thread::current(ruby)?);
        if try_at_once(ruby, mutex, &thread, Mutex::try_lock)? {
            return Ok(Awaited::Lock);
        }
        self.refuse_own(ruby, mutex)?;
        if mutex.try_lock_soon(&thread) {
            return Ok(Awaited::Lock);
        }
        trap_context::refuse(ruby)?;
        // A signal handler may take the lock for the fiber that it runs in.
        let taken = Cell::new(false);
        let refuse_own = || {
            let owns = |thread: Thread| self.is_owned(mutex, &thread);
            self.refuse_own(ruby, mutex).inspect_err(|_| taken.set(thread::known().is_some_and(owns)))
        };
        let acquired = if fiber_scheduler::is_non_blocking() {
            fiber_scheduler::wait_until(ruby, object, timeout, || {
                refuse_own()?;
                try_at_once(ruby, mutex, &thread::current(ruby)?, Mutex::try_lock_or_reap)
            })
        } else {
            let check = || self.check(ruby).and_then(|()| refuse_own());
            let wait = |thread: &Thread| mutex.lock(thread, timeout.deadline());
            let settle = |thread: &Thread, keep: bool| {
                if !keep {
                    give_back(mutex, thread);
                }
                keep
            };
            nogvl::block(ruby, [Some(object), None], check, wait, settle)
        };
        if taken.get() && self.is_monitor() {
            return Ok(Awaited::Level);
        }
        if !acquired? {
            return Ok(Awaited::Nothing);
        }
        let thread = thread::current(ruby)?;
        self.check(ruby).inspect_err(|_| give_back(mutex, &thread))?;
        Ok(Awaited::Lock)
    }

    /// Refuses to wait for oneself.
    fn refuse_own(&self, ruby: &Ruby, mutex: &Mutex) -> Result<(), Error> {
        let thread = thread::current(ruby)?;
        if !mutex.is_held_by(&thread) {
            return Ok(());
        }
        let text = if self.is_owned(mutex, &thread) {
            "deadlock; recursive locking"
        } else if fiber_scheduler::is_non_blocking() {
            return Ok(());
        } else {
            "deadlock; lock already owned by another fiber belonging to the same thread"
        };
        Err(errors::ownership(ruby, text.to_owned()))
    }

    /// Takes the lock again after `release_held`: see `Lock::retake`. An exception that `on_abandoned` raises is returned
    /// too. Only a thread that cannot hold locks at all comes back without the lock, always with an exception.
    pub fn retake(
        &self,
        ruby: &Ruby,
        object: Value,
        held: Held,
        mut raised: Option<Error>,
        rest: &mut dyn FnMut(),
    ) -> Option<Error> {
        loop {
            raised = match self.take_again(ruby, object, raised, rest) {
                Ok(raised) => raised,
                Err(error) => return Some(error),
            };
            self.own_levels(object, held.levels);
            let (error, is_held) = self.repair_after_wait(ruby, object, held, raised, rest);
            if is_held {
                return error;
            }
            raised = error;
        }
    }

    /// Takes the lock whatever happens. Returns what to raise with the lock held, or fails without it.
    fn take_again(
        &self,
        ruby: &Ruby,
        object: Value,
        raised: Option<Error>,
        rest: &mut dyn FnMut(),
    ) -> Result<Option<Error>, Error> {
        let Some(mutex) = self.shared.get() else { return Ok(raised) };
        let thread = match thread::current(ruby) {
            Ok(thread) => thread,
            Err(error) => return Err(raised.unwrap_or(error)),
        };
        if matches!(mutex.try_lock(&thread), Ok(true)) || mutex.try_lock_soon(&thread) {
            return Ok(raised);
        }
        // A signal handler may have taken it, and not given it back: then it is this fiber's, as it was before.
        let raised = if fiber_scheduler::is_non_blocking() {
            rest();
            let attempt = |thread: &Thread| {
                self.is_owned(mutex, thread) || matches!(mutex.try_lock_or_reap(thread), Ok(true))
            };
            fiber_scheduler::wait_through(ruby, object, attempt).or(raised)
        } else {
            let wait = |thread: &Thread| match mutex.is_held_by(thread) {
                true => Outcome::Acquired,
                false => mutex.lock(thread, None),
            };
            nogvl::block_through(ruby, wait, rest).or(raised)
        };
        if thread::known().is_some_and(|thread| mutex.is_held_by(&thread)) {
            return Ok(raised);
        }
        let lost = || errors::ownership(ruby, "the lock could not be taken again after the wait".to_owned());
        Err(raised.unwrap_or_else(lost))
    }
}
