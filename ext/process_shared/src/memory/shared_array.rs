//! `ProcessShared::SharedArray`: element access, as fast as a read of memory. The rest of the class is Ruby
//! (lib/process_shared/shared_array.rb).

use magnus::typed_data::Obj;
use magnus::{Error, RClass, Ruby, Value, method, prelude::*};
use process_shared_core::Error as CoreError;
use rb_sys::VALUE;

use super::handle::Handle;
use super::number::index;
use super::shared_memory::create;
use super::typed::{get_element, put_element};
use super::types::Element;
use crate::bind::{Method1, Method2, answer, define, module, ruby};

/// The byte offset of an element. Negative positions count from the end.
///
/// # Safety
/// `this` is a SharedArray.
#[inline(always)]
unsafe fn offset(this: VALUE, position: VALUE) -> Result<i64, Error> {
    let position = index(position)?;
    // SAFETY: as the caller promises.
    let window = unsafe { Handle::of(this) }.check()?;
    let count = (window.size / window.type_size) as i64;
    let place = if position < 0 { position.saturating_add(count) } else { position };
    if place < 0 || place >= count {
        return Err(outside(position, count));
    }
    Ok(place * window.type_size as i64)
}

#[cold]
fn outside(position: i64, count: i64) -> Error {
    let text = format!("index {position} outside of array bounds: {}...{count}", -count);
    Error::new(ruby().exception_index_error(), text)
}

#[cold]
fn no_accessor() -> Error {
    let error = CoreError::Invalid("a SharedArray holds numbers, :bool or :pointer".into());
    crate::errors::to_ruby(&ruby(), error)
}

unsafe extern "C" fn at(this: VALUE, position: VALUE) -> VALUE {
    // SAFETY: `this` is a SharedArray (rule 3 of bind.rs); so below.
    answer(|| unsafe {
        let offset = offset(this, position)?;
        get_element(this, Handle::of(this).element(), offset).unwrap_or_else(|| Err(no_accessor()))
    })
}

unsafe extern "C" fn put(this: VALUE, position: VALUE, value: VALUE) -> VALUE {
    // SAFETY: as above. The conversion may run code that closes the array; the write checks that again.
    answer(|| unsafe {
        let offset = offset(this, position)?;
        put_element(this, Handle::of(this).element(), offset, value).unwrap_or_else(|| Err(no_accessor()))
    })
}

fn length(this: Obj<Handle>) -> Result<usize, Error> {
    let window = this.check()?;
    Ok(window.size / window.type_size)
}

fn initialize(ruby: &Ruby, this: Obj<Handle>, arguments: &[Value]) -> Result<(), Error> {
    create(ruby, this, arguments, |element| match element {
        Element::Foreign => Err(no_accessor()),
        _ => Ok(()),
    })
}

pub fn init(ruby: &Ruby, shared_memory: RClass) -> Result<(), Error> {
    let class = module(ruby).define_class("SharedArray", shared_memory)?;
    define(class, "[]", at as Method1)?;
    define(class, "[]=", put as Method2)?;
    class.define_method("length", method!(length, 0))?;
    class.define_private_method("initialize", method!(initialize, -1))
}
