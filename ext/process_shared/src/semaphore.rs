//! `ProcessShared::Semaphore` and `BinarySemaphore`.

use magnus::scan_args::scan_args;
use magnus::{RClass, RModule, Ruby, Value, method, prelude::*, rb_sys::AsRawValue};
use process_shared_core::semaphore::{MAX, Overflow};
use process_shared_core::{Error as CoreError, Semaphore, Thread};
use rb_sys::VALUE;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use crate::bind::slowly;
use crate::data::{self, Data, DataType};
use crate::errors::Error;
use crate::mutex::{bind, define};
use crate::section::yield_and;
use crate::timeout::Timeout;
use crate::{errors, nogvl, scheduled, thread, waiting};

#[derive(Default)]
pub struct SemaphoreData {
    semaphore: OnceLock<Semaphore>,
    /// The most permits it may have: 1 for a BinarySemaphore.
    max: AtomicU32,
    closed: AtomicBool,
}

impl Data for SemaphoreData {
    const TYPE: &'static DataType = {
        static TYPE: DataType = DataType::of::<SemaphoreData>(c"ProcessShared::Semaphore");
        &TYPE
    };

    fn extra_size(&self) -> usize {
        process_shared_core::arena::SLOT
    }
}

const NAME: &str = "ProcessShared::Semaphore";

impl SemaphoreData {
    pub fn open(&self, ruby: &Ruby) -> Result<&Semaphore, Error> {
        let reached = || self.semaphore.get().map(Semaphore::is_accessible);
        self.usable().ok_or_else(|| errors::unusable(ruby, self.class_name(), reached()))
    }

    fn class_name(&self) -> &'static str {
        if self.max.load(Relaxed) == 1 { "ProcessShared::BinarySemaphore" } else { NAME }
    }

    #[inline]
    pub fn usable(&self) -> Option<&Semaphore> {
        self.reached().filter(|_| !self.closed.load(Relaxed))
    }

    /// The semaphore, for who gives back: this handle may have been closed meanwhile.
    #[inline]
    pub fn reached(&self) -> Option<&Semaphore> {
        self.semaphore.get().filter(|semaphore| semaphore.is_accessible())
    }

    #[inline]
    pub fn try_wait(&self) -> bool {
        self.usable().is_some_and(Semaphore::try_wait)
    }

    #[inline]
    pub fn try_post(&self) -> bool {
        let (Some(semaphore), Some(thread)) = (self.usable(), thread::known()) else { return false };
        semaphore.post(&thread, self.max.load(Relaxed)).is_ok()
    }

    /// Refuses a handle that cannot be used.
    pub fn check(&self, ruby: &Ruby) -> Result<(), Error> {
        self.open(ruby).map(|_| ())
    }

    /// Takes a permit for `object`, waiting for it if need be: true, or false if `timeout` passed. `check` tells when
    /// it is too late: when `object` has been closed, or another one `behind` it.
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
        nogvl::refuse_in_trap(ruby)?;
        let give_back = |thread: &Thread| {
            let _ = semaphore.post(thread, self.max.load(Relaxed)); // at its most, somebody else has
        };
        let acquired = if scheduled::is_non_blocking() {
            scheduled::wait_until(ruby, object, timeout, || Ok(semaphore.try_wait()))?
        } else {
            let wait = |thread: &Thread| semaphore.wait(thread, timeout.deadline());
            nogvl::block(ruby, [Some(object), behind], &check, wait, give_back)?
        };
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
        let wait = |thread: &Thread| semaphore.watch(thread, timeout.deadline());
        nogvl::block(ruby, objects, check, wait, |_| {})
    }

    pub fn post(&self, ruby: &Ruby) -> Result<(), Error> {
        self.open(ruby)?;
        self.give_back(ruby)
    }

    /// `post`, also where this handle has been closed since the caller took a permit.
    pub fn give_back(&self, ruby: &Ruby) -> Result<(), Error> {
        let Some(semaphore) = self.reached() else { return self.open(ruby).map(|_| ()) };
        let (thread, max) = (thread::current(ruby)?, self.max.load(Relaxed));
        semaphore.post(&thread, max).map_err(|Overflow| {
            if max == 1 {
                errors::ownership(
                    ruby,
                    "the binary semaphore is at 1 already: post without a wait".to_owned(),
                )
            } else {
                let error =
                    CoreError::System { attempt: "semaphore is at its maximum", errno: libc::EOVERFLOW };
                errors::to_ruby(ruby, error)
            }
        })
    }
}

/// `object`'s data. For functions bound with `method!`, which have nothing to drop yet.
pub fn of<'a>(object: Value) -> &'a SemaphoreData {
    // SAFETY: called first thing in a method, whose receiver stays alive while it runs.
    unsafe { data::get(object.as_raw()) }
}

/// `new(value = 1)` with at most `max` permits.
fn start(ruby: &Ruby, object: Value, args: &[Value], max: u32) -> Result<(), Error> {
    let data = of(object);
    let value = scan_args::<(), (Option<Value>,), (), (), (), ()>(args)?.optional.0;
    let value = match value {
        None => 1,
        Some(value) => {
            let integer = magnus::Integer::try_convert(value)?;
            let value = integer.to_u32().ok().filter(|value| *value <= max);
            value.ok_or_else(|| {
                let text = format!("a semaphore's value is from 0 to {max}, not {integer}");
                Error::new(ruby.exception_arg_error(), text)
            })?
        }
    };
    let semaphore = Semaphore::new(value).map_err(|error| errors::to_ruby(ruby, error))?;
    data.semaphore.set(semaphore).map_err(|_| errors::already_initialized(ruby, NAME))?;
    data.max.store(max, Relaxed);
    Ok(())
}

