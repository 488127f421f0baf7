//! `ProcessShared::Semaphore`: its methods, and its data, which `BinarySemaphore` shares.

use magnus::{RModule, Ruby, Value, method, prelude::*};
use process_shared_core::platform::fork_depth;
use process_shared_core::semaphore::MAX;
use process_shared_core::{Outcome, Semaphore, SemaphoreArrival, SemaphoreKind, SemaphoreRefusal, Thread};
use rb_sys::VALUE;
use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::errors::{self, Error};
use crate::object::{self, Object, Shared};
use crate::raw_methods::{Method0, answer_with, define, require_block, ruby, slow, value};
use crate::synchronize::{self, Synchronize};
use crate::timeout::Timeout;
use crate::typed_data::{self, Data, of};
use crate::{data_type, fiber_scheduler, interrupts, nogvl, path, permits, thread, trap_context};

#[derive(Default)]
pub struct SemaphoreData {
    pub shared: Shared<Semaphore>,
    /// The most permits it may have: 1 for a BinarySemaphore.
    max: AtomicU32,
}

impl Data for SemaphoreData {
    data_type!(SemaphoreData, c"ProcessShared::Semaphore");

    fn extra_size(&self) -> usize {
        process_shared_core::arena::SLOT
    }
}

impl Object for SemaphoreData {
    type Core = Semaphore;
    const TAKES_PATH: bool = true;

    fn shared(&self) -> &Shared<Semaphore> {
        &self.shared
    }

    fn class_name(&self) -> &'static str {
        if self.is_binary() { "ProcessShared::BinarySemaphore" } else { "ProcessShared::Semaphore" }
    }

    fn describe(&self, semaphore: &Semaphore) -> String {
        let robust = if semaphore.is_robust() { "robust, " } else { "" };
        match semaphore.waiters() {
            0 => format!("{robust}value {}", semaphore.value()),
            waiters => format!("{robust}value {}, {waiters} waiting", semaphore.value()),
        }
    }
}

impl Synchronize for SemaphoreData {
    type Begun = Taken;

    #[inline(always)]
    fn begin(&self) -> Taken {
        Taken { depth: fork_depth(), count: 1 }
    }

    #[inline(always)]
    fn is_here(begun: Taken) -> bool {
        begun.depth == fork_depth()
    }

    #[inline(always)]
    fn end(&self, begun: Taken) -> bool {
        begun.count == 1 && self.try_post()
    }

    unsafe fn end_slow(object: VALUE, begun: Taken) -> VALUE {
        let give_back = || of::<SemaphoreData>(value(object)).give_back(&ruby(), begun.count);
        answer_with(object, give_back)
    }

    /// The permits are the parent's, which gives them back.
    fn end_in_child(&self, _: Taken) -> bool {
        true
    }
}

/// What was taken for a block.
#[derive(Clone, Copy)]
pub struct Taken {
    pub depth: u32,
    pub count: u32,
}

impl SemaphoreData {
    pub fn is_binary(&self) -> bool {
        self.max() == 1
    }

    /// The most permits it may have.
    #[inline]
    pub fn max(&self) -> u32 {
        self.max.load(Relaxed)
    }

    #[inline]
    pub fn try_wait(&self) -> bool {
        self.shared.usable().is_some_and(Semaphore::try_wait)
    }

    #[inline]
    pub fn try_post(&self) -> bool {
        let Some(semaphore) = self.shared.usable() else { return false };
        semaphore.try_post(self.max())
            || thread::known().is_some_and(|thread| semaphore.post_many(&thread, 1, self.max()).is_ok())
    }

