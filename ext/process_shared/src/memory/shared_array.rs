//! `ProcessShared::SharedArray`: element access, as fast as a read of memory. The rest of the class is Ruby
//! (lib/process_shared/shared_array.rb).

use magnus::typed_data::Obj;
use magnus::{RClass, Ruby, Value, method, prelude::*};
use process_shared_core::Error as CoreError;
use rb_sys::VALUE;

use super::handle::Handle;
use super::shared_memory::create;
use super::typed::Elements;
use crate::classes;
use crate::errors::Error;
use crate::raw_methods::{Method1, Method2, define, module};

unsafe extern "C" fn at(this: VALUE, position: VALUE) -> VALUE {
    // SAFETY: `this` is a SharedArray (rule 3 of bind.rs), and this frame owns nothing; so below.
    unsafe { (Handle::of(this).window().elements.at)(this, position) }
}

unsafe extern "C" fn put(this: VALUE, position: VALUE, value: VALUE) -> VALUE {
    // SAFETY: as above.
    unsafe { (Handle::of(this).window().elements.put)(this, position, value) }
}

fn length(this: Obj<Handle>) -> Result<usize, Error> {
    this.check().map(|window| window.size / window.type_size)
}

fn initialize(ruby: &Ruby, this: Obj<Handle>, arguments: &[Value]) -> Result<(), Error> {
    create(ruby, this, arguments, |element| {
        Elements::of(element).ok_or_else(|| {
            let error = CoreError::Invalid("a SharedArray holds numbers, :bool or :pointer, of a type that SharedMemory has accessors for".into());
            crate::errors::to_ruby(&crate::raw_methods::ruby(), error)
        })
    })
}

pub fn init(ruby: &Ruby, shared_memory: RClass) -> Result<(), Error> {
    let class = classes::define(module(ruby), "SharedArray", shared_memory)?;
    define(class, "[]", at as Method1)?;
    define(class, "[]=", put as Method2)?;
    class.define_method("length", method!(length, 0))?;
    Ok(class.define_private_method("initialize", method!(initialize, -1))?)
}
