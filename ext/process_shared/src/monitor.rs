//! `ProcessShared::Monitor`: a Mutex that the fiber which holds it can take again.

use magnus::{RClass, RModule, Ruby, Value, method, prelude::*, rb_sys::AsRawValue};
use rb_sys::VALUE;
use std::sync::atomic::Ordering::Relaxed;

use crate::acquire::Taken;
use crate::errors::{self, Error};
use crate::mutex::{MONITOR, MutexData, is_locked, is_owned, lock_abandoned, unlock_slow};
use crate::object::{self, Object};
use crate::raw_methods::{Method0, NIL, define, slow};
use crate::synchronize::{self, Synchronize};
use crate::timeout::Timeout;
use crate::typed_data::{self, of};

unsafe extern "C" fn lock(object: VALUE) -> VALUE {
    // SAFETY: a method's receiver; nothing to drop in this frame.
    unsafe {
        enter_inline(object, typed_data::get(object));
    }
    object
}

/// # Safety
/// `data` is that of `object`; no frame between here and Ruby has anything to drop.
#[inline(always)]
unsafe fn enter_inline(object: VALUE, data: &MutexData) -> <MutexData as Synchronize>::Begun {
    if let Some((fiber, thread)) = data.add_level() {
        return (fiber, Some(thread));
    }
    if let Taken::Yes(fiber, thread) = data.take(object) {
        return (fiber, Some(thread));
    }
    // SAFETY: a method's receiver.
    unsafe { slow(object, method!(lock_slow, 0)) };
    data.begin()
}

/// The lock may be held by this fiber already: it was taken just now, from a holder that died, or too often.
fn lock_slow(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    let data = of::<MutexData>(object);
    if data.owned(ruby)? {
        let levels = data.holder().levels.load(Relaxed);
        if levels == u32::MAX {
            return Err(errors::ownership(
                ruby,
                format!("this fiber has entered {levels} times without an exit"),
            ));
        }
        return lock_abandoned(ruby, object);
    }
    data.acquire(ruby, object, Timeout::Never).map(|_| object)
}

unsafe extern "C" fn enter(object: VALUE) -> VALUE {
    // SAFETY: as for `lock`.
    unsafe { lock(object) };
    NIL
}

unsafe extern "C" fn unlock(object: VALUE) -> VALUE {
    // SAFETY: a method's receiver; nothing to drop in this frame.
    let data = unsafe { typed_data::get::<MutexData>(object) };
    if let Some((mutex, thread)) = data.if_owned() {
        data.release_level(mutex, &thread);
        return object;
    }
    // SAFETY: the receiver of this method.
    unsafe { slow(object, method!(unlock_slow, 0)) }
}

unsafe extern "C" fn exit(object: VALUE) -> VALUE {
    // SAFETY: as for `unlock`.
    unsafe { unlock(object) };
    NIL
}

/// Without a block, calling it raises LocalJumpError, as in Ruby's own Monitor.
unsafe extern "C" fn synchronize(object: VALUE) -> VALUE {
    // SAFETY: called by Ruby as a method; nothing to drop in this frame, over which exceptions jump.
    unsafe {
        let data = typed_data::get::<MutexData>(object);
        let begun = enter_inline(object, data);
        synchronize::run(object, data, begun)
    }
}

fn try_lock(ruby: &Ruby, object: Value, args: &[Value]) -> Result<bool, Error> {
    let data = of::<MutexData>(object);
    let timeout = Timeout::of_try(ruby, args)?.unwrap_or(Timeout::Passed);
    data.check(ruby)?;
    if data.add_level().is_some() { Ok(true) } else { data.try_acquire(ruby, object, timeout) }
}

fn check_owner(ruby: &Ruby, object: Value) -> Result<(), Error> {
    of::<MutexData>(object).assert_owned(ruby).map(|_| ())
}

/// `wait_for_cond(cond, timeout)`: whether the condition was signalled.
fn wait_for_cond(ruby: &Ruby, object: Value, condition: Value, timeout: Value) -> Result<bool, Error> {
    of::<MutexData>(object).assert_owned(ruby)?;
    if !condition.respond_to("wait", false)? {
        return Err(errors::wrong_type(ruby, condition, "a condition variable"));
    }
    let woken: Value = condition.funcall("wait", (object, timeout))?;
    Ok(!woken.is_nil())
}

unsafe extern "C" fn allocate(class: VALUE) -> VALUE {
    let data = MutexData::default();
    data.shared.kind.store(MONITOR, Relaxed);
    // SAFETY: Ruby passes a class: this one, or one derived from it.
    unsafe { typed_data::wrap(class, data) }
}

pub fn init(_: &Ruby, module: RModule) -> Result<(), Error> {
    let mutex: RClass = module.const_get("Mutex")?;
    let class = object::define_class::<MutexData>(module, "Monitor", mutex)?;
    // SAFETY: `allocate` makes objects of this class.
    unsafe { rb_sys::rb_define_alloc_func(class.as_raw(), Some(allocate)) };
    define(class, "lock", lock as Method0)?;
    define(class, "unlock", unlock as Method0)?;
    for name in ["enter", "mon_enter"] {
        define(class, name, enter as Method0)?;
    }
    for name in ["exit", "mon_exit"] {
        define(class, name, exit as Method0)?;
    }
    for name in ["synchronize", "mon_synchronize"] {
        define(class, name, synchronize as Method0)?;
    }
    for name in ["try_lock", "try_enter", "mon_try_enter", "try_mon_enter"] {
        class.define_method(name, method!(try_lock, -1))?;
    }
    class.define_method("mon_locked?", method!(is_locked, 0))?;
    class.define_method("mon_owned?", method!(is_owned, 0))?;
    class.define_method("mon_check_owner", method!(check_owner, 0))?;
    Ok(class.define_method("wait_for_cond", method!(wait_for_cond, 2))?)
}
