//! Bytes and strings: `get_bytes put_bytes get_string put_string` and their relatives. All Strings given out are
//! copies, and binary (ASCII-8BIT).
//!
//! As everywhere, arguments are converted first and the address is taken last. A String that is written is looked at
//! only then, since converting the other arguments may have changed it.

use std::ffi::c_int;
use std::ptr;

use magnus::RClass;
use process_shared_core::Error as CoreError;
use process_shared_core::memory::populate;
use rb_sys::VALUE;
use rb_sys::macros::{RB_TYPE_P, RSTRING_LEN, RSTRING_PTR};
use rb_sys::ruby_value_type::RUBY_T_STRING;

use super::accessors::check_type;
use super::handle::{Handle, Place, frozen};
use super::number::{fixnum, index, optional_index};
use crate::errors::{self, Error};
use crate::raw_methods::{Method1, Method2, MethodN, answer, answer_with, arguments, define, ruby};

/// So large a String gets memory of its own from the system (glibc's allocator keeps none of this size), and to take that
/// is most of the work.
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

/// Keeps an object on the stack, where the collector sees it, up to this call: C's RB_GC_GUARD. An object whose bytes are
/// used after its last mention needs that wherever Ruby may allocate before the last use of the bytes.
#[inline(always)]
pub fn guard(object: VALUE) {
    // SAFETY: reads a local.
    unsafe { ptr::read_volatile(&raw const object) };
}

/// # Safety
/// `this` is a Pointer; so for all that follow.
#[inline(always)]
pub unsafe fn get(this: VALUE, offset: i64, length: i64) -> Result<VALUE, Error> {
    // SAFETY: as the caller promises; `bytes` has checked the range.
    unsafe {
        let address = Handle::of(this).bytes(offset, length)?;
        Ok(string(address, length as usize))
    }
}

/// The bytes up to the first NUL, or `length` of them, or all there are.
unsafe fn get_until_nul(this: VALUE, offset: i64, length: Option<i64>) -> Result<VALUE, Error> {
    // SAFETY: as the caller promises.
    let handle = unsafe { Handle::of(this) };
    let length = match length {
        Some(length) => length,
        None => (handle.check()?.size as i64).saturating_sub(offset),
    };
    let address = handle.bytes(offset, length)?.cast_const();
    // SAFETY: `bytes` has checked the range; memchr looks at no byte behind it.
    unsafe {
        let nul: *const u8 = libc::memchr(address.cast(), 0, length as usize).cast_const().cast();
        let found = if nul.is_null() { length as usize } else { nul.addr() - address.addr() };
        Ok(string(address, found))
    }
}

/// Copies `length` bytes of the String `text` from `from`, which is not negative (all the rest without a length), and `more` NULs, to `offset`.
#[inline(always)]
pub unsafe fn put(
    this: VALUE,
    offset: i64,
    text: VALUE,
    from: i64,
    length: Option<i64>,
    more: usize,
) -> Result<(), Error> {
    // SAFETY: `text` is a String: `put_bytes` and the others have checked that.
    let held = unsafe { RSTRING_LEN(text) } as i64;
    if length.is_some_and(|length| from.saturating_add(length) > held) {
        return Err(Error::new(
            ruby().exception_range_error(),
            "index+length is greater than size of string",
        ));
    }
    let length = length.unwrap_or(held - from);
    // SAFETY: as the caller promises.
    let handle = unsafe { Handle::of(this) };
    if length < 0 {
        let size = handle.check()?.size;
        let outside = CoreError::OutOfBounds { offset, length, size };
        return Err(errors::to_ruby(&ruby(), outside));
    }
    // SAFETY: as the caller promises. The source range was checked above, the target by `bytes`, and nothing ran in
    // between. No String ever points into shared memory that Ruby code can get hold of, so they do not overlap.
    unsafe {
        handle.check_writable(this)?;
        let address = handle.bytes(offset, length.saturating_add(more as i64))?;
        ptr::copy_nonoverlapping(RSTRING_PTR(text).cast::<u8>().add(from as usize), address, length as usize);
        ptr::write_bytes(address.add(length as usize), 0, more);
    }
    Ok(())
}

unsafe extern "C" fn get_bytes(this: VALUE, offset: VALUE, length: VALUE) -> VALUE {
    // SAFETY: `this` is a Pointer (rule 3 of bind.rs), and the arguments are Ruby's; so below.
    answer(|| unsafe {
        let offset = index(offset)?;
        get(this, offset, index(length)?)
    })
}

unsafe extern "C" fn read_bytes(this: VALUE, length: VALUE) -> VALUE {
    // SAFETY: as above.
    answer(|| unsafe { get(this, 0, index(length)?) })
}

/// `put_bytes(offset, string, index = 0, length = nil)`: a whole String, in nearly all calls.
unsafe extern "C" fn put_bytes(argc: c_int, argv: *const VALUE, this: VALUE) -> VALUE {
    // SAFETY: as above: there are as many arguments as Ruby says. `find` has checked the range that is written; for the
    // source, see `put`.
    unsafe {
        if argc == 2 && RB_TYPE_P(*argv.add(1), RUBY_T_STRING) && !frozen(this) {
            let (offset, text) = (fixnum(*argv), *argv.add(1));
            let length = RSTRING_LEN(text) as i64;
            let place =
                offset.filter(|_| length > 0).and_then(|offset| offset.find(Handle::of(this), length));
            if let Some(address) = place {
                ptr::copy_nonoverlapping(RSTRING_PTR(text).cast(), address, length as usize);
                return this;
            }
        }
        put_bytes_slowly(argc, argv, this)
    }
}

