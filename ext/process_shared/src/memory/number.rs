//! The number types of memory: how each is made from a Ruby object, and back, as the ffi gem does it.
//!
//! Small integers and floats that Ruby keeps inside the VALUE are converted here, without a call; everything
//! else goes through the same conversion function of Ruby's API that ffi uses, so that results, errors and
//! messages are the same. `quick` never calls Ruby: code that converts many values with nothing in between
//! relies on that.

use std::ffi::{c_int, c_long, c_longlong, c_uint, c_ulong, c_ulonglong};

use rb_sys::VALUE;
use rb_sys::macros::FLONUM_P;

use super::arguments::fixnum;
use crate::errors::Error;
use crate::raw_methods::raising;

/// A type of number in memory.
pub trait Number {
    /// What lies in memory.
    type Native: Copy + Default;

    /// Bytes in memory.
    const WIDTH: i64 = size_of::<Self::Native>() as i64;

    /// The conversion, where it needs no call into Ruby.
    fn quick(value: VALUE) -> Option<Self::Native>;

    /// The conversion of everything else; may run `to_int` and the like.
    fn slow(value: VALUE) -> Result<Self::Native, Error>;

    fn to_ruby(native: Self::Native) -> VALUE;

    /// The other byte order.
    fn swap(native: Self::Native) -> Self::Native;

    #[inline(always)]
    fn from_ruby(value: VALUE) -> Result<Self::Native, Error> {
        match Self::quick(value) {
            Some(native) => Ok(native),
            None => Self::slow(value),
        }
    }
}

macro_rules! integers {
    ($($name:ident: $native:ty, fits $fits:ident, else $convert:path;)*) => {$(
        pub struct $name;

        impl Number for $name {
            type Native = $native;

            #[inline(always)]
            fn quick(value: VALUE) -> Option<$native> {
                fixnum(value).filter(|&number| $fits(number)).map(|number| number as $native)
            }

            #[cold]
            #[inline(never)]
            fn slow(value: VALUE) -> Result<$native, Error> {
                // SAFETY: takes any object; raises inside `raising`.
                raising(|| unsafe { $convert(value) }).map(|number| number as $native)
            }

            #[inline(always)]
            fn to_ruby(native: $native) -> VALUE {
                integer(native)
            }

            #[inline(always)]
            fn swap(native: $native) -> $native {
                native.swap_bytes()
            }
        }
    )*};
}

integers! {
    Int8: i8, fits int, else rb_sys::rb_num2int;
    UInt8: u8, fits unsigned, else rb_sys::rb_num2uint;
    Int16: i16, fits int, else rb_sys::rb_num2int;
    UInt16: u16, fits unsigned, else rb_sys::rb_num2uint;
    Int32: i32, fits int, else rb_sys::rb_num2int;
    UInt32: u32, fits unsigned, else rb_sys::rb_num2uint;
    Int64: i64, fits any, else rb_sys::rb_num2ll;
    UInt64: u64, fits any, else rb_sys::rb_num2ull;
    Long: c_long, fits any, else rb_sys::rb_num2long;
    ULong: c_ulong, fits any, else rb_sys::rb_num2ulong;
}

/// What becomes a C `int` unharmed.
fn int(number: i64) -> bool {
    c_int::try_from(number).is_ok()
}

/// What ffi lets wrap into a C `unsigned int`.
fn unsigned(number: i64) -> bool {
    number >= i64::from(c_int::MIN) && number <= i64::from(c_uint::MAX)
}

fn any(_number: i64) -> bool {
    true
}

macro_rules! floats {
    ($($name:ident: $native:ty;)*) => {$(
        pub struct $name;

        impl Number for $name {
            type Native = $native;

            #[inline(always)]
            fn quick(value: VALUE) -> Option<$native> {
                if FLONUM_P(value) {
                    // SAFETY: a flonum converts without a call.
                    return Some(unsafe { rb_sys::macros::NUM2DBL(value) } as $native);
                }
                fixnum(value).map(|number| number as f64 as $native)
            }

            #[cold]
            #[inline(never)]
            fn slow(value: VALUE) -> Result<$native, Error> {
                // SAFETY: takes any object; raises inside `raising`.
                raising(|| unsafe { rb_sys::rb_num2dbl(value) }).map(|number| number as $native)
            }

            #[inline(always)]
            fn to_ruby(native: $native) -> VALUE {
                // SAFETY: no precondition; allocates at most.
                unsafe { rb_sys::rb_float_new(f64::from(native)) }
            }

            #[inline(always)]
            fn swap(native: $native) -> $native {
                <$native>::from_bits(native.to_bits().swap_bytes())
            }
        }
    )*};
}

floats! {
    Float32: f32;
    Float64: f64;
}

/// One byte: anything but nil and false is true.
pub struct Bool;

impl Number for Bool {
    type Native = u8;

    #[inline(always)]
    fn quick(value: VALUE) -> Option<u8> {
        Some(u8::from(rb_sys::macros::TEST(value)))
    }

    fn slow(value: VALUE) -> Result<u8, Error> {
        Ok(u8::from(rb_sys::macros::TEST(value)))
    }

    fn to_ruby(native: u8) -> VALUE {
        if native == 0 { rb_sys::Qfalse as VALUE } else { rb_sys::Qtrue as VALUE }
    }

    fn swap(native: u8) -> u8 {
        native
    }
}

/// Any of the native integers as a Ruby Integer.
#[inline(always)]
pub fn integer<T: Copy + TryInto<c_long> + TryInto<i128>>(native: T) -> VALUE {
    if let Ok(number) = TryInto::<c_long>::try_into(native) {
        if rb_sys::macros::FIXABLE(number) {
            return ((number as VALUE) << 1) | rb_sys::ruby_special_consts::RUBY_FIXNUM_FLAG as VALUE;
        }
    }
    big(TryInto::<i128>::try_into(native).unwrap_or(0))
}

#[cold]
#[inline(never)]
fn big(number: i128) -> VALUE {
    match c_longlong::try_from(number) {
        // SAFETY: no precondition; allocates at most.
        Ok(signed) => unsafe { rb_sys::rb_ll2inum(signed) },
        // SAFETY: as above. Everything that is not signed here came from an unsigned 64-bit number.
        Err(_) => unsafe { rb_sys::rb_ull2inum(number as c_ulonglong) },
    }
}