    /// Takes `count` permits for `object`, waiting for them if need be: true, or false if `timeout` passed. `check` refuses
    /// once `object` has been closed, or the object `behind` it.
    pub fn acquire(
        &self,
        ruby: &Ruby,
        count: u32,
        object: Value,
        behind: Option<Value>,
        timeout: Timeout,
        check: impl Fn() -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let semaphore = self.open(ruby)?;
        prepare(ruby, semaphore)?;
        let try_acquire = || self.try_acquire(ruby, semaphore, count);
        // Before each try: a signal handler may have forked, and the child is not prepared.
        let check = || {
            check()?;
            prepare(ruby, semaphore)
        };
        if try_acquire()? {
            return Ok(true);
        }
        if timeout.has_passed() {
            return Ok(false);
        }
        if semaphore.acquire_soon(&thread::current(ruby)?, count) {
            return Ok(true);
        }
        trap_context::refuse(ruby)?;
        if fiber_scheduler::is_non_blocking() {
            let has_waited = Cell::new(false);
            let attempt = || {
                check()?;
                match has_waited.replace(true) {
                    false => try_acquire(),
                    true => {
                        self.patiently(ruby, count, |thread| semaphore.try_acquire_in_turn(thread, count))
                    }
                }
            };
            return match count {
                1 => fiber_scheduler::wait_until(ruby, object, timeout, attempt),
                _ => fiber_scheduler::wait_until_many(ruby, object, count, timeout, attempt),
            };
        }
        let objects = [Some(object), behind];
        if self.is_binary() {
            return block_for_chance(ruby, semaphore, objects, timeout, check);
        }
        let give_back = |thread: &Thread| {
            let _ = semaphore.post_many(thread, count, MAX); // after 2**31 - 1 posts of others meanwhile, some are lost
        };
        let (refused, arrival) = (Cell::new(None), SemaphoreArrival::default());
        let wait = |thread: &Thread| {
            semaphore.acquire_since(thread, &arrival, count, timeout.deadline()).unwrap_or_else(|refusal| {
                refused.set(Some(refusal));
                Outcome::TimedOut
            })
        };
        let settle = |thread: &Thread, keep: bool| {
            if !keep {
                give_back(thread);
            }
            keep
        };
        let acquired = nogvl::block(ruby, objects, &check, wait, settle)?;
        if let Some(refusal) = refused.take() {
            return Err(self.refused(ruby, refusal, count));
        }
        if acquired {
            let thread = thread::current(ruby)?;
            check().inspect_err(|_| give_back(&thread))?;
        }
        Ok(acquired)
    }

    /// Waits until there may be `count` permits, without taking them; `objects` as in `nogvl::block`, `check` as in
    /// `acquire`.
    pub fn watch(
        &self,
        ruby: &Ruby,
        count: u32,
        objects: [Option<Value>; 2],
        timeout: Value,
        check: impl Fn() -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let (semaphore, timeout) = (self.open(ruby)?, Timeout::parse(ruby, timeout)?);
        let wait = |thread: &Thread| semaphore.wait_until_available(thread, count, timeout.deadline());
        nogvl::block(ruby, objects, check, wait, nogvl::keep)
    }

    pub fn post(&self, ruby: &Ruby, count: u32) -> Result<(), Error> {
        self.check(ruby)?;
        self.give_back(ruby, count)
    }

    /// `post`, also where this handle has been closed since the caller took the permits.
    pub fn give_back(&self, ruby: &Ruby, count: u32) -> Result<(), Error> {
        let Some(semaphore) = self.shared.reached() else { return self.check(ruby) };
        let thread = thread::current(ruby)?;
        let mut given = semaphore.post_many(&thread, count, self.max());
        if given == Err(SemaphoreRefusal::Busy) {
            let give = |thread: &Thread| {
                given = semaphore.post_many(thread, count, self.max());
                if given == Err(SemaphoreRefusal::Busy) { Outcome::Interrupted } else { Outcome::Acquired }
            };
            if let Some(error) = nogvl::block_through(ruby, give, &mut || {}) {
                return Err(error);
            }
        }
        given.map_err(|refusal| self.refused(ruby, refusal, count))
    }

    /// Takes `count` permits if it can be done at once.
    fn try_acquire(&self, ruby: &Ruby, semaphore: &Semaphore, count: u32) -> Result<bool, Error> {
        self.patiently(ruby, count, |thread| semaphore.try_acquire(thread, count))
    }