#[cold]
#[inline(never)]
unsafe fn put_bytes_slowly(argc: c_int, argv: *const VALUE, this: VALUE) -> VALUE {
    // SAFETY: as above.
    answer_with(this, || unsafe {
        let given = arguments(argc, argv, 2, 4)?;
        check_type(given[1], RUBY_T_STRING)?;
        let offset = index(given[0])?;
        put_part(this, offset, &given[1..])
    })
}

/// `write_bytes(string, index = 0, length = nil)`
unsafe extern "C" fn write_bytes(argc: c_int, argv: *const VALUE, this: VALUE) -> VALUE {
    // SAFETY: as above.
    answer_with(this, || unsafe { put_part(this, 0, arguments(argc, argv, 1, 3)?) })
}

#[inline(always)]
unsafe fn put_part(this: VALUE, offset: i64, given: &[VALUE]) -> Result<(), Error> {
    check_type(given[0], RUBY_T_STRING)?;
    let from = optional_index(given.get(1))?.unwrap_or(0);
    if from < 0 {
        return Err(Error::new(ruby().exception_range_error(), "index cannot be less than zero"));
    }
    let length = optional_index(given.get(2))?;
    // SAFETY: as the caller promises.
    unsafe { put(this, offset, given[0], from, length, 0) }
}

/// `get_string(offset, length = nil)`
unsafe extern "C" fn get_string(argc: c_int, argv: *const VALUE, this: VALUE) -> VALUE {
    // SAFETY: as above.
    answer(|| unsafe {
        let given = arguments(argc, argv, 1, 2)?;
        let offset = index(given[0])?;
        get_until_nul(this, offset, optional_index(given.get(1))?)
    })
}

unsafe extern "C" fn put_string(this: VALUE, offset: VALUE, text: VALUE) -> VALUE {
    // SAFETY: as above.
    answer_with(this, || unsafe {
        check_type(text, RUBY_T_STRING)?;
        let offset = index(offset)?;
        put(this, offset, text, 0, None, 1)
    })
}

/// `read_string(length = nil)`: with a length, as many bytes, NULs and all.
unsafe extern "C" fn read_string(argc: c_int, argv: *const VALUE, this: VALUE) -> VALUE {
    // SAFETY: as above.
    answer(|| unsafe {
        match optional_index(arguments(argc, argv, 0, 1)?.first())? {
            Some(length) => get(this, 0, length),
            None => get_until_nul(this, 0, None),
        }
    })
}

unsafe extern "C" fn read_string_to_null(this: VALUE) -> VALUE {
    // SAFETY: as above.
    answer(|| unsafe { get_until_nul(this, 0, None) })
}

/// `write_string(string, length = nil)`: no NUL is added.
unsafe extern "C" fn write_string(argc: c_int, argv: *const VALUE, this: VALUE) -> VALUE {
    // SAFETY: as above.
    answer_with(this, || unsafe {
        let given = arguments(argc, argv, 1, 2)?;
        check_type(given[0], RUBY_T_STRING)?;
        let length = optional_index(given.get(1))?;
        put(this, 0, given[0], 0, length, 0)
    })
}

unsafe extern "C" fn write_string_length(this: VALUE, text: VALUE, length: VALUE) -> VALUE {
    // SAFETY: as above.
    answer_with(this, || unsafe {
        check_type(text, RUBY_T_STRING)?;
        put(this, 0, text, 0, Some(index(length)?), 0)
    })
}

unsafe extern "C" fn clear(this: VALUE) -> VALUE {
    // SAFETY: as above; the range is all of the window.
    answer_with(this, || unsafe {
        let handle = Handle::of(this);
        handle.check_writable(this)?;
        let window = handle.check()?;
        ptr::write_bytes(window.start, 0, window.size);
        Ok(())
    })
}

/// `__copy_from__(source, length)`: the first bytes of another Pointer, or of anything with `get_bytes`.
unsafe extern "C" fn copy_from(this: VALUE, source: VALUE, length: VALUE) -> VALUE {
    // SAFETY: as above; both ranges were checked, and may overlap.
    answer_with(this, || unsafe {
        let length = index(length)?;
        let Some(from) = Handle::inside(source) else {
            let bytes = super::foreign::bytes_of(source, length)?;
            return put(this, 0, bytes, 0, None, 0);
        };
        let handle = Handle::of(this);
        handle.check_writable(this)?;
        let (from, to) = (from.bytes(0, length)?, handle.bytes(0, length)?);
        ptr::copy(from, to, length as usize);
        Ok(())
    })
}

pub fn init(class: RClass) -> Result<(), Error> {
    define(class, "get_bytes", get_bytes as Method2)?;
    define(class, "put_bytes", put_bytes as MethodN)?;
    define(class, "read_bytes", read_bytes as Method1)?;
    define(class, "write_bytes", write_bytes as MethodN)?;
    define(class, "get_string", get_string as MethodN)?;
    define(class, "put_string", put_string as Method2)?;
    define(class, "read_string", read_string as MethodN)?;
    define(class, "read_string_length", read_bytes as Method1)?;
    define(class, "read_string_to_null", read_string_to_null as crate::raw_methods::Method0)?;
    define(class, "write_string", write_string as MethodN)?;
    define(class, "write_string_length", write_string_length as Method2)?;
    define(class, "clear", clear as crate::raw_methods::Method0)?;
    define(class, "__copy_from__", copy_from as Method2)
}
