//! `ProcessShared::Mutex`: its methods, and its data, which `Monitor` shares. `owner.rs` knows which fiber holds the lock,
//! `acquire.rs` takes it, `repair.rs` sees to a lock whose holder died.
//!
//! `lock`, `unlock` and `synchronize` are bound as bare C functions: they return from the uncontended case within a
//! few nanoseconds, and hand all else to their slow paths.

use magnus::{RModule, Ruby, Value, method, prelude::*, rb_sys::FromRawValue};
use process_shared_core::arena::{Holder, Holding};
use process_shared_core::{Condition, Mutex, Thread};
use rb_sys::VALUE;
use std::ffi::c_int;
use std::path::Path;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

use crate::acquire::Taken;
use crate::condition_wait::{self, Waitable};
use crate::errors::Error;
use crate::lock::{self, Held, Lock};
use crate::object::{self, Object, Shared};
use crate::raw_methods::{Method0, MethodN, NIL, define, require_block, slow};
use crate::repair::require_callable;
use crate::synchronize::{self, Synchronize};
use crate::timeout::Timeout;
use crate::typed_data::{self, Data, of};
use crate::{data_type, nogvl, path, thread};

#[derive(Default)]
pub struct MutexData {
    pub shared: Shared<Mutex>,
    /// What this process knows of the holder, unless that is `shared_holder`.
    pub own_holder: Holding,
    /// That of a lock with a path, which all its handles have, or null.
    pub shared_holder: AtomicPtr<Holder>,
    /// The callable, or 0.
    pub on_abandoned: AtomicUsize,
}

/// The `kind` of a Monitor.
pub const MONITOR: u8 = 1;

// Larger handles make forks slower: a child copies the pages that its collector writes to.
const _: () = assert!(size_of::<MutexData>() <= 64);

impl MutexData {
    pub fn is_monitor(&self) -> bool {
        self.shared.kind.load(Relaxed) == MONITOR
    }
}

impl Data for MutexData {
    data_type!(MutexData, c"ProcessShared::Mutex");

    fn mark(&self) {
        self.mark_owner();
        self.mark_on_abandoned();
    }

    fn extra_size(&self) -> usize {
        process_shared_core::arena::SLOT
    }
}

impl Object for MutexData {
    type Core = Mutex;
    const TAKES_PATH: bool = true;

    fn shared(&self) -> &Shared<Mutex> {
        &self.shared
    }

    fn class_name(&self) -> &'static str {
        if self.is_monitor() { "ProcessShared::Monitor" } else { "ProcessShared::Mutex" }
    }

    /// A lock that the calling fiber holds is released.
    fn before_close(&self, ruby: &Ruby) -> Result<(), Error> {
        if let Some(mutex) = self.shared.usable() {
            let thread = thread::current(ruby)?;
            // Where the process has another handle of a lock with a path, it is held through that one.
            if self.is_owned(mutex, &thread) && !mutex.has_other_handles() {
                self.release_held(mutex, &thread);
            }
        }
        Ok(())
    }

    fn describe(&self, mutex: &Mutex) -> String {
        let mut state = match (mutex.owner_pid(), mutex.is_abandoned()) {
            (None, false) => "unlocked".to_owned(),
            (None, true) => "left by a holder that died".to_owned(),
            (Some(pid), false) => format!("locked by {pid}"),
            (Some(pid), true) => format!("locked by {pid}, abandoned"),
        };
        for (count, what) in [(mutex.waiters(), "waiting"), (mutex.condition().waiters(), "sleeping")] {
            if count > 0 {
                state += &format!(", {count} {what}");
            }
        }
        state
    }
}

impl Waitable for MutexData {
    fn condition(&self, ruby: &Ruby) -> Result<Condition<'_>, Error> {
        Ok(self.open(ruby)?.condition())
    }
}

impl Lock for MutexData {
    fn name(&self, ruby: &Ruby) -> Result<u32, Error> {
        Ok(self.open(ruby)?.name())
    }

    fn assert_held(&self, ruby: &Ruby) -> Result<(), Error> {
        self.assert_owned(ruby).map(|_| ())
    }

    fn release(&self, ruby: &Ruby) -> Result<Held, Error> {
        let thread = self.assert_owned(ruby)?;
        Ok(self.release_held(self.open(ruby)?, &thread))
    }

    fn retake(
        &self,
        ruby: &Ruby,
        object: Value,
        held: Held,
        raised: Option<Error>,
        rest: &mut dyn FnMut(),
    ) -> Option<Error> {
        MutexData::retake(self, ruby, object, held, raised, rest)
    }
}

