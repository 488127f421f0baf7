//! `ProcessShared::SemaphoreMutex`, what `Semaphore#to_mtx` gives: a lock over a semaphore, with no owner and so no
//! checks. Whoever likes may unlock it.

use magnus::scan_args::scan_args;
use magnus::{RModule, Ruby, Value, method, prelude::*, rb_sys::AsRawValue, rb_sys::FromRawValue};
use rb_sys::{VALUE, rb_gc_writebarrier};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use crate::bind::slowly;
use crate::data::{self, Data, DataType};
use crate::errors::Error;
use crate::mutex::{bind, define};
use crate::section::yield_and;
use crate::semaphore::{self, SemaphoreData};
use crate::timeout::Timeout;
use crate::waiting;
use crate::{errors, nogvl, scheduled};

#[derive(Default)]
pub struct SemaphoreMutexData {
    /// The Semaphore, or 0.
    semaphore: AtomicUsize,
    closed: AtomicBool,
}

impl Data for SemaphoreMutexData {
    const TYPE: &'static DataType = {
        static TYPE: DataType = DataType::of::<SemaphoreMutexData>(c"ProcessShared::SemaphoreMutex");
        &TYPE
    };

    fn mark(&self) {
        let semaphore = self.semaphore.load(Relaxed);
        if semaphore != 0 {
            // SAFETY: called by the collector; `initialize` stored a living object.
            unsafe { rb_sys::rb_gc_mark(semaphore as VALUE) };
        }
    }
}

const NAME: &str = "ProcessShared::SemaphoreMutex";

impl SemaphoreMutexData {
    #[inline]
    fn semaphore(&self) -> Option<&SemaphoreData> {
        let semaphore = self.semaphore.load(Relaxed);
        // SAFETY: not 0, so `initialize` stored a Semaphore there, which this object keeps alive.
        (semaphore != 0).then(|| unsafe { data::get(semaphore as VALUE) })
    }

    #[inline]
    fn usable(&self) -> Option<&SemaphoreData> {
        self.semaphore().filter(|_| !self.closed.load(Relaxed))
    }

    fn open(&self, ruby: &Ruby) -> Result<&SemaphoreData, Error> {
        self.usable().ok_or_else(|| errors::unusable(ruby, NAME, self.semaphore().map(|_| true)))
    }

    /// Refuses a lock that cannot be used.
    fn check(&self, ruby: &Ruby) -> Result<(), Error> {
        self.open(ruby)?.check(ruby)
    }

    /// The semaphore's object. To be called once `open` has said that there is one.
    fn semaphore_object(&self) -> Value {
        // SAFETY: as in `semaphore`.
        unsafe { Value::from_raw(self.semaphore.load(Relaxed) as VALUE) }
    }

    fn acquire(&self, ruby: &Ruby, object: Value, timeout: Timeout) -> Result<bool, Error> {
        let semaphore = self.open(ruby)?;
        semaphore.acquire(ruby, object, Some(self.semaphore_object()), timeout, || self.check(ruby))
    }

    pub fn name(&self, ruby: &Ruby) -> Result<u32, Error> {
        Ok(self.open(ruby)?.open(ruby)?.name())
    }

    pub fn unlock(&self, ruby: &Ruby) -> Result<(), Error> {
        self.open(ruby)?.post(ruby)
    }

    /// Takes the lock again after a wait, whatever happens. `rest` runs before any Ruby code does.
    pub fn retake(
        &self,
        ruby: &Ruby,
        object: Value,
        raised: Option<Error>,
        rest: &mut dyn FnMut(),
    ) -> Option<Error> {
        let Some(data) = self.semaphore() else { return raised };
        let Some(semaphore) = data.reached() else { return raised.or(data.open(ruby).err()) };
        if semaphore.try_wait() || semaphore.wait_soon() {
            raised
        } else if scheduled::is_non_blocking() {
            rest();
            scheduled::wait_through(ruby, object, |_| semaphore.try_wait()).or(raised)
        } else {
            nogvl::block_through(ruby, |thread| semaphore.wait(thread, None), rest).or(raised)
        }
    }
}

fn of<'a>(object: Value) -> &'a SemaphoreMutexData {
    // SAFETY: called first thing in a method, whose receiver stays alive while it runs.
    unsafe { data::get(object.as_raw()) }
}

fn initialize(ruby: &Ruby, object: Value, semaphore: Value) -> Result<(), Error> {
    let data = of(object);
    if data::find::<SemaphoreData>(semaphore.as_raw()).is_none() {
        let class = errors::class_name(semaphore);
        let text = format!("wrong argument type {class} (expected ProcessShared::Semaphore)");
        return Err(Error::new(ruby.exception_type_error(), text));
    }
    if data.semaphore.load(Relaxed) != 0 {
        return Err(errors::already_initialized(ruby, NAME));
    }
    data.semaphore.store(semaphore.as_raw() as usize, Relaxed);
    // SAFETY: `object` now refers to `semaphore`, both alive.
    unsafe { rb_gc_writebarrier(object.as_raw(), semaphore.as_raw()) };
    Ok(())
}

unsafe extern "C" fn lock_quickly(object: VALUE) -> VALUE {
    // SAFETY: a method's receiver; nothing to drop in this frame.
    unsafe {
        let done = data::get::<SemaphoreMutexData>(object).usable().is_some_and(SemaphoreData::try_wait);
        if done { object } else { slowly(object, method!(lock, 0)) }
    }
}

fn lock(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    of(object).acquire(ruby, object, Timeout::Never).map(|_| object)
}

