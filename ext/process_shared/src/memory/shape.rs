//! What the arguments of `SharedMemory.new` and `SharedArray.new` ask for: a type and how many, or bytes.

use magnus::rb_sys::AsRawValue;
use magnus::{Integer, RClass, RString, Ruby, Symbol, Value, prelude::*};

use super::arguments::index;
use super::types::{self, Element};
use crate::errors::Error;

pub struct Shape {
    /// What `type` answers.
    pub shown: Value,
    pub element: Element,
    pub type_size: usize,
    pub count: usize,
}

impl Shape {
    pub fn of(ruby: &Ruby, kind: Option<Value>, count: Option<Value>) -> Result<Shape, Error> {
        let uchar = ruby.to_symbol("uchar").as_value();
        let Some(kind) = kind else {
            return Ok(Shape { shown: uchar, element: Element::UInt8, type_size: 1, count: 1 });
        };
        if is_number(kind)? {
            let bytes = amount(ruby, kind)?;
            return match count {
                None => Ok(Shape { shown: uchar, element: Element::UInt8, type_size: 1, count: bytes }),
                Some(count) => Ok(Shape {
                    shown: kind,
                    element: Element::Foreign,
                    type_size: bytes,
                    count: amount(ruby, count)?,
                }),
            };
        }
        if RString::from_value(kind).is_some() {
            return Err(types::unknown(ruby, kind));
        }
        let (element, type_size) = types::element(ruby, kind)?.ok_or_else(|| types::unknown(ruby, kind))?;
        let count = count.map_or(Ok(1), |count| amount(ruby, count))?;
        Ok(Shape { shown: kind, element, type_size, count })
    }

    /// What must be the same for all that open a file, in words.
    pub fn describe(&self) -> String {
        match (self.element.name(), self.type_size) {
            (Some(name), _) => format!("{} {name}", self.count),
            (None, size) => format!("{} elements of {size} bytes", self.count),
        }
    }

    /// The size in bytes.
    pub fn bytes(&self, ruby: &Ruby) -> Result<usize, Error> {
        self.type_size.checked_mul(self.count).filter(|&size| size <= isize::MAX as usize).ok_or_else(|| {
            let text =
                format!("{} times {} bytes are more than an address can hold", self.count, self.type_size);
            Error::new(ruby.exception_arg_error(), text)
        })
    }
}

/// Whether the first argument counts bytes, rather than naming a type.
fn is_number(value: Value) -> Result<bool, Error> {
    if value.is_nil() || value.is_kind_of(Ruby::get_with(value).class_numeric()) {
        return Ok(true);
    }
    let names = Symbol::from_value(value).is_some() || RClass::from_value(value).is_some();
    Ok(!names && value.respond_to("to_int", true)?)
}

/// A count of bytes or elements: at least 1, and not more than an address can hold.
fn amount(ruby: &Ruby, value: Value) -> Result<usize, Error> {
    let refuse = |text: String| Error::new(ruby.exception_arg_error(), text);
    if let Some(integer) = Integer::from_value(value) {
        if integer.to_i64().is_err() {
            return Err(refuse(format!("{integer} is no size that an address can hold")));
        }
    }
    let count = index(value.as_raw())?;
    match usize::try_from(count) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(refuse(format!("shared memory needs a size of at least 1, not {count}"))),
    }
}
