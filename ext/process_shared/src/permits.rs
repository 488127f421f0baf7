//! The names that `Concurrent::Semaphore` has for what semaphores do, with several permits at once.

use std::ffi::c_int;

use magnus::{Integer, RClass, RHash, Ruby, Value, method, prelude::*};
use process_shared_core::platform::fork_depth;
use process_shared_core::semaphore::{MAX, MOST_AT_ONCE};
use process_shared_core::{Semaphore, SemaphoreRefusal};
use rb_sys::VALUE;

use crate::errors::{self, Error};
use crate::object::Object;
use crate::raw_methods::{FALSE, MethodN, NIL, TRUE, answer, arguments, boolean, define, ruby, value};
use crate::semaphore::{self, SemaphoreData, Taken, wait_inline};
use crate::synchronize;
use crate::timeout::Timeout;
use crate::typed_data::{self, of};

/// A number of permits, from 0 to `most`: 1 without an argument.
fn count(ruby: &Ruby, given: Option<Value>, most: u32) -> Result<u32, Error> {
    let Some(given) = given else { return Ok(1) };
    let refused = |text: String| Error::new(ruby.exception_arg_error(), text);
    let Some(integer) = Integer::from_value(given) else {
        return Err(refused(format!(
            "permits must be an Integer, not {} (in try_acquire the timeout comes after them, without a keyword)",
            errors::class_name(given)
        )));
    };
    let count = integer.to_u32().ok().filter(|count| *count <= most);
    count.ok_or_else(|| refused(format!("permits are from 0 to {most}, not {integer}")))
}

/// The most permits that can be taken from it at once.
fn most(data: &SemaphoreData) -> u32 {
    data.max().min(MOST_AT_ONCE)
}

/// Takes `count` permits; false if they did not come in time.
fn take(ruby: &Ruby, object: Value, count: u32, timeout: Timeout) -> Result<bool, Error> {
    let data = of::<SemaphoreData>(object);
    match count {
        0 => data.check(ruby).map(|()| true),
        _ => data.acquire(ruby, count, object, None, timeout, || data.check(ruby)),
    }
}

/// Runs the block, if there is one, with `count` permits taken, and gives them back. Else returns `result`.
///
/// # Safety
/// `data` is that of `object`, the receiver of the running method. No frame between here and Ruby has anything to drop.
#[inline(always)]
unsafe fn with_block(object: VALUE, data: &SemaphoreData, count: u32, result: VALUE) -> VALUE {
    // SAFETY: the caller's promise.
    unsafe {
        if rb_sys::rb_block_given_p() == 0 {
            return result;
        }
        synchronize::run(object, data, Taken { depth: fork_depth(), count })
    }
}

unsafe extern "C" fn acquire(argc: c_int, argv: *const VALUE, this: VALUE) -> VALUE {
    // SAFETY: a method's receiver; nothing to drop in this frame.
    unsafe {
        let data = typed_data::get::<SemaphoreData>(this);
        if argc == 0 {
            wait_inline(this, data);
            return with_block(this, data, 1, NIL);
        }
        acquire_many(argc, argv, this)
    }
}

/// # Safety
/// As for a method.
#[cold]
unsafe fn acquire_many(argc: c_int, argv: *const VALUE, this: VALUE) -> VALUE {
    let mut wanted = 0;
    answer(|| {
        // SAFETY: what Ruby passed.
        let args = unsafe { arguments(argc, argv, 0, 1) }?;
        let (ruby, object) = (ruby(), value(this));
        wanted = count(&ruby, args.first().copied().map(value), most(of::<SemaphoreData>(object)))?;
        take(&ruby, object, wanted, Timeout::Never).map(|_| NIL)
    });
    // SAFETY: a method's receiver; nothing to drop in this frame.
    unsafe { with_block(this, typed_data::get::<SemaphoreData>(this), wanted, NIL) }
}

