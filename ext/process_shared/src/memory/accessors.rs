//! The number accessors of Pointer: `get_T put_T read_T write_T` and their array forms, for every type and alias.
//!
//! One generic function per kind of access, compiled for each type. The order of events is ffi's: the value is
//! converted, then the object must be writable, then the range must lie inside. Between the last check and the access
//! nothing can run. Arrays check their range once, and convert every element before the first byte is written.

use std::{ptr, slice};

use magnus::RClass;
use rb_sys::VALUE;
use rb_sys::macros::{RARRAY_CONST_PTR, RARRAY_LEN, RB_TYPE_P, RSTRING_PTR};

use super::handle::{Handle, Place, frozen};
use super::number::{
    Float32, Float64, Int8, Int16, Int32, Int64, Long, Number, UInt8, UInt16, UInt32, UInt64, ULong, fixnum,
    index,
};
use crate::errors::Error;
use crate::raw_methods::{Method0, Method1, Method2, answer, answer_with, define, raising, ruby};

/// Elements converted between two calls into Ruby's array functions.
const BATCH: usize = 256;

/// Reads one number. Other processes may write it meanwhile: the result is then some number.
///
/// # Safety
/// `address` lies in mapped memory, with room for T.
#[inline(always)]
unsafe fn load<T: Number>(address: *const u8, swapped: bool) -> T::Native {
    let address = address.cast::<T::Native>();
    // SAFETY: as the caller promises. An aligned read is volatile, so that it happens once and is not torn.
    let native =
        unsafe { if address.is_aligned() { address.read_volatile() } else { address.read_unaligned() } };
    if swapped { T::swap(native) } else { native }
}

/// Writes one number.
///
/// # Safety
/// As for `load`.
#[inline(always)]
unsafe fn store<T: Number>(address: *mut u8, native: T::Native, swapped: bool) {
    let native = if swapped { T::swap(native) } else { native };
    let address = address.cast::<T::Native>();
    // SAFETY: as the caller promises.
    unsafe {
        if address.is_aligned() { address.write_volatile(native) } else { address.write_unaligned(native) }
    }
}

/// # Safety
/// `this` is a Pointer; so for all that follow.
#[inline(always)]
pub unsafe fn get_at<T: Number>(this: VALUE, place: impl Place) -> Result<VALUE, Error> {
    // SAFETY: as the caller promises; and `locate` has checked the range that is read.
    unsafe {
        let handle = Handle::of(this);
        let address = place.locate(handle, T::WIDTH)?;
        Ok(T::to_ruby(load::<T>(address, handle.swapped())))
    }
}

/// # Safety
/// As for `get_at`.
#[inline(always)]
pub unsafe fn put_at<T: Number>(this: VALUE, place: impl Place, native: T::Native) -> Result<(), Error> {
    // SAFETY: as the caller promises; and `locate` has checked the range that is written.
    unsafe {
        let handle = Handle::of(this);
        handle.check_writable(this)?;
        let address = place.locate(handle, T::WIDTH)?;
        store::<T>(address, native, handle.swapped());
    }
    Ok(())
}

/// # Safety
/// As for `get_at`.
pub unsafe fn get_array_at<T: Number>(this: VALUE, offset: i64, count: i64) -> Result<VALUE, Error> {
    // SAFETY: as the caller promises.
    let handle = unsafe { Handle::of(this) };
    if count < 0 {
        let text = "negative array size (or size too big)";
        return Err(Error::new(ruby().exception_arg_error(), text));
    }
    let width = T::WIDTH;
    let mut address = handle.bytes(offset, count.saturating_mul(width))?.cast_const();
    let (count, swapped) = (count as usize, handle.swapped());
    raising(|| {
        let mut batch = [rb_sys::Qnil as VALUE; BATCH];
        // SAFETY: `bytes` has checked the whole range; `batch` is on the stack, where the collector sees it; array
        // functions and allocation run no Ruby code.
        unsafe {
            let array = rb_sys::rb_ary_new_capa(count as _);
            let mut left = count;
            while left > 0 {
                let now = left.min(BATCH);
                for slot in &mut batch[..now] {
                    let native = address.cast::<T::Native>().read_unaligned();
                    *slot = T::to_ruby(if swapped { T::swap(native) } else { native });
                    address = address.add(size_of::<T::Native>());
                }
                rb_sys::rb_ary_cat(array, batch.as_ptr(), now as _);
                left -= now;
            }
            array
        }
    })
}

