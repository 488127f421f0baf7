//! Arguments that say where and how much, and checks of what kind an argument is.

use std::ffi::c_long;

use rb_sys::VALUE;
use rb_sys::macros::{FIXNUM_P, RB_TYPE_P};

use crate::errors::Error;
use crate::raw_methods::{NIL, raising};

/// The number that Ruby keeps inside the VALUE, if it is such a number.
#[inline(always)]
#[allow(clippy::useless_conversion)] // c_long is i32 on 32-bit machines
pub fn fixnum(value: VALUE) -> Option<i64> {
    // A fixnum is its number, shifted left by one, with a 1 behind.
    FIXNUM_P(value).then(|| i64::from((value as c_long) >> 1))
}

/// An offset, length or count: what `NUM2LONG` makes of the object.
#[inline(always)]
pub fn index(value: VALUE) -> Result<i64, Error> {
    match fixnum(value) {
        Some(number) => Ok(number),
        None => converted(value),
    }
}

#[cold]
#[inline(never)]
#[allow(clippy::useless_conversion)] // as above
fn converted(value: VALUE) -> Result<i64, Error> {
    // SAFETY: takes any object; raises inside `raising`.
    raising(|| unsafe { rb_sys::rb_num2long(value) }).map(i64::from)
}

/// An argument that may be left out or nil.
pub fn optional_index(value: Option<&VALUE>) -> Result<Option<i64>, Error> {
    match value {
        None | Some(&NIL) => Ok(None),
        Some(&value) => index(value).map(Some),
    }
}

/// `TypeError "wrong argument type X (expected Y)"` for anything but a `wanted`.
#[inline(always)]
pub fn check_type(value: VALUE, wanted: rb_sys::ruby_value_type) -> Result<(), Error> {
    // SAFETY: any object.
    if unsafe { RB_TYPE_P(value, wanted) } {
        return Ok(());
    }
    // SAFETY: any object; raises inside `raising`.
    raising(|| unsafe { rb_sys::rb_check_type(value, wanted as _) })
}