unsafe extern "C" fn try_acquire(argc: c_int, argv: *const VALUE, this: VALUE) -> VALUE {
    let mut wanted = 1;
    // SAFETY: a method's receiver, which Ruby keeps meanwhile.
    let taken = argc == 0 && unsafe { typed_data::get::<SemaphoreData>(this) }.try_wait();
    let taken = taken
        || answer(|| {
            // SAFETY: what Ruby passed.
            let args = unsafe { arguments(argc, argv, 0, 2) }?;
            let (ruby, object) = (ruby(), value(this));
            wanted = count(&ruby, args.first().copied().map(value), most(of::<SemaphoreData>(object)))?;
            let timeout = match args.get(1).copied().map(value).filter(|seconds| !seconds.is_nil()) {
                Some(seconds) => Timeout::parse_try(&ruby, seconds)?,
                None => Timeout::Passed,
            };
            take(&ruby, object, wanted, timeout).map(boolean)
        }) == TRUE;
    // SAFETY: a method's receiver; nothing to drop in this frame.
    unsafe {
        match taken {
            true => with_block(this, typed_data::get::<SemaphoreData>(this), wanted, TRUE),
            false if rb_sys::rb_block_given_p() != 0 => NIL,
            false => FALSE,
        }
    }
}

fn release(ruby: &Ruby, object: Value, args: &[Value]) -> Result<(), Error> {
    ruby.check_arity(args.len(), 0..=1)?;
    let data = of::<SemaphoreData>(object);
    match count(ruby, args.first().copied(), MAX)? {
        0 => data.check(ruby),
        count => data.post(ruby, count),
    }
}

fn drain_permits(ruby: &Ruby, object: Value) -> Result<i64, Error> {
    let data = of::<SemaphoreData>(object);
    let semaphore = prepared(ruby, data)?;
    data.patiently(ruby, 0, |thread| semaphore.drain(thread))
}

fn reduce_permits(ruby: &Ruby, object: Value, reduction: Value) -> Result<(), Error> {
    let data = of::<SemaphoreData>(object);
    let semaphore = data.open(ruby)?;
    let reduction = count(ruby, Some(reduction), MAX)?;
    let least = if data.is_binary() { 0 } else { -i64::from(MOST_AT_ONCE) };
    let reduced =
        data.patiently(ruby, reduction, |thread| match semaphore.reduce(thread, reduction, least) {
            Err(SemaphoreRefusal::Overflow) => Ok(false),
            reduced => reduced.map(|()| true),
        })?;
    if reduced {
        return Ok(());
    }
    let text = format!("the value is {}, and cannot be less than {least}", semaphore.value());
    Err(Error::new(ruby.exception_arg_error(), text))
}

fn prepared<'a>(ruby: &Ruby, data: &'a SemaphoreData) -> Result<&'a Semaphore, Error> {
    let semaphore = data.open(ruby)?;
    semaphore::prepare(ruby, semaphore)?;
    Ok(semaphore)
}

/// The semaphore, if it is robust.
fn robust<'a>(ruby: &Ruby, data: &'a SemaphoreData) -> Result<&'a Semaphore, Error> {
    let semaphore = data.open(ruby)?;
    match semaphore.is_robust() {
        true => Ok(semaphore),
        false => Err(errors::ownership(ruby, "the semaphore is not robust: see robust: of new".to_owned())),
    }
}

fn resize(ruby: &Ruby, object: Value, limit: Value) -> Result<Value, Error> {
    let data = of::<SemaphoreData>(object);
    let (semaphore, limit) = (robust(ruby, data)?, count(ruby, Some(limit), MAX)?);
    data.patiently(ruby, limit, |thread| semaphore.resize(thread, limit)).map(|()| object)
}

fn holders(ruby: &Ruby, object: Value) -> Result<RHash, Error> {
    let data = of::<SemaphoreData>(object);
    let semaphore = robust(ruby, data)?;
    let hash = ruby.hash_new();
    for (pid, held) in data.patiently(ruby, 0, |thread| semaphore.holders(thread))? {
        hash.aset(pid, held)?;
    }
    Ok(hash)
}

pub fn init(class: RClass) -> Result<(), Error> {
    define(class, "acquire", acquire as MethodN)?;
    define(class, "try_acquire", try_acquire as MethodN)?;
    class.define_method("release", method!(release, -1))?;
    class.define_method("drain_permits", method!(drain_permits, 0))?;
    class.define_method("reduce_permits", method!(reduce_permits, 1))?;
    class.define_method("resize", method!(resize, 1))?;
    class.define_method("holders", method!(holders, 0))?;
    Ok(class.define_alias("available_permits", "value")?)
}