/// # Safety
/// As for `get_at`.
#[inline(never)] // in its callers, the loops come out a third slower
pub unsafe fn put_array_at<T: Number>(this: VALUE, offset: i64, array: VALUE) -> Result<(), Error> {
    // SAFETY: as the caller promises.
    let handle = unsafe { Handle::of(this) };
    check_type(array, rb_sys::ruby_value_type::RUBY_T_ARRAY)?;
    // SAFETY: as the caller promises.
    unsafe { handle.check_writable(this) }?;
    // SAFETY: it is an Array.
    let count = unsafe { RARRAY_LEN(array) } as usize;
    let length = count.saturating_mul(size_of::<T::Native>());
    let length = i64::try_from(length).unwrap_or(i64::MAX);
    let address = handle.bytes(offset, length)?;
    let swapped = handle.swapped();
    let values: &[VALUE] = match count {
        0 => &[],
        // SAFETY: it is an Array of `count` elements, and nothing runs while the slice is used.
        _ => unsafe { slice::from_raw_parts(RARRAY_CONST_PTR(array), count) },
    };
    if all_quick::<T>(values) {
        let natives = values.iter().map(|&value| T::quick(value).unwrap_or_default());
        // SAFETY: `bytes` has checked the whole range, and `quick` runs no Ruby code.
        unsafe { write_all::<T>(address, natives, swapped) };
        return Ok(());
    }
    // SAFETY: as the caller promises.
    unsafe { put_converted::<T>(this, offset, array, count) }
}

/// The rest of `put_array_at`, which has looked at everything once: conversions may run any code.
#[cold]
#[inline(never)] // as above
unsafe fn put_converted<T: Number>(
    this: VALUE,
    offset: i64,
    array: VALUE,
    count: usize,
) -> Result<(), Error> {
    let converted = convert_all(array, count, T::from_ruby)?;
    // SAFETY: as the caller promises. `bytes` has checked the whole range; the String holds `count` numbers, and nothing is
    // allocated from there on.
    unsafe {
        let handle = Handle::of(this);
        handle.check_writable(this)?;
        let address = handle.bytes(offset, count as i64 * T::WIDTH)?;
        let from = RSTRING_PTR(converted).cast::<T::Native>();
        let natives = (0..count).map(|position| from.add(position).read_unaligned());
        write_all::<T>(address, natives, handle.swapped());
    }
    Ok(())
}

/// True where no element needs a call into Ruby. In blocks without an exit, which compile to vector instructions.
fn all_quick<T: Number>(values: &[VALUE]) -> bool {
    values.chunks(64).all(|block| block.iter().fold(true, |all, &value| all & T::quick(value).is_some()))
}

/// What `convert` makes of `count` elements, one behind the other in a hidden String. Conversions may run any code, also such
/// that comes back a second time (`callcc`): what is on this stack must not need a drop, so the collector frees the room.
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

/// Nearly all calls are done in this function; what is left needs room for an error.
pub unsafe extern "C" fn get<T: Number, P: Place>(this: VALUE, place: VALUE) -> VALUE {
    // SAFETY: `this` is a Pointer (rule 3 of bind.rs); so below. `find` has checked the range that is read.
    unsafe {
        let handle = Handle::of(this);
        match fixnum(place).and_then(|number| P::from(number).find(handle, T::WIDTH)) {
            Some(address) => T::to_ruby(load::<T>(address, handle.swapped())),
            None => get_slowly::<T, P>(this, place),
        }
    }
}

#[cold]
#[inline(never)]
unsafe fn get_slowly<T: Number, P: Place>(this: VALUE, place: VALUE) -> VALUE {
    // SAFETY: as above.
    answer(|| unsafe { get_at::<T>(this, P::from(index(place)?)) })
}