    /// What `call` answers, which is about `count` permits. A thread that is in the middle of the same for longer than it
    /// should be, because it does not run, is waited for without the GVL.
    pub fn patiently<T>(
        &self,
        ruby: &Ruby,
        count: u32,
        call: impl Fn(&Thread) -> Result<T, SemaphoreRefusal>,
    ) -> Result<T, Error> {
        let mut answer = call(&thread::current(ruby)?);
        while matches!(answer, Err(SemaphoreRefusal::Busy)) {
            interrupts::check(ruby)?;
            prepare(ruby, self.open(ruby)?)?; // a signal handler may have forked
            let thread = thread::current(ruby)?;
            answer = nogvl::without_gvl(|| call(&thread)).unwrap_or(Err(SemaphoreRefusal::Busy));
        }
        answer.map_err(|refusal| self.refused(ruby, refusal, count))
    }

    /// The exception for a call with `count` permits that has changed nothing.
    pub fn refused(&self, ruby: &Ruby, refusal: SemaphoreRefusal, count: u32) -> Error {
        let text = match refusal {
            SemaphoreRefusal::Overflow if self.is_binary() => {
                "the binary semaphore is at 1 already: post without a wait".to_owned()
            }
            SemaphoreRefusal::Overflow => {
                return errors::system(ruby, "semaphore is at its maximum", libc::EOVERFLOW);
            }
            SemaphoreRefusal::NotHeld(held) => {
                format!("process {} holds {held} permits, and cannot give back {count}", std::process::id())
            }
            SemaphoreRefusal::Busy => {
                "a process that does not run is in the middle of a call of this semaphore".to_owned()
            }
            SemaphoreRefusal::Full => "there is no room for more processes that hold permits".to_owned(),
        };
        errors::ownership(ruby, text)
    }
}

/// Sees to it that this process can hold permits.
pub fn prepare(ruby: &Ruby, semaphore: &Semaphore) -> Result<(), Error> {
    semaphore.prepare().map_err(|error| errors::to_ruby(ruby, error))
}

/// Waits for a permit of a binary semaphore. A permit that was taken too early could not be given back: somebody may have
/// posted meanwhile, which is only allowed at 0. So the waiter takes it when it has the GVL, and no interrupt is due.
fn block_for_chance(
    ruby: &Ruby,
    semaphore: &Semaphore,
    objects: [Option<Value>; 2],
    timeout: Timeout,
    check: impl Fn() -> Result<(), Error>,
) -> Result<bool, Error> {
    let chance = Cell::new(None);
    let wait = |thread: &Thread| match semaphore.wait_for_chance(thread, timeout.deadline()) {
        Ok(there) => {
            chance.set(Some(there));
            Outcome::Acquired
        }
        Err(outcome) => outcome,
    };
    let settle = |thread: &Thread, keep: bool| {
        chance.take().is_some_and(|chance| semaphore.settle_chance(thread, chance, keep && check().is_ok()))
    };
    nogvl::block(ruby, objects, &check, wait, settle)
}

/// `new(value = 1)` with at most `max` permits.
pub fn initialize_with(
    ruby: &Ruby,
    object: Value,
    args: &[Value],
    class: &'static str,
    max: u32,
) -> Result<(), Error> {
    let data = of::<SemaphoreData>(object);
    let given = path::given(ruby, args, if max > 1 { &["robust"] } else { &[] })?;
    ruby.check_arity(given.positional.len(), 0..=1)?;
    let is_robust = given.extra[0].is_some_and(|robust| robust.to_bool());
    let value = match given.positional.first() {
        None => 1,
        Some(value) => {
            let integer = magnus::Integer::try_convert(*value)?;
            let value = integer.to_u32().ok().filter(|value| *value <= max);
            value.ok_or_else(|| {
                let text = format!("a semaphore's value is from 0 to {max}, not {integer}");
                Error::new(ruby.exception_arg_error(), text)
            })?
        }
    };
    let kind = match is_robust {
        true => SemaphoreKind::Robust { limit: value },
        false => SemaphoreKind::Plain { value, max },
    };
    let open = |path: &Path, mode| Semaphore::in_file(path, mode, class, kind);
    data.initialize(ruby, object, given.location.as_ref(), || Semaphore::of_kind(kind), open)?;
    data.max.store(max, Relaxed);
    Ok(())
}