unsafe extern "C" fn unlock_quickly(object: VALUE) -> VALUE {
    // SAFETY: a method's receiver; nothing to drop in this frame.
    unsafe {
        let done = data::get::<SemaphoreMutexData>(object).usable().is_some_and(SemaphoreData::try_post);
        if done { object } else { slowly(object, method!(unlock, 0)) }
    }
}

fn unlock(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    of(object).unlock(ruby).map(|()| object)
}

/// The end of a block that took the lock, also where it has been closed since.
unsafe extern "C" fn leave_quickly(object: VALUE) -> VALUE {
    // SAFETY: a method's receiver; nothing to drop in this frame.
    unsafe {
        let done = data::get::<SemaphoreMutexData>(object).usable().is_some_and(SemaphoreData::try_post);
        if done { object } else { slowly(object, method!(leave, 0)) }
    }
}

fn leave(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    let data = of(object);
    match data.semaphore() {
        Some(semaphore) => semaphore.give_back(ruby).map(|()| object),
        None => data.open(ruby).map(|_| object),
    }
}

unsafe extern "C" fn synchronize(object: VALUE) -> VALUE {
    // SAFETY: called by Ruby as a method; nothing to drop in this frame, over which exceptions jump.
    unsafe {
        if rb_sys::rb_block_given_p() == 0 {
            rb_sys::rb_raise(rb_sys::rb_eThreadError, c"must be called with a block".as_ptr());
        }
        lock_quickly(object);
        yield_and(leave_quickly, object)
    }
}

fn try_lock(ruby: &Ruby, object: Value, args: &[Value]) -> Result<bool, Error> {
    let timeout = scan_args::<(), (Option<Value>,), (), (), (), ()>(args)?.optional.0;
    let timeout = match timeout.filter(|timeout| !timeout.is_nil()) {
        Some(seconds) => Timeout::parse_try(ruby, seconds)?,
        None => Timeout::Passed,
    };
    of(object).acquire(ruby, object, timeout)
}

fn is_locked(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    Ok(of(object).open(ruby)?.open(ruby)?.value() == 0)
}

/// `unlock`, for `scheduled`.
fn release(ruby: &Ruby, object: Value) -> Result<u64, Error> {
    of(object).unlock(ruby).map(|()| 1)
}

/// Undoes `release`, whatever happens.
fn retake(ruby: &Ruby, object: Value, _: u64) -> Result<(), Error> {
    of(object).retake(ruby, object, None, &mut || {}).map_or(Ok(()), Err)
}

/// `sleep(timeout = nil)`: a wait for a condition that nobody else knows.
fn sleep(ruby: &Ruby, object: Value, args: &[Value]) -> Result<Value, Error> {
    let timeout = scan_args::<(), (Option<Value>,), (), (), (), ()>(args)?.optional.0;
    of(object).open(ruby)?;
    let class: magnus::RClass = ruby.get_inner(&errors::MODULE).const_get("ConditionVariable")?;
    Ok(class.funcall::<_, _, Value>("new", ())?.funcall("wait", (object, timeout))?)
}

/// For the helper threads of `scheduled`.
fn watch(ruby: &Ruby, object: Value, timeout: Value) -> Result<bool, Error> {
    let data = of(object);
    let semaphore = data.open(ruby)?;
    let objects = [Some(object), Some(data.semaphore_object())];
    semaphore.watch(ruby, objects, timeout, || data.check(ruby))
}

fn close(ruby: &Ruby, object: Value) -> Result<(), Error> {
    is_closed(ruby, object)?;
    of(object).closed.store(true, Relaxed);
    waiting::rouse(object);
    Ok(())
}

fn is_closed(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    let data = of(object);
    match data.semaphore.load(Relaxed) {
        0 => Err(errors::not_initialized(ruby, NAME)),
        _ => Ok(data.closed.load(Relaxed)),
    }
}

fn to_mtx(object: Value) -> Result<Value, Error> {
    let ruby = Ruby::get_with(object);
    semaphore::of(object).open(&ruby)?;
    let class: magnus::RClass = ruby.get_inner(&errors::MODULE).const_get("SemaphoreMutex")?;
    Ok(class.funcall("new", (object,))?)
}

fn inspect(object: Value) -> String {
    let data = of(object);
    let state = match (data.semaphore.load(Relaxed), data.usable().and_then(SemaphoreData::usable)) {
        (0, _) => "not initialized",
        (_, None) => "closed",
        (_, Some(semaphore)) if semaphore.value() == 0 => "locked",
        _ => "unlocked",
    };
    format!("#<{} {state}>", errors::class_name(object))
}

pub fn init(ruby: &Ruby, module: RModule) -> Result<(), Error> {
    let class = define::<SemaphoreMutexData>(module, "SemaphoreMutex", ruby.class_object())?;
    // SAFETY: all of them take the receiver alone.
    unsafe {
        bind(class, c"lock", lock_quickly as *const (), 0);
        bind(class, c"unlock", unlock_quickly as *const (), 0);
        bind(class, c"synchronize", synchronize as *const (), 0);
    }
    class.define_method("initialize", method!(initialize, 1))?;
    class.define_method("try_lock", method!(try_lock, -1))?;
    class.define_method("locked?", method!(is_locked, 0))?;
    class.define_method("close", method!(close, 0))?;
    class.define_method("closed?", method!(is_closed, 0))?;
    class.define_method("inspect", method!(inspect, 0))?;
    class.define_method("to_s", method!(inspect, 0))?;
    class.define_method("sleep", method!(sleep, -1))?;
    class.define_private_method("release", method!(release, 0))?;
    class.define_private_method("retake", method!(retake, 1))?;
    class.define_private_method("watch", method!(watch, 1))?;
    let semaphore: magnus::RClass = module.const_get("Semaphore")?;
    Ok(semaphore.define_method("to_mtx", method!(to_mtx, 0))?)
}
