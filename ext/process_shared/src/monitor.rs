//! `ProcessShared::Monitor`: a Mutex that the fiber which holds it can take again.

use magnus::scan_args::scan_args;
use magnus::{RClass, RModule, Ruby, Value, method, prelude::*, rb_sys::AsRawValue};
use rb_sys::VALUE;
use std::sync::atomic::Ordering::Relaxed;

use crate::bind::slowly;
use crate::errors::Error;
use crate::mutex::{self, MutexData, Taken, bind, define, of, try_acquire};
use crate::section;
use crate::thread;
use crate::timeout::Timeout;
use crate::{data, errors};

/// One level more, if the calling fiber holds the lock.
#[inline]
fn deepen(data: &MutexData) -> bool {
    let (Some(mutex), Some(thread)) = (data.usable(), thread::known()) else { return false };
    let levels = data.levels.load(Relaxed);
    let deeper = data.is_owned(mutex, &thread) && levels < u32::MAX;
    if deeper {
        data.levels.store(levels + 1, Relaxed);
    }
    deeper
}

unsafe extern "C" fn lock_quickly(object: VALUE) -> VALUE {
    // SAFETY: a method's receiver; nothing to drop in this frame.
    unsafe {
        enter_quickly(object, data::get(object));
    }
    object
}

/// # Safety
/// `data` is that of `object`; no frame between here and Ruby has anything to drop.
#[inline(always)]
unsafe fn enter_quickly(object: VALUE, data: &MutexData) {
    if !deepen(data) && data.take(object) != Taken::Yes {
        // SAFETY: a method's receiver.
        unsafe { slowly(object, method!(lock, 0)) };
    }
}

/// The lock may be held by this fiber already: it was taken just now, from a holder that died, or too often.
fn lock(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    let data = of(object);
    if data.owned(ruby)? {
        let levels = data.levels.load(Relaxed);
        if levels == u32::MAX {
            return Err(errors::ownership(
                ruby,
                format!("this fiber has entered {levels} times without an exit"),
            ));
        }
        return mutex::repaired(ruby, object);
    }
    data.acquire(ruby, object, Timeout::Never).map(|_| object)
}

unsafe extern "C" fn enter(object: VALUE) -> VALUE {
    // SAFETY: as for `lock`.
    unsafe { lock_quickly(object) };
    rb_sys::Qnil as VALUE
}

unsafe extern "C" fn unlock_quickly(object: VALUE) -> VALUE {
    // SAFETY: a method's receiver; nothing to drop in this frame.
    let data = unsafe { data::get::<MutexData>(object) };
    if let (Some(mutex), Some(thread)) = (data.usable(), thread::known()) {
        if data.is_owned(mutex, &thread) {
            data.step_out(mutex, &thread);
            return object;
        }
    }
    // SAFETY: the receiver of this method.
    unsafe { slowly(object, method!(unlock, 0)) }
}

/// For who does not hold it, or has closed it: says so.
fn unlock(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    let data = of(object);
    data.give_back_closed(ruby)?;
    data.assert_owned(ruby).map(|_| object)
}

unsafe extern "C" fn exit(object: VALUE) -> VALUE {
    // SAFETY: as for `unlock`.
    unsafe { unlock_quickly(object) };
    rb_sys::Qnil as VALUE
}

/// Without a block, calling it raises LocalJumpError, as in Ruby's own Monitor.
unsafe extern "C" fn synchronize(object: VALUE) -> VALUE {
    // SAFETY: called by Ruby as a method; nothing to drop in this frame, over which exceptions jump.
    unsafe {
        let data = data::get(object);
        enter_quickly(object, data);
        section::run(object, data)
    }
}

fn try_lock(ruby: &Ruby, object: Value, args: &[Value]) -> Result<bool, Error> {
    let data = of(object);
    let timeout = scan_args::<(), (Option<Value>,), (), (), (), ()>(args)?.optional.0;
    let timeout = match timeout.filter(|timeout| !timeout.is_nil()) {
        Some(seconds) => Timeout::parse_try(ruby, seconds)?,
        None => Timeout::Passed,
    };
    data.open(ruby)?;
    if deepen(data) { Ok(true) } else { try_acquire(ruby, data, object, timeout) }
}

fn check_owner(ruby: &Ruby, object: Value) -> Result<(), Error> {
    of(object).assert_owned(ruby).map(|_| ())
}

/// `wait_for_cond(cond, timeout)`: whether the condition was signalled.
fn wait_for_cond(ruby: &Ruby, object: Value, condition: Value, timeout: Value) -> Result<bool, Error> {
    of(object).assert_owned(ruby)?;
    if !condition.respond_to("wait", false)? {
        return Err(errors::wrong_type(ruby, condition, "a condition variable"));
    }
    let woken: Value = condition.funcall("wait", (object, timeout))?;
    Ok(!woken.is_nil())
}

pub fn init(_: &Ruby, module: RModule, mutex: RClass) -> Result<(), Error> {
    unsafe extern "C" fn allocate(class: VALUE) -> VALUE {
        // SAFETY: Ruby passes a class: this one, or one derived from it.
        unsafe { data::wrap(class, MutexData::of_monitor()) }
    }
    let class = define::<MutexData>(module, "Monitor", mutex)?;
    // SAFETY: all of them take the receiver alone.
    unsafe {
        rb_sys::rb_define_alloc_func(class.as_raw(), Some(allocate));
        bind(class, c"lock", lock_quickly as *const (), 0);
        bind(class, c"unlock", unlock_quickly as *const (), 0);
        for name in [c"enter", c"mon_enter"] {
            bind(class, name, enter as *const (), 0);
        }
        for name in [c"exit", c"mon_exit"] {
            bind(class, name, exit as *const (), 0);
        }
        for name in [c"synchronize", c"mon_synchronize"] {
            bind(class, name, synchronize as *const (), 0);
        }
    }
    for name in ["try_lock", "try_enter", "mon_try_enter", "try_mon_enter"] {
        class.define_method(name, method!(try_lock, -1))?;
    }
    class.define_method("mon_locked?", method!(mutex::is_locked, 0))?;
    class.define_method("mon_owned?", method!(mutex::is_owned, 0))?;
    class.define_method("mon_check_owner", method!(check_owner, 0))?;
    class.define_method("wait_for_cond", method!(wait_for_cond, 2))?;
    Ok(())
}
