//! `ProcessShared::Semaphore`: its methods, and its data, which `BinarySemaphore` shares.

use magnus::{RModule, Ruby, Value, method, prelude::*};
use process_shared_core::platform::fork_depth;
use process_shared_core::semaphore::{MAX, Overflow};
use process_shared_core::{Outcome, Semaphore, Thread};
use rb_sys::VALUE;
use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::errors::{self, Error};
use crate::object::{self, Object, Shared};
use crate::raw_methods::{Method0, define, require_block, slow};
use crate::synchronize::{self, Synchronize};
use crate::timeout::Timeout;
use crate::typed_data::{self, Data, of};
use crate::{data_type, fiber_scheduler, nogvl, path, thread, trap_context};

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
        match semaphore.waiters() {
            0 => format!("value {}", semaphore.value()),
            waiters => format!("value {}, {waiters} waiting", semaphore.value()),
        }
    }
}

impl Synchronize for SemaphoreData {
    type Begun = u32; // the fork depth

    #[inline(always)]
    fn begin(&self) -> u32 {
        fork_depth()
    }

    #[inline(always)]
    fn is_here(begun: u32) -> bool {
        begun == fork_depth()
    }

    #[inline(always)]
    fn end(&self, _: u32) -> bool {
        self.try_post()
    }

    unsafe fn end_slow(object: VALUE) -> VALUE {
        // SAFETY: a method's receiver; the caller's promise.
        unsafe { slow(object, method!(left_block, 0)) }
    }

    /// The permit is the parent's, which gives it back.
    fn end_in_child(&self, _: u32) -> bool {
        true
    }
}

/// The end of a block whose permit could not be given back at once.
fn left_block(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    of::<SemaphoreData>(object).give_back(ruby).map(|()| object)
}

impl SemaphoreData {
    fn is_binary(&self) -> bool {
        self.max.load(Relaxed) == 1
    }

    #[inline]
    pub fn try_wait(&self) -> bool {
        self.shared.usable().is_some_and(Semaphore::try_wait)
    }

    #[inline]
    pub fn try_post(&self) -> bool {
        let (Some(semaphore), Some(thread)) = (self.shared.usable(), thread::known()) else { return false };
        semaphore.post(&thread, self.max.load(Relaxed)).is_ok()
    }

    /// Takes a permit for `object`, waiting for it if need be: true, or false if `timeout` passed. `check` refuses once
    /// `object` has been closed, or the object `behind` it.
    pub fn acquire(
        &self,
        ruby: &Ruby,
        object: Value,
        behind: Option<Value>,
        timeout: Timeout,
        check: impl Fn() -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let semaphore = self.open(ruby)?;
        if semaphore.try_wait() {
            return Ok(true);
        }
        if timeout.has_passed() {
            return Ok(false);
        }
        if semaphore.wait_soon() {
            return Ok(true);
        }
        trap_context::refuse(ruby)?;
        if fiber_scheduler::is_non_blocking() {
            return fiber_scheduler::wait_until(ruby, object, timeout, || {
                check()?;
                Ok(semaphore.try_wait())
            });
        }
        let objects = [Some(object), behind];
        if self.is_binary() {
            return block_for_chance(ruby, semaphore, objects, timeout, check);
        }
        let give_back = |thread: &Thread| {
            let _ = semaphore.post(thread, MAX); // after 2**31 - 1 posts of others meanwhile, one is lost
        };
        let wait = |thread: &Thread| semaphore.wait(thread, timeout.deadline());
        let settle = |thread: &Thread, keep: bool| {
            if !keep {
                give_back(thread);
            }
            keep
        };
        let acquired = nogvl::block(ruby, objects, &check, wait, settle)?;
        if acquired {
            let thread = thread::current(ruby)?;
            check().inspect_err(|_| give_back(&thread))?;
        }
        Ok(acquired)
    }

