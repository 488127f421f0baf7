//! The accessors of Pointer for several numbers: `get_array_of_T put_array_of_T read_array_of_T
//! write_array_of_T`.
//!
//! The range is checked once, and every element is converted before the first byte is written.

use std::{ptr, slice};

use magnus::RClass;
use rb_sys::VALUE;
use rb_sys::macros::{RARRAY_CONST_PTR, RARRAY_LEN, RSTRING_PTR};
use rb_sys::ruby_value_type::RUBY_T_ARRAY;

use super::arguments::{check_type, index};
use super::number::Number;
use super::this::{This, This1, This2, define};
use crate::errors::Error;
use crate::raw_methods::{answer, answer_with, raising, ruby};

/// Elements converted between two calls into Ruby's array functions.
const BATCH: usize = 256;

#[inline(never)] // in its callers, the loops come out several times slower
fn get_array_at<T: Number>(this: This, offset: i64, count: i64) -> Result<VALUE, Error> {
    if count < 0 {
        let text = "negative array size (or size too big)";
        return Err(Error::new(ruby().exception_arg_error(), text));
    }
    let start = this.bytes(offset, count.saturating_mul(T::WIDTH))?.cast_const().cast::<T::Native>();
    let (count, swapped) = (count as usize, this.swapped());
    raising(move || {
        let mut batch = [rb_sys::Qnil as VALUE; BATCH];
        // SAFETY: `bytes` has checked the whole range; `batch` is on the stack, where the collector sees it;
        // array functions and allocation run no Ruby code.
        unsafe {
            let array = rb_sys::rb_ary_new_capa(count as _);
            let mut done = 0;
            while done < count {
                let now = (count - done).min(BATCH);
                read_all::<T>(start.add(done), &mut batch[..now], swapped);
                rb_sys::rb_ary_cat(array, batch.as_ptr(), now as _);
                done += now;
            }
            array
        }
    })
}

/// # Safety
/// There are as many numbers at `address` as `values` has room for.
#[inline(always)]
unsafe fn read_all<T: Number>(address: *const T::Native, values: &mut [VALUE], swapped: bool) {
    if swapped {
        for (position, value) in values.iter_mut().enumerate() {
            // SAFETY: as the caller promises.
            *value = T::to_ruby(T::swap(unsafe { address.add(position).read_unaligned() }));
        }
    } else {
        for (position, value) in values.iter_mut().enumerate() {
            // SAFETY: as the caller promises.
            *value = T::to_ruby(unsafe { address.add(position).read_unaligned() });
        }
    }
}

#[inline(never)] // as above
fn put_array_at<T: Number>(this: This, offset: i64, array: VALUE) -> Result<(), Error> {
    check_type(array, RUBY_T_ARRAY)?;
    this.check_writable()?;
    // SAFETY: it is an Array.
    let count = unsafe { RARRAY_LEN(array) } as usize;
    let length = count.saturating_mul(size_of::<T::Native>());
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let address = this.bytes(offset, length)?;
    let swapped = this.swapped();
    let values: &[VALUE] = match count {
        0 => &[],
        // SAFETY: it is an Array of `count` elements, and nothing runs while the slice is used.
        _ => unsafe { slice::from_raw_parts(RARRAY_CONST_PTR(array), count) },
    };
    if !all_quick::<T>(values) {
        return put_converted::<T>(this, offset, array, count);
    }
    let natives = values.iter().map(|&value| T::quick(value).unwrap_or_default());
    // SAFETY: `bytes` has checked the whole range, and `quick` runs no Ruby code.
    unsafe { write_all::<T>(address, natives, swapped) };
    Ok(())
}

/// The rest of `put_array_at`, which has looked at everything once: conversions may run any code.
#[cold]
#[inline(never)] // as above
fn put_converted<T: Number>(this: This, offset: i64, array: VALUE, count: usize) -> Result<(), Error> {
    let converted = convert_all(array, count, T::from_ruby)?;
    this.check_writable()?;
    let address = this.bytes(offset, count as i64 * T::WIDTH)?;
    // SAFETY: `bytes` has checked the whole range; the String holds `count` numbers, and nothing is allocated
    // from here on.
    unsafe {
        let from = RSTRING_PTR(converted).cast::<T::Native>();
        let natives = (0..count).map(|position| from.add(position).read_unaligned());
        write_all::<T>(address, natives, this.swapped());
    }
    Ok(())
}

/// True where no element needs a call into Ruby. In blocks without an exit, which compile to vector
/// instructions.
fn all_quick<T: Number>(values: &[VALUE]) -> bool {
    values.chunks(64).all(|block| block.iter().fold(true, |all, &value| all & T::quick(value).is_some()))
}

/// What `convert` makes of `count` elements, one behind the other in a hidden String. Conversions may run any
/// code, which may even come back a second time (`callcc`): nothing on this stack may need a drop, so the
/// collector frees the room.
#[cold]
pub fn convert_all<N: Copy>(
    array: VALUE,
    count: usize,
    convert: fn(VALUE) -> Result<N, Error>,
) -> Result<VALUE, Error> {
    // SAFETY: allocates; the caller has found room for as many bytes in memory.
    let room = unsafe { rb_sys::rb_obj_hide(rb_sys::rb_str_new(ptr::null(), (count * size_of::<N>()) as _)) };
    for position in 0..count {
        // SAFETY: an Array; the function checks the position, as a conversion may have shortened it.
        let native = convert(unsafe { rb_sys::rb_ary_entry(array, position as _) })?;
        // SAFETY: nobody else has the String, which has room for `count` of them.
        unsafe { RSTRING_PTR(room).cast::<N>().cast_mut().add(position).write_unaligned(native) };
    }
    Ok(room)
}

/// # Safety
/// There is room for all of `natives` at `address`.
#[inline(always)]
unsafe fn write_all<T: Number>(address: *mut u8, natives: impl Iterator<Item = T::Native>, swapped: bool) {
    let address = address.cast::<T::Native>();
    if swapped {
        for (position, native) in natives.enumerate() {
            // SAFETY: as the caller promises.
            unsafe { address.add(position).write_unaligned(T::swap(native)) };
        }
    } else {
        for (position, native) in natives.enumerate() {
            // SAFETY: as the caller promises.
            unsafe { address.add(position).write_unaligned(native) };
        }
    }
}

extern "C" fn get_array<T: Number>(this: This, offset: VALUE, count: VALUE) -> VALUE {
    answer(|| {
        let count = index(count)?; // first, as in ffi
        get_array_at::<T>(this, index(offset)?, count)
    })
}

extern "C" fn put_array<T: Number>(this: This, offset: VALUE, array: VALUE) -> VALUE {
    answer_with(this.raw(), || put_array_at::<T>(this, index(offset)?, array))
}

extern "C" fn read_array<T: Number>(this: This, count: VALUE) -> VALUE {
    answer(|| get_array_at::<T>(this, 0, index(count)?))
}

extern "C" fn write_array<T: Number>(this: This, array: VALUE) -> VALUE {
    answer_with(this.raw(), || put_array_at::<T>(this, 0, array))
}

pub fn accessors<T: Number>(class: RClass, name: &str) -> Result<(), Error> {
    define(class, &format!("get_array_of_{name}"), get_array::<T> as This2)?;
    define(class, &format!("put_array_of_{name}"), put_array::<T> as This2)?;
    define(class, &format!("read_array_of_{name}"), read_array::<T> as This1)?;
    define(class, &format!("write_array_of_{name}"), write_array::<T> as This1)
}
