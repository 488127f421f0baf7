//! Bytes and strings: `get_bytes put_bytes get_string put_string` and their relatives. All Strings given out
//! are copies, and binary (ASCII-8BIT).
//!
//! As everywhere, arguments are converted first and the address is taken last. A String that is written is
//! looked at only then, since converting the other arguments may have changed it.

use std::ffi::c_int;
use std::ptr;

use magnus::RClass;
use process_shared_core::Error as CoreError;
use process_shared_core::memory::populate;
use rb_sys::VALUE;
use rb_sys::macros::{RB_TYPE_P, RSTRING_LEN, RSTRING_PTR};
use rb_sys::ruby_value_type::RUBY_T_STRING;

use super::arguments::{check_type, fixnum, index, optional_index};
use super::place::Place;
use super::this::{This, This0, This1, This2, ThisN, define};
use crate::errors::{self, Error};
use crate::raw_methods::{answer, answer_with, arguments, ruby};

/// So large a String gets memory of its own from the system (glibc's allocator keeps none of this size), and
/// to take that is most of the work.
const LARGE: usize = 32 << 20;

/// A new String of `length` bytes at `address`.
///
/// # Safety
/// The bytes are mapped, and no frame up to Ruby owns anything.
#[inline(always)]
unsafe fn string(address: *const u8, length: usize) -> VALUE {
    // SAFETY: as the caller promises; allocation runs no Ruby code.
    unsafe {
        if length < LARGE {
            return rb_sys::rb_str_new(address.cast(), length as _);
        }
        let text = rb_sys::rb_str_new(ptr::null(), length as _);
        let target = RSTRING_PTR(text).cast::<u8>().cast_mut();
        populate(target, length);
        ptr::copy_nonoverlapping(address, target, length);
        text
    }
}

/// Keeps an object on the stack, where the collector sees it, up to this call: C's RB_GC_GUARD. An object
/// whose bytes are used after its last mention needs that wherever Ruby may allocate before the last use of
/// the bytes.
#[inline(always)]
pub fn guard(object: VALUE) {
    // SAFETY: reads a local.
    unsafe { ptr::read_volatile(&raw const object) };
}

#[inline(always)]
pub fn get(this: This, offset: i64, length: i64) -> Result<VALUE, Error> {
    let address = this.bytes(offset, length)?;
    // SAFETY: `bytes` has checked the range, and no frame up to Ruby owns anything.
    Ok(unsafe { string(address, length as usize) })
}

/// The bytes up to the first NUL, or `length` of them, or all there are.
fn get_until_nul(this: This, offset: i64, length: Option<i64>) -> Result<VALUE, Error> {
    let length = match length {
        Some(length) => length,
        None => (this.check()?.size as i64).saturating_sub(offset),
    };
    let address = this.bytes(offset, length)?.cast_const();
    // SAFETY: `bytes` has checked the range; memchr looks at no byte behind it.
    unsafe {
        let nul: *const u8 = libc::memchr(address.cast(), 0, length as usize).cast_const().cast();
        let found = if nul.is_null() { length as usize } else { nul.addr() - address.addr() };
        Ok(string(address, found))
    }
}

/// Copies `length` bytes of `text` from `from` on (without a length all the rest), and `more` NULs, to
/// `offset`.
///
/// # Safety
/// `text` is a String, and `from` is not negative.
#[inline(always)]
pub unsafe fn put(
    this: This,
    offset: i64,
    text: VALUE,
    from: i64,
    length: Option<i64>,
    more: usize,
) -> Result<(), Error> {
    // SAFETY: as the caller promises.
    let held = unsafe { RSTRING_LEN(text) } as i64;
    if length.is_some_and(|length| from.saturating_add(length) > held) {
        return Err(Error::new(
            ruby().exception_range_error(),
            "index+length is greater than size of string",
        ));
    }
    let length = length.unwrap_or(held - from);
    if length < 0 {
        let size = this.check()?.size;
        let outside = CoreError::OutOfBounds { offset, length, size };
        return Err(errors::to_ruby(&ruby(), outside));
    }
    this.check_writable()?;
    let address = this.bytes(offset, length.saturating_add(more as i64))?;
    // SAFETY: the source range was checked above, the target by `bytes`, and nothing ran in between. No
    // String that Ruby code can get hold of points into shared memory, so they do not overlap.
    unsafe {
        ptr::copy_nonoverlapping(RSTRING_PTR(text).cast::<u8>().add(from as usize), address, length as usize);
        ptr::write_bytes(address.add(length as usize), 0, more);
    }
    Ok(())
}

extern "C" fn get_bytes(this: This, offset: VALUE, length: VALUE) -> VALUE {
    answer(|| {
        let offset = index(offset)?;
        get(this, offset, index(length)?)
    })
}

extern "C" fn read_bytes(this: This, length: VALUE) -> VALUE {
    answer(|| get(this, 0, index(length)?))
}

