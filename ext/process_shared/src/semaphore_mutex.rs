//! `ProcessShared::SemaphoreMutex`, what `Semaphore#to_mtx` gives: a lock over a semaphore, with no owner and so no
//! checks: any process may unlock it.

use magnus::{RClass, RModule, Ruby, Value, method, prelude::*, rb_sys::AsRawValue, rb_sys::FromRawValue};
use process_shared_core::platform::fork_depth;
use process_shared_core::{Outcome, Semaphore, SharedObject, Thread};
use rb_sys::{VALUE, rb_gc_writebarrier};

use crate::errors::{self, Error};
use crate::lock::{self, Held, Lock};
use crate::object::{self, Object, Shared};
use crate::raw_methods::{Method0, define, require_block, slow};
use crate::semaphore::SemaphoreData;
use crate::synchronize::{self, Synchronize};
use crate::timeout::Timeout;
use crate::typed_data::{self, Data, of};
use crate::{data_type, fiber_scheduler, nogvl, thread};

/// The object of the Semaphore behind the lock, which the lock keeps alive.
pub struct Behind(VALUE);

/// Whether the semaphore can be used, the semaphore says.
impl SharedObject for Behind {
    #[inline]
    fn is_accessible(&self) -> bool {
        true
    }
}

impl Behind {
    #[inline]
    fn data(&self) -> &SemaphoreData {
        // SAFETY: `initialize` stored a Semaphore.
        unsafe { typed_data::get(self.0) }
    }

    fn object(&self) -> Value {
        // SAFETY: as above.
        unsafe { Value::from_raw(self.0) }
    }
}

#[derive(Default)]
pub struct SemaphoreMutexData(Shared<Behind>);

impl Data for SemaphoreMutexData {
    data_type!(SemaphoreMutexData, c"ProcessShared::SemaphoreMutex");

    fn mark(&self) {
        if let Some(behind) = self.0.get() {
            // SAFETY: called by the collector; `initialize` stored a living object.
            unsafe { rb_sys::rb_gc_mark(behind.0) };
        }
    }
}

impl Object for SemaphoreMutexData {
    type Core = Behind;

    fn shared(&self) -> &Shared<Behind> {
        &self.0
    }

    fn class_name(&self) -> &'static str {
        "ProcessShared::SemaphoreMutex"
    }

    fn describe(&self, behind: &Behind) -> String {
        match behind.data().shared.usable().map(Semaphore::value) {
            None => "closed",
            Some(..=0) => "locked",
            Some(_) => "unlocked",
        }
        .to_owned()
    }
}

impl SemaphoreMutexData {
    #[inline]
    fn usable(&self) -> Option<&SemaphoreData> {
        self.0.usable().map(Behind::data)
    }

    /// The semaphore, unless the lock or the semaphore cannot be used.
    fn semaphore(&self, ruby: &Ruby) -> Result<&Semaphore, Error> {
        self.open(ruby)?.data().open(ruby)
    }

    fn acquire(&self, ruby: &Ruby, object: Value, timeout: Timeout) -> Result<bool, Error> {
        let behind = self.open(ruby)?;
        let check = || self.semaphore(ruby).map(|_| ());
        behind.data().acquire(ruby, 1, object, Some(behind.object()), timeout, check)
    }
}

impl Lock for SemaphoreMutexData {
    fn name(&self, ruby: &Ruby) -> Result<u32, Error> {
        Ok(self.semaphore(ruby)?.name())
    }

    fn release(&self, ruby: &Ruby) -> Result<Held, Error> {
        self.open(ruby)?.data().post(ruby, 1).map(|()| Held::default())
    }

    fn retake(
        &self,
        ruby: &Ruby,
        object: Value,
        _: Held,
        raised: Option<Error>,
        rest: &mut dyn FnMut(),
    ) -> Option<Error> {
        let Some(data) = self.0.get().map(Behind::data) else { return raised };
        let Some(semaphore) = data.shared.reached() else { return raised.or(data.check(ruby).err()) };
        let thread = match thread::current(ruby) {
            Ok(thread) => thread,
            Err(error) => return raised.or(Some(error)),
        };
        if semaphore.try_wait() || semaphore.acquire_soon(&thread, 1) {
            raised
        } else if fiber_scheduler::is_non_blocking() {
            rest();
            let attempt = |thread: &Thread| semaphore.try_acquire(thread, 1) == Ok(true);
            fiber_scheduler::wait_through(ruby, object, attempt).or(raised)
        } else {
            let wait = |thread: &Thread| semaphore.acquire(thread, 1, None).unwrap_or(Outcome::Interrupted);
            nogvl::block_through(ruby, wait, rest).or(raised)
        }
    }
}

impl Synchronize for SemaphoreMutexData {
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
        self.usable().is_some_and(SemaphoreData::try_post)
    }

    unsafe fn end_slow(object: VALUE, _: Self::Begun) -> VALUE {
        // SAFETY: a method's receiver; the caller's promise.
        unsafe { slow(object, method!(left_block, 0)) }
    }

    /// The permit is the parent's, which gives it back.
    fn end_in_child(&self, _: u32) -> bool {
        true
    }
}

