//! `ProcessShared::BinarySemaphore`: a Semaphore with at most one permit.

use magnus::{RClass, RModule, Ruby, Value, method, prelude::*};

use crate::errors::Error;
use crate::object;
use crate::semaphore::{SemaphoreData, initialize_with};

fn initialize(ruby: &Ruby, object: Value, args: &[Value]) -> Result<(), Error> {
    initialize_with(ruby, object, args, "BinarySemaphore", 1)
}

pub fn init(_: &Ruby, module: RModule) -> Result<(), Error> {
    let semaphore: RClass = module.const_get("Semaphore")?;
    let class = object::define_class::<SemaphoreData>(module, "BinarySemaphore", semaphore)?;
    Ok(class.define_method("initialize", method!(initialize, -1))?)
}