/// `put_bytes(offset, string, index = 0, length = nil)`: a whole String, in nearly all calls.
unsafe extern "C" fn put_bytes(argc: c_int, argv: *const VALUE, this: This) -> VALUE {
    // SAFETY: there are as many arguments as Ruby says. `find` has checked the range that is written; for the
    // source, see `put`.
    unsafe {
        if argc == 2 && RB_TYPE_P(*argv.add(1), RUBY_T_STRING) && !this.is_frozen() {
            let (offset, text) = (fixnum(*argv), *argv.add(1));
            let length = RSTRING_LEN(text) as i64;
            let place = offset.filter(|_| length > 0).and_then(|offset| offset.find(&this, length));
            if let Some(address) = place {
                ptr::copy_nonoverlapping(RSTRING_PTR(text).cast(), address, length as usize);
                return this.raw();
            }
        }
        put_bytes_slow(argc, argv, this)
    }
}

#[cold]
#[inline(never)]
unsafe fn put_bytes_slow(argc: c_int, argv: *const VALUE, this: This) -> VALUE {
    answer_with(this.raw(), || {
        // SAFETY: what Ruby passed; so below.
        let given = unsafe { arguments(argc, argv, 2, 4) }?;
        check_type(given[1], RUBY_T_STRING)?;
        let offset = index(given[0])?;
        put_part(this, offset, &given[1..])
    })
}

/// `write_bytes(string, index = 0, length = nil)`
unsafe extern "C" fn write_bytes(argc: c_int, argv: *const VALUE, this: This) -> VALUE {
    // SAFETY: as above.
    answer_with(this.raw(), || put_part(this, 0, unsafe { arguments(argc, argv, 1, 3) }?))
}

#[inline(always)]
fn put_part(this: This, offset: i64, given: &[VALUE]) -> Result<(), Error> {
    check_type(given[0], RUBY_T_STRING)?;
    let from = optional_index(given.get(1))?.unwrap_or(0);
    if from < 0 {
        return Err(Error::new(ruby().exception_range_error(), "index cannot be less than zero"));
    }
    let length = optional_index(given.get(2))?;
    // SAFETY: both were checked above.
    unsafe { put(this, offset, given[0], from, length, 0) }
}

/// `get_string(offset, length = nil)`
unsafe extern "C" fn get_string(argc: c_int, argv: *const VALUE, this: This) -> VALUE {
    answer(|| {
        // SAFETY: as above.
        let given = unsafe { arguments(argc, argv, 1, 2) }?;
        let offset = index(given[0])?;
        get_until_nul(this, offset, optional_index(given.get(1))?)
    })
}

extern "C" fn put_string(this: This, offset: VALUE, text: VALUE) -> VALUE {
    answer_with(this.raw(), || {
        check_type(text, RUBY_T_STRING)?;
        let offset = index(offset)?;
        // SAFETY: it is a String.
        unsafe { put(this, offset, text, 0, None, 1) }
    })
}

/// `read_string(length = nil)`: with a length, as many bytes, NULs and all.
unsafe extern "C" fn read_string(argc: c_int, argv: *const VALUE, this: This) -> VALUE {
    answer(|| {
        // SAFETY: as above.
        let given = unsafe { arguments(argc, argv, 0, 1) }?;
        match optional_index(given.first())? {
            Some(length) => get(this, 0, length),
            None => get_until_nul(this, 0, None),
        }
    })
}

extern "C" fn read_string_to_null(this: This) -> VALUE {
    answer(|| get_until_nul(this, 0, None))
}

/// `write_string(string, length = nil)`: no NUL is added.
unsafe extern "C" fn write_string(argc: c_int, argv: *const VALUE, this: This) -> VALUE {
    answer_with(this.raw(), || {
        // SAFETY: as above.
        let given = unsafe { arguments(argc, argv, 1, 2) }?;
        check_type(given[0], RUBY_T_STRING)?;
        let length = optional_index(given.get(1))?;
        // SAFETY: it is a String.
        unsafe { put(this, 0, given[0], 0, length, 0) }
    })
}

extern "C" fn write_string_length(this: This, text: VALUE, length: VALUE) -> VALUE {
    answer_with(this.raw(), || {
        check_type(text, RUBY_T_STRING)?;
        let length = index(length)?;
        // SAFETY: it is a String.
        unsafe { put(this, 0, text, 0, Some(length), 0) }
    })
}

extern "C" fn clear(this: This) -> VALUE {
    answer_with(this.raw(), || {
        this.check_writable()?;
        let window = this.check()?;
        // SAFETY: the range is all of the window.
        unsafe { ptr::write_bytes(window.start, 0, window.size) };
        Ok(())
    })
}

pub fn init(class: RClass) -> Result<(), Error> {
    define(class, "get_bytes", get_bytes as This2)?;
    define(class, "put_bytes", put_bytes as ThisN)?;
    define(class, "read_bytes", read_bytes as This1)?;
    define(class, "write_bytes", write_bytes as ThisN)?;
    define(class, "get_string", get_string as ThisN)?;
    define(class, "put_string", put_string as This2)?;
    define(class, "read_string", read_string as ThisN)?;
    define(class, "read_string_length", read_bytes as This1)?;
    define(class, "read_string_to_null", read_string_to_null as This0)?;
    define(class, "write_string", write_string as ThisN)?;
    define(class, "write_string_length", write_string_length as This2)?;
    define(class, "clear", clear as This0)
}