/// The end of a block that took the lock, also where it has been closed since.
fn left_block(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    let data = of::<SemaphoreMutexData>(object);
    match data.0.get() {
        Some(behind) => behind.data().give_back(ruby, 1).map(|()| object),
        None => data.check(ruby).map(|()| object),
    }
}

fn initialize(ruby: &Ruby, object: Value, semaphore: Value) -> Result<(), Error> {
    if typed_data::find::<SemaphoreData>(semaphore.as_raw()).is_none() {
        return Err(errors::wrong_type(ruby, semaphore, "ProcessShared::Semaphore"));
    }
    object::refuse_block(ruby, object)?;
    of::<SemaphoreMutexData>(object).initialized(ruby, Ok(Behind(semaphore.as_raw())))?;
    // SAFETY: `object` now refers to `semaphore`, both alive.
    unsafe { rb_gc_writebarrier(object.as_raw(), semaphore.as_raw()) };
    Ok(())
}

unsafe extern "C" fn lock(object: VALUE) -> VALUE {
    // SAFETY: a method's receiver; nothing to drop in this frame.
    unsafe { lock_inline(object, typed_data::get(object)) }
}

/// # Safety
/// `data` is that of `object`; no frame between here and Ruby has anything to drop.
#[inline(always)]
unsafe fn lock_inline(object: VALUE, data: &SemaphoreMutexData) -> VALUE {
    let done = data.usable().is_some_and(SemaphoreData::try_wait);
    // SAFETY: a method's receiver; the caller's promise.
    if done { object } else { unsafe { slow(object, method!(lock_slow, 0)) } }
}

fn lock_slow(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    of::<SemaphoreMutexData>(object).acquire(ruby, object, Timeout::Never).map(|_| object)
}

unsafe extern "C" fn unlock(object: VALUE) -> VALUE {
    // SAFETY: a method's receiver; nothing to drop in this frame.
    unsafe {
        let data = typed_data::get::<SemaphoreMutexData>(object);
        if data.usable().is_some_and(SemaphoreData::try_post) {
            object
        } else {
            slow(object, method!(unlock_slow, 0))
        }
    }
}

fn unlock_slow(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    of::<SemaphoreMutexData>(object).release(ruby).map(|_| object)
}

unsafe extern "C" fn synchronize(object: VALUE) -> VALUE {
    // SAFETY: called by Ruby as a method; nothing to drop in this frame, over which exceptions jump.
    unsafe {
        require_block();
        let data = typed_data::get::<SemaphoreMutexData>(object);
        lock_inline(object, data);
        synchronize::run(object, data, data.begin())
    }
}

fn try_lock(ruby: &Ruby, object: Value, args: &[Value]) -> Result<bool, Error> {
    let timeout = Timeout::of_try(ruby, args)?.unwrap_or(Timeout::Passed);
    of::<SemaphoreMutexData>(object).acquire(ruby, object, timeout)
}

fn is_locked(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    Ok(of::<SemaphoreMutexData>(object).semaphore(ruby)?.value() <= 0)
}

/// `sleep(timeout = nil)`: a wait for a condition that nobody else knows.
fn sleep(ruby: &Ruby, object: Value, args: &[Value]) -> Result<Value, Error> {
    ruby.check_arity(args.len(), 0..=1)?;
    let timeout = args.first().copied().unwrap_or(ruby.qnil().as_value());
    of::<SemaphoreMutexData>(object).check(ruby)?;
    let class: RClass = ruby.get_inner(&errors::MODULE).const_get("ConditionVariable")?;
    Ok(class.funcall::<_, _, Value>("new", ())?.funcall("wait", (object, timeout))?)
}

/// Waits until the lock may be free, without taking it. For the helper threads of `fiber_scheduler.rb`.
fn watch(ruby: &Ruby, object: Value, timeout: Value) -> Result<bool, Error> {
    let data = of::<SemaphoreMutexData>(object);
    let behind = data.open(ruby)?;
    let check = || data.semaphore(ruby).map(|_| ());
    behind.data().watch(ruby, 1, [Some(object), Some(behind.object())], timeout, check)
}

fn to_mtx(ruby: &Ruby, semaphore: Value) -> Result<Value, Error> {
    of::<SemaphoreData>(semaphore).check(ruby)?;
    let class: RClass = ruby.get_inner(&errors::MODULE).const_get("SemaphoreMutex")?;
    Ok(class.funcall("new", (semaphore,))?)
}

pub fn init(ruby: &Ruby, module: RModule) -> Result<(), Error> {
    let class = object::define_class::<SemaphoreMutexData>(module, "SemaphoreMutex", ruby.class_object())?;
    define(class, "lock", lock as Method0)?;
    define(class, "unlock", unlock as Method0)?;
    define(class, "synchronize", synchronize as Method0)?;
    class.define_method("initialize", method!(initialize, 1))?;
    class.define_method("try_lock", method!(try_lock, -1))?;
    class.define_method("locked?", method!(is_locked, 0))?;
    class.define_method("sleep", method!(sleep, -1))?;
    class.define_private_method("watch", method!(watch, 1))?;
    lock::define_methods::<SemaphoreMutexData>(class)?;
    let semaphore: RClass = module.const_get("Semaphore")?;
    Ok(semaphore.define_method("to_mtx", method!(to_mtx, 0))?)
}
