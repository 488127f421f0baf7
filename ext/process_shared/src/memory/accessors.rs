//! The accessors of Pointer for one number: `get_T put_T read_T write_T`, for every type and alias.
//!
//! One generic function per kind of access, compiled for each type. The order of events is ffi's: the value
//! is converted, then the object must be writable, then the range must lie inside. Between the last check and
//! the access nothing can run.

use magnus::RClass;
use rb_sys::VALUE;

use super::arguments::{fixnum, index};
use super::number::{
    Float32, Float64, Int8, Int16, Int32, Int64, Long, Number, UInt8, UInt16, UInt32, UInt64, ULong,
};
use super::place::Place;
use super::this::{This, This0, This1, This2, define};
use super::{arrays, raw};
use crate::errors::Error;
use crate::raw_methods::{answer, answer_with};

#[inline(always)]
pub fn get_at<T: Number>(this: This, place: impl Place) -> Result<VALUE, Error> {
    let address = place.locate(&this, T::WIDTH)?;
    // SAFETY: `locate` has checked the range.
    Ok(T::to_ruby(unsafe { raw::load::<T>(address, this.swapped()) }))
}

#[inline(always)]
pub fn put_at<T: Number>(this: This, place: impl Place, native: T::Native) -> Result<(), Error> {
    this.check_writable()?;
    let address = place.locate(&this, T::WIDTH)?;
    // SAFETY: `locate` has checked the range.
    unsafe { raw::store::<T>(address, native, this.swapped()) };
    Ok(())
}

/// Nearly all calls are done in this function; what is left needs room for an error.
pub extern "C" fn get<T: Number, P: Place>(this: This, place: VALUE) -> VALUE {
    let handle = this.handle();
    match fixnum(place).and_then(|number| P::from(number).find(handle, T::WIDTH)) {
        // SAFETY: `find` has checked the range.
        Some(address) => T::to_ruby(unsafe { raw::load::<T>(address, handle.swapped()) }),
        None => get_slow::<T, P>(this, place),
    }
}

#[cold]
#[inline(never)]
fn get_slow<T: Number, P: Place>(this: This, place: VALUE) -> VALUE {
    answer(|| get_at::<T>(this, P::from(index(place)?)))
}

/// As `get`. Nothing is written through a frozen object.
pub extern "C" fn put<T: Number, P: Place>(this: This, place: VALUE, value: VALUE) -> VALUE {
    let handle = this.handle();
    let quick = fixnum(place).zip(T::quick(value)).filter(|_| !this.is_frozen());
    match quick.and_then(|(number, native)| Some((P::from(number).find(handle, T::WIDTH)?, native))) {
        Some((address, native)) => {
            // SAFETY: `find` has checked the range.
            unsafe { raw::store::<T>(address, native, handle.swapped()) };
            this.raw()
        }
        None => put_slow::<T, P>(this, place, value),
    }
}

#[cold]
#[inline(never)]
fn put_slow<T: Number, P: Place>(this: This, place: VALUE, value: VALUE) -> VALUE {
    answer_with(this.raw(), || {
        let place = P::from(index(place)?);
        put_at::<T>(this, place, T::from_ruby(value)?)
    })
}

extern "C" fn read<T: Number>(this: This) -> VALUE {
    answer(|| get_at::<T>(this, 0))
}

extern "C" fn write<T: Number>(this: This, value: VALUE) -> VALUE {
    answer_with(this.raw(), || put_at::<T>(this, 0, T::from_ruby(value)?))
}

fn accessors<T: Number>(class: RClass, names: &[&str]) -> Result<(), Error> {
    for name in names {
        define(class, &format!("get_{name}"), get::<T, i64> as This1)?;
        define(class, &format!("put_{name}"), put::<T, i64> as This2)?;
        define(class, &format!("read_{name}"), read::<T> as This0)?;
        define(class, &format!("write_{name}"), write::<T> as This1)?;
        arrays::accessors::<T>(class, name)?;
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
