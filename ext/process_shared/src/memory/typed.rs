//! Access by type: `get put read write` with a type as argument, and what SharedArray does with its own.

use magnus::rb_sys::AsRawValue;
use magnus::{RClass, prelude::*};
use rb_sys::VALUE;

use super::accessors::{self, get_at, put_at};
use super::arguments::index;
use super::foreign;
use super::number::{
    Bool, Float32, Float64, Int8, Int16, Int32, Int64, Long, Number, UInt8, UInt16, UInt32, UInt64, ULong,
};
use super::place::Nth;
use super::this::{Bound, This, This1, This2, This3, define};
use super::types::{self, Element};
use super::window::Elements;
use crate::errors::Error;
use crate::raw_methods::{NIL, answer, ruby, value};

/// Offset 0, as a Ruby Integer.
const START: VALUE = rb_sys::ruby_special_consts::RUBY_FIXNUM_FLAG as VALUE;

/// An expression for the kind of number that an element is, which it knows as `T`; another for pointers. The
/// function around it returns None for types that only ffi reads and writes.
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
fn get_element(this: This, element: Element, offset: i64) -> Option<Result<VALUE, Error>> {
    by_element!(element, T => get_at::<T>(this, offset), pointer => foreign::get_at(this, offset))
}

/// Writes one element.
fn put_element(this: This, element: Element, offset: i64, given: VALUE) -> Option<Result<(), Error>> {
    by_element!(
        element,
        T => T::from_ruby(given).and_then(|native| put_at::<T>(this, offset, native)),
        pointer => foreign::put_at(this, offset, given)
    )
}

/// The methods that read and write an element of a SharedArray; None for types that only ffi reads and
/// writes.
pub fn elements(element: Element) -> Option<Elements> {
    let of = |at: This1, put: This2| Elements { at: at.raw(), put: put.raw() };
    by_element!(
        element,
        T => of(accessors::get::<T, Nth>, accessors::put::<T, Nth>),
        pointer => of(foreign::get_pointer::<Nth>, foreign::put_pointer::<Nth>)
    )
}

fn get_by(this: This, kind: VALUE, offset: VALUE) -> Result<VALUE, Error> {
    let ruby = ruby();
    let Some((element, size)) = types::element(&ruby, value(kind))? else {
        return Err(types::refused(ruby.exception_arg_error(), "undefined", value(kind), "to_s"));
    };
    let offset = index(offset)?;
    if let Some(result) = get_element(this, element, offset) {
        return result;
    }
    if kind == ruby.to_symbol("string").as_raw() {
        return foreign::get_string_at(this, offset);
    }
    this.bytes(offset, size as i64)?;
    let got: magnus::Value = foreign::to_ffi(this)?.funcall("get", (value(kind), offset))?;
    Ok(got.as_raw())
}

fn put_by(this: This, kind: VALUE, offset: VALUE, given: VALUE) -> Result<VALUE, Error> {
    let ruby = ruby();
    let Some((element, size)) = types::element(&ruby, value(kind))? else {
        return Err(types::refused(ruby.exception_arg_error(), "unsupported", value(kind), "to_s"));
    };
    let offset = index(offset)?;
    if let Some(result) = put_element(this, element, offset, given) {
        return result.map(|()| NIL);
    }
    this.check_writable()?;
    this.bytes(offset, size as i64)?;
    let arguments = (value(kind), offset, value(given));
    foreign::to_ffi(this)?.funcall::<_, _, magnus::Value>("put", arguments)?;
    Ok(NIL)
}

extern "C" fn get(this: This, kind: VALUE, offset: VALUE) -> VALUE {
    answer(|| get_by(this, kind, offset))
}

extern "C" fn put(this: This, kind: VALUE, offset: VALUE, given: VALUE) -> VALUE {
    answer(|| put_by(this, kind, offset, given))
}

extern "C" fn read(this: This, kind: VALUE) -> VALUE {
    answer(|| get_by(this, kind, START))
}

extern "C" fn write(this: This, kind: VALUE, given: VALUE) -> VALUE {
    answer(|| put_by(this, kind, START, given))
}

/// The size of a type in bytes, for the methods written in Ruby.
extern "C" fn size_of_type(_this: This, kind: VALUE) -> VALUE {
    answer(|| {
        let ruby = ruby();
        let kind = value(kind);
        let (_, size) = types::element(&ruby, kind)?.ok_or_else(|| types::unknown(&ruby, kind))?;
        Ok(super::number::integer(size as u64))
    })
}

pub fn init(class: RClass) -> Result<(), Error> {
    define(class, "get", get as This2)?;
    define(class, "put", put as This3)?;
    define(class, "read", read as This1)?;
    define(class, "write", write as This2)?;
    define(class, "size_of_type", size_of_type as This1)?;
    class.funcall::<_, _, magnus::Value>("private", ("size_of_type",))?;
    Ok(())
}