fn initialize(ruby: &Ruby, object: Value, args: &[Value]) -> Result<(), Error> {
    start(ruby, object, args, MAX)
}

fn initialize_binary(ruby: &Ruby, object: Value, args: &[Value]) -> Result<(), Error> {
    start(ruby, object, args, 1)
}

unsafe extern "C" fn wait_quickly(object: VALUE) -> VALUE {
    // SAFETY: a method's receiver; nothing to drop in this frame.
    unsafe {
        let done = data::get::<SemaphoreData>(object).try_wait();
        if done { object } else { slowly(object, method!(wait, 0)) }
    }
}

fn wait(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    let data = of(object);
    data.acquire(ruby, object, None, Timeout::Never, || data.check(ruby)).map(|_| object)
}

unsafe extern "C" fn post_quickly(object: VALUE) -> VALUE {
    // SAFETY: a method's receiver; nothing to drop in this frame.
    unsafe {
        let done = data::get::<SemaphoreData>(object).try_post();
        if done { object } else { slowly(object, method!(post, 0)) }
    }
}

fn post(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    of(object).post(ruby).map(|()| object)
}

/// The end of a block that took a permit.
unsafe extern "C" fn leave_quickly(object: VALUE) -> VALUE {
    // SAFETY: a method's receiver; nothing to drop in this frame.
    unsafe {
        let done = data::get::<SemaphoreData>(object).try_post();
        if done { object } else { slowly(object, method!(leave, 0)) }
    }
}

fn leave(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    of(object).give_back(ruby).map(|()| object)
}

unsafe extern "C" fn synchronize(object: VALUE) -> VALUE {
    // SAFETY: called by Ruby as a method; nothing to drop in this frame, over which exceptions jump.
    unsafe {
        if rb_sys::rb_block_given_p() == 0 {
            rb_sys::rb_raise(rb_sys::rb_eThreadError, c"must be called with a block".as_ptr());
        }
        wait_quickly(object);
        yield_and(leave_quickly, object)
    }
}

fn try_wait(ruby: &Ruby, object: Value, args: &[Value]) -> Result<Value, Error> {
    let data = of(object);
    let timeout = scan_args::<(), (Option<Value>,), (), (), (), ()>(args)?.optional.0;
    let timeout = timeout.filter(|timeout| !timeout.is_nil());
    let (limit, errno, what) = match timeout {
        None => (Timeout::Passed, libc::EAGAIN, "no permit is free"),
        Some(seconds) => (Timeout::parse_try(ruby, seconds)?, libc::ETIMEDOUT, "no permit came in time"),
    };
    if data.acquire(ruby, object, None, limit, || data.check(ruby))? {
        return Ok(object);
    }
    Err(errors::system(ruby, what, errno))
}

fn value(ruby: &Ruby, object: Value) -> Result<u32, Error> {
    of(object).open(ruby).map(Semaphore::value)
}

fn waiters(ruby: &Ruby, object: Value) -> Result<usize, Error> {
    of(object).open(ruby).map(Semaphore::waiters)
}

/// For the helper threads of `scheduled`.
fn watch(ruby: &Ruby, object: Value, timeout: Value) -> Result<bool, Error> {
    let data = of(object);
    data.watch(ruby, [Some(object), None], timeout, || data.check(ruby))
}

fn close(ruby: &Ruby, object: Value) -> Result<(), Error> {
    let data = of(object);
    data.semaphore.get().ok_or_else(|| errors::not_initialized(ruby, NAME))?;
    data.closed.store(true, Relaxed);
    waiting::rouse(object);
    Ok(())
}

fn is_closed(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    let data = of(object);
    data.semaphore.get().ok_or_else(|| errors::not_initialized(ruby, NAME))?;
    Ok(data.closed.load(Relaxed))
}

fn inspect(object: Value) -> String {
    let data = of(object);
    let state = match (data.semaphore.get(), data.usable()) {
        (None, _) => "not initialized".to_owned(),
        (Some(_), None) => "closed".to_owned(),
        (_, Some(semaphore)) => match semaphore.waiters() {
            0 => format!("value {}", semaphore.value()),
            waiters => format!("value {}, {waiters} waiting", semaphore.value()),
        },
    };
    format!("#<{} {state}>", errors::class_name(object))
}

pub fn init(ruby: &Ruby, module: RModule) -> Result<(), Error> {
    let class: RClass = define::<SemaphoreData>(module, "Semaphore", ruby.class_object())?;
    // SAFETY: all of them take the receiver alone.
    unsafe {
        bind(class, c"wait", wait_quickly as *const (), 0);
        bind(class, c"post", post_quickly as *const (), 0);
        bind(class, c"synchronize", synchronize as *const (), 0);
    }
    class.define_method("initialize", method!(initialize, -1))?;
    class.define_method("try_wait", method!(try_wait, -1))?;
    class.define_method("value", method!(value, 0))?;
    class.define_method("waiters", method!(waiters, 0))?;
    class.define_method("close", method!(close, 0))?;
    class.define_method("closed?", method!(is_closed, 0))?;
    class.define_method("inspect", method!(inspect, 0))?;
    class.define_method("to_s", method!(inspect, 0))?;
    class.define_private_method("watch", method!(watch, 1))?;
    let binary = define::<SemaphoreData>(module, "BinarySemaphore", class)?;
    Ok(binary.define_method("initialize", method!(initialize_binary, -1))?)
}
