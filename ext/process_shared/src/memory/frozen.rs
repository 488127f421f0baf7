//! Objects that refuse to be changed.

use rb_sys::VALUE;

use crate::errors::Error;
use crate::raw_methods::{raising, ruby};

/// # Safety
/// `object` is a heap object.
#[inline(always)]
pub unsafe fn frozen(object: VALUE) -> bool {
    // SAFETY: as the caller promises.
    unsafe { flag(object, rb_sys::ruby_fl_type::RUBY_FL_FREEZE) }
}

/// Whether other Ractors may have it.
///
/// # Safety
/// `object` is a heap object.
pub unsafe fn shareable(object: VALUE) -> bool {
    // SAFETY: as the caller promises. Ruby sets the flag before another Ractor can get hold of the object.
    unsafe { flag(object, rb_sys::ruby_fl_type::RUBY_FL_SHAREABLE) }
}

#[inline(always)]
unsafe fn flag(object: VALUE, flag: rb_sys::ruby_fl_type) -> bool {
    // SAFETY: every heap object begins with an RBasic.
    let flags = unsafe { (*(object as *const rb_sys::RBasic)).flags };
    flags & (flag as VALUE) != 0
}

/// The `FrozenError` for an `object` that is frozen.
#[cold]
pub fn frozen_error(object: VALUE) -> Error {
    // SAFETY: any object; raises FrozenError, inside `raising`.
    let refused = raising(|| unsafe {
        rb_sys::rb_error_frozen_object(object);
    });
    refused.err().unwrap_or_else(|| Error::new(ruby().exception_frozen_error(), "can't modify frozen object"))
}
