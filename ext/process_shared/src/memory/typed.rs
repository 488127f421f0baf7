//! Access by type: `get put read write` with a type as argument, and what SharedArray does with its own.

use magnus::rb_sys::AsRawValue;
use magnus::{Error, RClass, prelude::*};
use rb_sys::VALUE;

use super::accessors::{get_at, put_at};
use super::foreign;
use super::handle::Handle;
use super::number::{
    Bool, Float32, Float64, Int8, Int16, Int32, Int64, Long, Number, UInt8, UInt16, UInt32, UInt64, ULong,
    index,
};
use super::types::{self, Element};
use crate::bind::{Method1, Method2, Method3, NIL, answer, define, ruby, value};

/// Offset 0, as a Ruby Integer.
const START: VALUE = rb_sys::ruby_special_consts::RUBY_FIXNUM_FLAG as VALUE;

/// Reads one element; None for types that only ffi reads.
///
/// # Safety
/// `this` is a Pointer; so for all that follow.
#[inline(always)]
pub unsafe fn get_element(this: VALUE, element: Element, offset: i64) -> Option<Result<VALUE, Error>> {
    // SAFETY: as the caller promises.
    Some(unsafe {
        match element {
            Element::Int8 => get_at::<Int8>(this, offset),
            Element::UInt8 => get_at::<UInt8>(this, offset),
            Element::Int16 => get_at::<Int16>(this, offset),
            Element::UInt16 => get_at::<UInt16>(this, offset),
            Element::Int32 => get_at::<Int32>(this, offset),
            Element::UInt32 => get_at::<UInt32>(this, offset),
            Element::Int64 => get_at::<Int64>(this, offset),
            Element::UInt64 => get_at::<UInt64>(this, offset),
            Element::Long => get_at::<Long>(this, offset),
            Element::ULong => get_at::<ULong>(this, offset),
            Element::Float32 => get_at::<Float32>(this, offset),
            Element::Float64 => get_at::<Float64>(this, offset),
            Element::Bool => get_at::<Bool>(this, offset),
            Element::Pointer => foreign::get_at(this, offset),
            Element::Foreign => return None,
        }
    })
}

/// Writes one element; None for types that only ffi writes.
#[inline(always)]
pub unsafe fn put_element(
    this: VALUE,
    element: Element,
    offset: i64,
    given: VALUE,
) -> Option<Result<VALUE, Error>> {
    // SAFETY: as the caller promises.
    unsafe fn convert<T: Number>(this: VALUE, offset: i64, given: VALUE) -> Result<VALUE, Error> {
        // SAFETY: as the caller promises.
        unsafe { put_at::<T>(this, offset, T::from_ruby(given)?) }
    }
    // SAFETY: as the caller promises.
    Some(unsafe {
        match element {
            Element::Int8 => convert::<Int8>(this, offset, given),
            Element::UInt8 => convert::<UInt8>(this, offset, given),
            Element::Int16 => convert::<Int16>(this, offset, given),
            Element::UInt16 => convert::<UInt16>(this, offset, given),
            Element::Int32 => convert::<Int32>(this, offset, given),
            Element::UInt32 => convert::<UInt32>(this, offset, given),
            Element::Int64 => convert::<Int64>(this, offset, given),
            Element::UInt64 => convert::<UInt64>(this, offset, given),
            Element::Long => convert::<Long>(this, offset, given),
            Element::ULong => convert::<ULong>(this, offset, given),
            Element::Float32 => convert::<Float32>(this, offset, given),
            Element::Float64 => convert::<Float64>(this, offset, given),
            Element::Bool => convert::<Bool>(this, offset, given),
            Element::Pointer => foreign::put_at(this, offset, given),
            Element::Foreign => return None,
        }
    })
}

unsafe fn get_by(this: VALUE, kind: VALUE, offset: VALUE) -> Result<VALUE, Error> {
    let ruby = ruby();
    let Some((element, size)) = types::element(&ruby, value(kind)) else {
        let text = format!("undefined type '{}'", value(kind));
        return Err(Error::new(ruby.exception_arg_error(), text));
    };
    let offset = index(offset)?;
    // SAFETY: as the caller promises.
    unsafe {
        if let Some(result) = get_element(this, element, offset) {
            return result;
        }
        if kind == ruby.to_symbol("string").as_raw() {
            return foreign::get_string_at(this, offset);
        }
        Handle::of(this).bytes(offset, size as i64)?;
        foreign::to_ffi(this)?
            .funcall::<_, _, magnus::Value>("get", (value(kind), offset))
            .map(AsRawValue::as_raw)
    }
}

unsafe fn put_by(this: VALUE, kind: VALUE, offset: VALUE, given: VALUE) -> Result<VALUE, Error> {
    let ruby = ruby();
    let Some((element, size)) = types::element(&ruby, value(kind)) else {
        let text = format!("unsupported type '{}'", value(kind));
        return Err(Error::new(ruby.exception_arg_error(), text));
    };
    let offset = index(offset)?;
    // SAFETY: as the caller promises.
    unsafe {
        if let Some(result) = put_element(this, element, offset, given) {
            return result.map(|_| NIL);
        }
        let handle = Handle::of(this);
        handle.check_writable(this)?;
        handle.bytes(offset, size as i64)?;
        let arguments = (value(kind), offset, value(given));
        foreign::to_ffi(this)?.funcall::<_, _, magnus::Value>("put", arguments).map(|_| NIL)
    }
}

unsafe extern "C" fn get(this: VALUE, kind: VALUE, offset: VALUE) -> VALUE {
    // SAFETY: `this` is a Pointer (rule 3 of bind.rs); so below.
    answer(|| unsafe { get_by(this, kind, offset) })
}

unsafe extern "C" fn put(this: VALUE, kind: VALUE, offset: VALUE, given: VALUE) -> VALUE {
    // SAFETY: as above.
    answer(|| unsafe { put_by(this, kind, offset, given) })
}

unsafe extern "C" fn read(this: VALUE, kind: VALUE) -> VALUE {
    // SAFETY: as above.
    answer(|| unsafe { get_by(this, kind, START) })
}

unsafe extern "C" fn write(this: VALUE, kind: VALUE, given: VALUE) -> VALUE {
    // SAFETY: as above.
    answer(|| unsafe { put_by(this, kind, START, given) })
}

/// The size of a type in bytes, for the methods written in Ruby.
unsafe extern "C" fn size_of_type(_this: VALUE, kind: VALUE) -> VALUE {
    answer(|| {
        let ruby = ruby();
        let kind = value(kind);
        let (_, size) = types::element(&ruby, kind).ok_or_else(|| types::unknown(&ruby, kind))?;
        Ok(super::number::integer(size as u64))
    })
}

pub fn init(class: RClass) -> Result<(), Error> {
    define(class, "get", get as Method2)?;
    define(class, "put", put as Method3)?;
    define(class, "read", read as Method1)?;
    define(class, "write", write as Method2)?;
    define(class, "size_of_type", size_of_type as Method1)?;
    class.funcall::<_, _, magnus::Value>("private", ("size_of_type",)).map(|_| ())
}
