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
    let handle = unsafe { Handle::of(this) };
    let count = handle.window().count as i64;
    let place = if position < 0 { position.wrapping_add(count) } else { position };
    // One comparison for both ends; whether the array is open, the access checks.
    match (place as u64) < count as u64 {
        true => Ok(place * handle.window().type_size as i64),
        false => Err(outside(handle, position)),
    }
}

#[cold]
#[inline(never)]
fn outside(handle: &Handle, position: i64) -> Error {
    match handle.check() {
        Err(error) => error,
        Ok(window) => {
            let text = format!("index {position} outside of array bounds: -{0}...{0}", window.count);
            Error::new(ruby().exception_index_error(), text)
        }
    }
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
        get_element(this, Handle::of(this).window().element, offset).unwrap_or_else(|| Err(no_accessor()))
    })
}

unsafe extern "C" fn put(this: VALUE, position: VALUE, value: VALUE) -> VALUE {
    // SAFETY: as above. The conversion may run code that closes the array; the write checks that again.
    answer(|| unsafe {
        let offset = offset(this, position)?;
        put_element(this, Handle::of(this).window().element, offset, value)
            .unwrap_or_else(|| Err(no_accessor()))
    })
}

fn length(this: Obj<Handle>) -> Result<usize, Error> {
    Ok(this.check()?.count)
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