impl Synchronize for MutexData {
    type Begun = (usize, Option<Thread>);

    /// Inlined, so that the caller's values stay in registers.
    #[inline(always)]
    fn begin(&self) -> Self::Begun {
        (self.fiber(), thread::known())
    }

    #[inline(always)]
    fn is_here((_, thread): Self::Begun) -> bool {
        thread.is_some_and(|thread| thread.is_here())
    }

    #[inline(always)]
    fn end(&self, (fiber, thread): Self::Begun) -> bool {
        let Some(thread) = thread else { return false };
        let Some(mutex) = self.shared.reached() else { return false };
        let is_owned = self.is_owned_by(mutex, &thread, fiber);
        if is_owned {
            self.release_level(mutex, &thread);
        }
        is_owned
    }

    unsafe fn end_slow(object: VALUE, _: Self::Begun) -> VALUE {
        // SAFETY: a method's receiver; the caller's promise.
        unsafe { slow(object, method!(left_block, 0)) }
    }

    /// The child may have taken the lock itself.
    #[cold]
    fn end_in_child(&self, (fiber, _): Self::Begun) -> bool {
        self.end((fiber, thread::known()))
    }
}

/// The end of a block that does not hold the lock any more. A handle that was closed in the block has released it.
fn left_block(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    let data = of::<MutexData>(object);
    if data.shared.is_closed() { Ok(object) } else { data.assert_owned(ruby).map(|_| object) }
}

fn initialize_slow(ruby: &Ruby, object: Value, args: &[Value]) -> Result<(), Error> {
    let data = of::<MutexData>(object);
    let given = path::given(ruby, args, &["on_abandoned"])?;
    ruby.check_arity(given.positional.len(), 0..=0)?;
    let on_abandoned = given.extra[0].filter(|callable| !callable.is_nil());
    if let Some(callable) = on_abandoned {
        require_callable(ruby, callable)?;
    }
    let class = if data.is_monitor() { "Monitor" } else { "Mutex" };
    let open = |path: &Path, mode| Mutex::in_file(path, mode, class);
    data.initialize(ruby, object, given.location.as_ref(), Mutex::new, open)?;
    data.share_holder();
    if let Some(callable) = on_abandoned {
        data.set_on_abandoned(object, callable);
    }
    Ok(())
}

/// `new` without arguments, which is nearly always.
unsafe extern "C" fn initialize(argc: c_int, argv: *const VALUE, object: VALUE) -> VALUE {
    // SAFETY: a method's receiver; nothing to drop in this frame.
    let data = unsafe { typed_data::get::<MutexData>(object) };
    // SAFETY: called within a method.
    let has_block = unsafe { rb_sys::rb_block_given_p() } != 0;
    if argc == 0
        && !has_block
        && data.shared.get().is_none()
        && Mutex::new().is_ok_and(|mutex| data.shared.set(mutex))
    {
        return NIL;
    }
    let slow: unsafe extern "C" fn(c_int, *const Value, Value) -> Value = method!(initialize_slow, -1);
    // SAFETY: the arguments of this method, in their order.
    unsafe {
        slow(argc, argv.cast(), Value::from_raw(object));
    }
    NIL
}

unsafe extern "C" fn lock(object: VALUE) -> VALUE {
    // SAFETY: a method's receiver; nothing to drop in this frame.
    unsafe {
        lock_inline(object, typed_data::get(object));
    }
    object
}

/// # Safety
/// `data` is that of `object`; no frame between here and Ruby has anything to drop.
#[inline(always)]
unsafe fn lock_inline(object: VALUE, data: &MutexData) -> <MutexData as Synchronize>::Begun {
    // SAFETY: a method's receiver; the caller's promise.
    unsafe {
        match data.take(object) {
            Taken::Yes(fiber, thread) => return (fiber, Some(thread)),
            Taken::No => slow(object, method!(lock_slow, 0)),
            Taken::Abandoned => slow(object, method!(lock_abandoned, 0)),
        };
    }
    data.begin()
}

fn lock_slow(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    of::<MutexData>(object).acquire(ruby, object, Timeout::Never).map(|_| object)
}

/// Goes on where a lock has just been taken from a holder that died.
pub fn lock_abandoned(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    if of::<MutexData>(object).repair(ruby, object)? { Ok(object) } else { lock_slow(ruby, object) }
}