    /// Waits until there may be a permit, without taking it; `objects` as in `nogvl::block`, `check` as in `acquire`.
    pub fn watch(
        &self,
        ruby: &Ruby,
        objects: [Option<Value>; 2],
        timeout: Value,
        check: impl Fn() -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let (semaphore, timeout) = (self.open(ruby)?, Timeout::parse(ruby, timeout)?);
        let wait = |thread: &Thread| semaphore.wait_until_available(thread, timeout.deadline());
        nogvl::block(ruby, objects, check, wait, nogvl::keep)
    }

    pub fn post(&self, ruby: &Ruby) -> Result<(), Error> {
        self.check(ruby)?;
        self.give_back(ruby)
    }

    /// `post`, also where this handle has been closed since the caller took a permit.
    pub fn give_back(&self, ruby: &Ruby) -> Result<(), Error> {
        let Some(semaphore) = self.shared.reached() else { return self.check(ruby) };
        let thread = thread::current(ruby)?;
        semaphore.post(&thread, self.max.load(Relaxed)).map_err(|Overflow| {
            if self.is_binary() {
                let text = "the binary semaphore is at 1 already: post without a wait";
                errors::ownership(ruby, text.to_owned())
            } else {
                errors::system(ruby, "semaphore is at its maximum", libc::EOVERFLOW)
            }
        })
    }
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
    let given = path::given(ruby, args, &[])?;
    ruby.check_arity(given.positional.len(), 0..=1)?;
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
    let open = |path: &Path, mode| Semaphore::in_file(path, mode, class, value, max);
    data.initialize(ruby, object, given.location.as_ref(), || Semaphore::new(value), open)?;
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
unsafe fn wait_inline(object: VALUE, data: &SemaphoreData) -> VALUE {
    // SAFETY: a method's receiver; the caller's promise.
    if data.try_wait() { object } else { unsafe { slow(object, method!(wait_slow, 0)) } }
}

fn wait_slow(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    let data = of::<SemaphoreData>(object);
    data.acquire(ruby, object, None, Timeout::Never, || data.check(ruby)).map(|_| object)
}

unsafe extern "C" fn post(object: VALUE) -> VALUE {
    // SAFETY: a method's receiver; nothing to drop in this frame.
    unsafe {
        let done = typed_data::get::<SemaphoreData>(object).try_post();
        if done { object } else { slow(object, method!(post_slow, 0)) }
    }
}

fn post_slow(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    of::<SemaphoreData>(object).post(ruby).map(|()| object)
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
    if data.acquire(ruby, object, None, timeout.unwrap_or(Timeout::Passed), || data.check(ruby))? {
        return Ok(object);
    }
    Err(match timeout {
        None => errors::system(ruby, "no permit is free", libc::EAGAIN),
        Some(_) => errors::system_in_words(ruby, "no permit came in time", libc::ETIMEDOUT),
    })
}

fn value(ruby: &Ruby, object: Value) -> Result<u32, Error> {
    of::<SemaphoreData>(object).open(ruby).map(Semaphore::value)
}

fn waiters(ruby: &Ruby, object: Value) -> Result<usize, Error> {
    of::<SemaphoreData>(object).open(ruby).map(Semaphore::waiters)
}

/// Waits until there may be a permit, without taking it. For the helper threads of `fiber_scheduler.rb`.
fn watch(ruby: &Ruby, object: Value, timeout: Value) -> Result<bool, Error> {
    let data = of::<SemaphoreData>(object);
    data.watch(ruby, [Some(object), None], timeout, || data.check(ruby))
}

pub fn init(ruby: &Ruby, module: RModule) -> Result<(), Error> {
    let class = object::define_class::<SemaphoreData>(module, "Semaphore", ruby.class_object())?;
    define(class, "wait", wait as Method0)?;
    define(class, "post", post as Method0)?;
    define(class, "synchronize", synchronize as Method0)?;
    class.define_method("initialize", method!(initialize, -1))?;
    class.define_method("try_wait", method!(try_wait, -1))?;
    class.define_method("value", method!(value, 0))?;
    class.define_method("waiters", method!(waiters, 0))?;
    Ok(class.define_private_method("watch", method!(watch, 1))?)
}
