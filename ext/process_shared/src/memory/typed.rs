//! Access by type: `get put read write` with a type as argument, and what SharedArray does with its own.

use magnus::rb_sys::AsRawValue;
use magnus::{RClass, prelude::*};
use rb_sys::VALUE;

use super::accessors::{self, get_at, put_at};
use super::foreign;
use super::handle::{Handle, Nth};
use super::number::{
    Bool, Float32, Float64, Int8, Int16, Int32, Int64, Long, Number, UInt8, UInt16, UInt32, UInt64, ULong,
    index,
};
use super::types::{self, Element};
use crate::errors::Error;
use crate::raw_methods::{Method1, Method2, Method3, NIL, answer, define, ruby, value};

/// Offset 0, as a Ruby Integer.
const START: VALUE = rb_sys::ruby_special_consts::RUBY_FIXNUM_FLAG as VALUE;

/// An expression for the kind of number that an element is, which it knows as `T`; another for pointers. The function
/// around it returns None for types that only ffi reads and writes.
macro_rules! by_element {
    ($element:expr, $T:ident => $number:expr, pointer => $pointer:expr) => {
        by_element!(@ $element, $T => $number, $pointer,
            Int8 UInt8 Int16 UInt16 Int32 UInt32 Int64 UInt64 Long ULong Float32 Float64 Bool)
    };
    (@ $element:expr, $T:ident => $number:expr, $pointer:expr, $($name:ident)*) => {
        Some(match $element {
            $(Element::$name => {
                type $T = $name;
                $number
            })*
            Element::Pointer => $pointer,
            Element::Foreign => return None,
        })
    };
}

/// Reads one element.
///
/// # Safety
/// `this` is a Pointer; so for all that follow.
unsafe fn get_element(this: VALUE, element: Element, offset: i64) -> Option<Result<VALUE, Error>> {
    // SAFETY: as the caller promises.
    unsafe { by_element!(element, T => get_at::<T>(this, offset), pointer => foreign::get_at(this, offset)) }
}

/// Writes one element.
unsafe fn put_element(this: VALUE, element: Element, offset: i64, given: VALUE) -> Option<Result<(), Error>> {
    // SAFETY: as the caller promises.
    unsafe {
        by_element!(
            element,
            T => T::from_ruby(given).and_then(|native| put_at::<T>(this, offset, native)),
            pointer => foreign::put_at(this, offset, given)
        )
    }
}

/// The methods that read and write an element of a SharedArray.
#[derive(Clone, Copy)]
pub struct Elements {
    pub at: Method1,
    pub put: Method2,
}

impl Elements {
    pub const BYTES: Elements =
        Elements { at: accessors::get::<UInt8, Nth>, put: accessors::put::<UInt8, Nth> };

    pub fn of(element: Element) -> Option<Elements> {
        by_element!(
            element,
            T => Elements { at: accessors::get::<T, Nth>, put: accessors::put::<T, Nth> },
            pointer => Elements { at: foreign::get_pointer::<Nth>, put: foreign::put_pointer::<Nth> }
        )
    }
}

unsafe fn get_by(this: VALUE, kind: VALUE, offset: VALUE) -> Result<VALUE, Error> {
    let ruby = ruby();
    let Some((element, size)) = types::element(&ruby, value(kind))? else {
        return Err(types::refused(ruby.exception_arg_error(), "undefined", value(kind), "to_s"));
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
        let got: magnus::Value = foreign::to_ffi(this)?.funcall("get", (value(kind), offset))?;
        Ok(got.as_raw())
    }
}

unsafe fn put_by(this: VALUE, kind: VALUE, offset: VALUE, given: VALUE) -> Result<VALUE, Error> {
    let ruby = ruby();
    let Some((element, size)) = types::element(&ruby, value(kind))? else {
        return Err(types::refused(ruby.exception_arg_error(), "unsupported", value(kind), "to_s"));
    };
    let offset = index(offset)?;
    // SAFETY: as the caller promises.
    unsafe {
        if let Some(result) = put_element(this, element, offset, given) {
            return result.map(|()| NIL);
        }
        let handle = Handle::of(this);
        handle.check_writable(this)?;
        handle.bytes(offset, size as i64)?;
        let arguments = (value(kind), offset, value(given));
        foreign::to_ffi(this)?.funcall::<_, _, magnus::Value>("put", arguments)?;
        Ok(NIL)
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
        let (_, size) = types::element(&ruby, kind)?.ok_or_else(|| types::unknown(&ruby, kind))?;
        Ok(super::number::integer(size as u64))
    })
}

pub fn init(class: RClass) -> Result<(), Error> {
    define(class, "get", get as Method2)?;
    define(class, "put", put as Method3)?;
    define(class, "read", read as Method1)?;
    define(class, "write", write as Method2)?;
    define(class, "size_of_type", size_of_type as Method1)?;
    class.funcall::<_, _, magnus::Value>("private", ("size_of_type",))?;
    Ok(())
}