unsafe extern "C" fn unlock(object: VALUE) -> VALUE {
    // SAFETY: a method's receiver; nothing to drop in this frame.
    let data = unsafe { typed_data::get::<MutexData>(object) };
    if let Some((mutex, thread)) = data.if_owned() {
        data.unlock(mutex, &thread);
        return object;
    }
    // SAFETY: the receiver of this method.
    unsafe { slow(object, method!(unlock_slow, 0)) }
}

/// For a caller that does not hold the lock, or has closed the handle: raises.
pub fn unlock_slow(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    let data = of::<MutexData>(object);
    if let Some(mutex) = data.shared.reached().filter(|_| data.shared.is_closed()) {
        let thread = thread::current(ruby)?;
        if data.is_owned(mutex, &thread) {
            data.release_level(mutex, &thread);
        }
    }
    let thread = data.assert_owned(ruby)?;
    data.release_level(data.open(ruby)?, &thread);
    Ok(object)
}

unsafe extern "C" fn synchronize(object: VALUE) -> VALUE {
    // SAFETY: called by Ruby as a method; nothing to drop in this frame, over which exceptions jump.
    unsafe {
        require_block();
        let data = typed_data::get::<MutexData>(object);
        let begun = lock_inline(object, data);
        synchronize::run(object, data, begun)
    }
}

fn try_lock(ruby: &Ruby, object: Value, args: &[Value]) -> Result<bool, Error> {
    let timeout = Timeout::of_try(ruby, args)?.unwrap_or(Timeout::Passed);
    of::<MutexData>(object).try_acquire(ruby, object, timeout)
}

/// `sleep(timeout = nil)`: a wait for the condition of the mutex.
fn sleep(ruby: &Ruby, object: Value, args: &[Value]) -> Result<Value, Error> {
    let timeout = Timeout::of_sleep(ruby, args)?;
    let data = of::<MutexData>(object);
    data.assert_owned(ruby)?;
    condition_wait::wait(ruby, object, data, object, data, timeout)
}

/// Wakes the thread that has slept on this mutex longest, in whatever process.
fn wakeup_first(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    let thread = thread::current(ruby)?;
    of::<MutexData>(object).open(ruby)?.condition().signal(&thread);
    Ok(object)
}

/// Waits until the lock may be free, without taking it. For the helper threads of `fiber_scheduler.rb`.
fn watch(ruby: &Ruby, object: Value, timeout: Value) -> Result<bool, Error> {
    let (data, timeout) = (of::<MutexData>(object), Timeout::parse(ruby, timeout)?);
    let mutex = data.open(ruby)?;
    let wait = |thread: &Thread| mutex.wait_until_free(thread, timeout.deadline());
    nogvl::block(ruby, [Some(object), None], || data.check(ruby), wait, nogvl::keep)
}

pub fn is_locked(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    of::<MutexData>(object).open(ruby).map(Mutex::is_locked)
}

pub fn is_owned(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    of::<MutexData>(object).owned(ruby)
}

fn is_abandoned(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    of::<MutexData>(object).open(ruby).map(Mutex::is_abandoned)
}

fn owner_pid(ruby: &Ruby, object: Value) -> Result<Option<u32>, Error> {
    of::<MutexData>(object).open(ruby).map(Mutex::owner_pid)
}

fn waiters(ruby: &Ruby, object: Value) -> Result<usize, Error> {
    of::<MutexData>(object).open(ruby).map(Mutex::waiters)
}

pub fn init(ruby: &Ruby, module: RModule) -> Result<(), Error> {
    let class = object::define_class::<MutexData>(module, "Mutex", ruby.class_object())?;
    define(class, "initialize", initialize as MethodN)?;
    define(class, "lock", lock as Method0)?;
    define(class, "unlock", unlock as Method0)?;
    define(class, "synchronize", synchronize as Method0)?;
    class.define_method("try_lock", method!(try_lock, -1))?;
    class.define_method("sleep", method!(sleep, -1))?;
    class.define_method("wakeup_first", method!(wakeup_first, 0))?;
    class.define_method("locked?", method!(is_locked, 0))?;
    class.define_method("owned?", method!(is_owned, 0))?;
    class.define_method("abandoned?", method!(is_abandoned, 0))?;
    class.define_method("owner_pid", method!(owner_pid, 0))?;
    class.define_method("waiters", method!(waiters, 0))?;
    class.define_private_method("watch", method!(watch, 1))?;
    condition_wait::define_methods::<MutexData>(class)?;
    lock::define_methods::<MutexData>(class)
}