fn initialize(ruby: &Ruby, object: Value, args: &[Value]) -> Result<(), Error> {
    initialize_with(ruby, object, args, "Semaphore", MAX)
}

unsafe extern "C" fn wait(object: VALUE) -> VALUE {
    // SAFETY: a method's receiver; nothing to drop in this frame.
    unsafe { wait_inline(object, typed_data::get(object)) }
}

/// # Safety
/// `data` is that of `object`; no frame between here and Ruby has anything to drop.
#[inline(always)]
pub unsafe fn wait_inline(object: VALUE, data: &SemaphoreData) -> VALUE {
    // SAFETY: a method's receiver; the caller's promise.
    if data.try_wait() { object } else { unsafe { slow(object, method!(wait_slow, 0)) } }
}

fn wait_slow(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    let data = of::<SemaphoreData>(object);
    data.acquire(ruby, 1, object, None, Timeout::Never, || data.check(ruby)).map(|_| object)
}

unsafe extern "C" fn post(object: VALUE) -> VALUE {
    // SAFETY: a method's receiver; nothing to drop in this frame.
    unsafe {
        let done = typed_data::get::<SemaphoreData>(object).try_post();
        if done { object } else { slow(object, method!(post_slow, 0)) }
    }
}

fn post_slow(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    of::<SemaphoreData>(object).post(ruby, 1).map(|()| object)
}

unsafe extern "C" fn synchronize(object: VALUE) -> VALUE {
    // SAFETY: called by Ruby as a method; nothing to drop in this frame, over which exceptions jump.
    unsafe {
        require_block();
        let data = typed_data::get::<SemaphoreData>(object);
        wait_inline(object, data);
        synchronize::run(object, data, data.begin())
    }
}

fn try_wait(ruby: &Ruby, object: Value, args: &[Value]) -> Result<Value, Error> {
    let data = of::<SemaphoreData>(object);
    let timeout = Timeout::of_try(ruby, args)?;
    if data.acquire(ruby, 1, object, None, timeout.unwrap_or(Timeout::Passed), || data.check(ruby))? {
        return Ok(object);
    }
    Err(match timeout {
        None => errors::system(ruby, "no permit is free", libc::EAGAIN),
        Some(_) => errors::system_in_words(ruby, "no permit came in time", libc::ETIMEDOUT),
    })
}

fn free(ruby: &Ruby, object: Value) -> Result<i64, Error> {
    of::<SemaphoreData>(object).open(ruby).map(Semaphore::value)
}

fn waiters(ruby: &Ruby, object: Value) -> Result<usize, Error> {
    of::<SemaphoreData>(object).open(ruby).map(Semaphore::waiters)
}

/// Waits until there may be a permit, or several, without taking them. For the helper threads of `fiber_scheduler.rb`.
fn watch(ruby: &Ruby, object: Value, args: &[Value]) -> Result<bool, Error> {
    ruby.check_arity(args.len(), 1..=2)?;
    let data = of::<SemaphoreData>(object);
    let count = args.get(1).map_or(Ok(1), |count| u32::try_convert(*count))?;
    data.watch(ruby, count, [Some(object), None], args[0], || data.check(ruby))
}

pub fn init(ruby: &Ruby, module: RModule) -> Result<(), Error> {
    let class = object::define_class::<SemaphoreData>(module, "Semaphore", ruby.class_object())?;
    define(class, "wait", wait as Method0)?;
    define(class, "post", post as Method0)?;
    define(class, "synchronize", synchronize as Method0)?;
    class.define_method("initialize", method!(initialize, -1))?;
    class.define_method("try_wait", method!(try_wait, -1))?;
    class.define_method("value", method!(free, 0))?;
    class.define_method("waiters", method!(waiters, 0))?;
    permits::init(class)?;
    Ok(class.define_private_method("watch", method!(watch, -1))?)
}