/// As `get`.
pub unsafe extern "C" fn put<T: Number, P: Place>(this: VALUE, place: VALUE, value: VALUE) -> VALUE {
    // SAFETY: as above; nothing is written through a frozen object.
    unsafe {
        let handle = Handle::of(this);
        let quick = fixnum(place).zip(T::quick(value)).filter(|_| !frozen(this));
        let found =
            quick.and_then(|(number, native)| Some((P::from(number).find(handle, T::WIDTH)?, native)));
        match found {
            Some((address, native)) => {
                store::<T>(address, native, handle.swapped());
                this
            }
            None => put_slowly::<T, P>(this, place, value),
        }
    }
}

#[cold]
#[inline(never)]
unsafe fn put_slowly<T: Number, P: Place>(this: VALUE, place: VALUE, value: VALUE) -> VALUE {
    // SAFETY: as above.
    answer_with(this, || unsafe {
        let place = P::from(index(place)?);
        put_at::<T>(this, place, T::from_ruby(value)?)
    })
}

unsafe extern "C" fn read<T: Number>(this: VALUE) -> VALUE {
    // SAFETY: as above.
    answer(|| unsafe { get_at::<T>(this, 0) })
}

unsafe extern "C" fn write<T: Number>(this: VALUE, value: VALUE) -> VALUE {
    // SAFETY: as above.
    answer_with(this, || unsafe { put_at::<T>(this, 0, T::from_ruby(value)?) })
}

unsafe extern "C" fn get_array<T: Number>(this: VALUE, offset: VALUE, count: VALUE) -> VALUE {
    // SAFETY: as above.
    answer(|| unsafe {
        let count = index(count)?; // first, as in ffi
        get_array_at::<T>(this, index(offset)?, count)
    })
}

unsafe extern "C" fn put_array<T: Number>(this: VALUE, offset: VALUE, array: VALUE) -> VALUE {
    // SAFETY: as above.
    answer_with(this, || unsafe { put_array_at::<T>(this, index(offset)?, array) })
}

unsafe extern "C" fn read_array<T: Number>(this: VALUE, count: VALUE) -> VALUE {
    // SAFETY: as above.
    answer(|| unsafe { get_array_at::<T>(this, 0, index(count)?) })
}

unsafe extern "C" fn write_array<T: Number>(this: VALUE, array: VALUE) -> VALUE {
    // SAFETY: as above.
    answer_with(this, || unsafe { put_array_at::<T>(this, 0, array) })
}

fn accessors<T: Number>(class: RClass, names: &[&str]) -> Result<(), Error> {
    for name in names {
        define(class, &format!("get_{name}"), get::<T, i64> as Method1)?;
        define(class, &format!("put_{name}"), put::<T, i64> as Method2)?;
        define(class, &format!("read_{name}"), read::<T> as Method0)?;
        define(class, &format!("write_{name}"), write::<T> as Method1)?;
        define(class, &format!("get_array_of_{name}"), get_array::<T> as Method2)?;
        define(class, &format!("put_array_of_{name}"), put_array::<T> as Method2)?;
        define(class, &format!("read_array_of_{name}"), read_array::<T> as Method1)?;
        define(class, &format!("write_array_of_{name}"), write_array::<T> as Method1)?;
    }
    Ok(())
}

pub fn init(class: RClass) -> Result<(), Error> {
    accessors::<Int8>(class, &["int8", "char"])?;
    accessors::<UInt8>(class, &["uint8", "uchar"])?;
    accessors::<Int16>(class, &["int16", "short"])?;
    accessors::<UInt16>(class, &["uint16", "ushort"])?;
    accessors::<Int32>(class, &["int32", "int"])?;
    accessors::<UInt32>(class, &["uint32", "uint"])?;
    accessors::<Int64>(class, &["int64", "long_long"])?;
    accessors::<UInt64>(class, &["uint64", "ulong_long"])?;
    accessors::<Long>(class, &["long"])?;
    accessors::<ULong>(class, &["ulong"])?;
    accessors::<Float32>(class, &["float32", "float"])?;
    accessors::<Float64>(class, &["float64", "double"])
}
