//! Changing a map: at once and with the GVL if that can be done, else without it.

use magnus::{Ruby, Value, prelude::*};
use process_shared_core::map::{Critical, Key, Map, Patience, Refusal, now};
use process_shared_core::{Outcome, Thread};
use std::cell::{Cell, RefCell};

use crate::errors::{self, Error};
use crate::map::{FULL_ERROR, MapData};
use crate::object::Object;
use crate::typed_data::of;
use crate::{nogvl, thread};

/// Values up to here are copied with the GVL.
pub const SMALL: usize = 64 << 10;

/// The exception for a refusal.
pub fn refused(ruby: &Ruby, refusal: Refusal) -> Error {
    match refusal {
        Refusal::Full | Refusal::TooLarge => Error::new(ruby.get_inner(&FULL_ERROR), refusal.to_string()),
        _ => errors::ownership(ruby, refusal.to_string()),
    }
}

/// Does `action`, which may be called several times, until it is not refused for lack of patience. `length` is how many bytes
/// are copied.
///
/// # Errors
/// The exception for what `action` says.
pub fn patiently<T>(
    ruby: &Ruby,
    object: Value,
    length: usize,
    action: impl FnMut(&Map, &Thread, Patience) -> Result<T, Refusal>,
) -> Result<T, Error> {
    let data = of::<MapData>(object);
    let map = data.open(ruby)?.entries();
    let action = RefCell::new(action);
    if length <= SMALL {
        let at_once = action.borrow_mut()(map, &thread::current(ruby)?, Patience::Hasty);
        match at_once {
            Err(Refusal::Busy) => {}
            result => return result.map_err(|refusal| refused(ruby, refusal)),
        }
    }
    let result = Cell::new(None);
    let attempt = |thread: &Thread| match action.borrow_mut()(map, thread, Patience::Patient) {
        Err(Refusal::Busy | Refusal::Interrupted) => Outcome::Interrupted,
        done => {
            result.set(Some(done));
            Outcome::Acquired
        }
    };
    // What has been done stays, also if an interrupt is due: it is looked at when the method has returned.
    nogvl::block(ruby, [Some(object), None], || data.check(ruby), attempt, |_, _| true)?;
    result.take().unwrap_or(Err(Refusal::Corrupt)).map_err(|refusal| refused(ruby, refusal))
}

/// Does `action` with the lock of the key's shard.
///
/// # Errors
/// As `patiently`.
pub fn change<T>(
    ruby: &Ruby,
    object: Value,
    key: &Key,
    length: usize,
    mut action: impl FnMut(&Critical<Thread>) -> Result<T, Refusal>,
) -> Result<T, Error> {
    patiently(ruby, object, length, |map, thread, patience| map.change(thread, key, patience, &mut action))
}

/// The instant that is so many seconds from now: 0 for nil, which is never.
///
/// # Errors
/// `TypeError` if `Kernel#sleep` would not take it either, `ArgumentError` if it is NaN.
pub fn instant(ruby: &Ruby, seconds: Option<Value>) -> Result<u64, Error> {
    let Some(seconds) = seconds.filter(|seconds| !seconds.is_nil()) else { return Ok(0) };
    // ActiveSupport's durations have no class in common with numbers.
    let number: f64 = if seconds.is_kind_of(ruby.class_numeric()) || seconds.respond_to("divmod", false)? {
        seconds.funcall("to_f", ())?
    } else {
        return Err(errors::wrong_type(ruby, seconds, "a number of seconds"));
    };
    if number.is_nan() {
        return Err(Error::new(ruby.exception_arg_error(), "expires_in: is not a number"));
    }
    if number <= 0.0 {
        return Ok(1); // the machine's first nanosecond
    }
    let nanoseconds = number * 1e9;
    // Beyond 500 years it is never.
    Ok(if nanoseconds < u64::MAX as f64 / 2.0 { now().saturating_add(nanoseconds as u64) } else { 0 })
}
