//! `ProcessShared::SizedQueue`: a Queue with a limit to the number of items.

use magnus::{RClass, RModule, Ruby, TryConvert, Value, method, prelude::*};

use crate::errors::Error;
use crate::object::{self, Object};
use crate::path;
use crate::queue::{QueueData, begin, locked};
use crate::typed_data::of;

fn limit(ruby: &Ruby, max: Value) -> Result<u64, Error> {
    let text = "queue size must be positive";
    let max = i64::try_convert(max)?;
    u64::try_from(max).ok().filter(|max| *max > 0).ok_or_else(|| Error::new(ruby.exception_arg_error(), text))
}

/// `new(max, bytes: 64 << 20, path: nil, mode: 0600)`.
fn initialize(ruby: &Ruby, object: Value, args: &[Value]) -> Result<(), Error> {
    let given = path::given(ruby, args, &["bytes"])?;
    let [max] = given.positional else {
        let text = format!("wrong number of arguments (given {}, expected 1)", given.positional.len());
        return Err(Error::new(ruby.exception_arg_error(), text));
    };
    begin(ruby, object, &given, limit(ruby, *max)?, &[])
}

fn max(ruby: &Ruby, object: Value) -> Result<u64, Error> {
    Ok(of::<QueueData>(object).open(ruby)?.items().max())
}

fn set_max(ruby: &Ruby, object: Value, max: Value) -> Result<Value, Error> {
    let queue = of::<QueueData>(object).open(ruby)?;
    let limit = limit(ruby, max)?;
    locked(ruby, queue, |critical| critical.set_max(limit))?;
    Ok(max)
}

pub fn init(ruby: &Ruby, module: RModule) -> Result<(), Error> {
    let superclass = RClass::try_convert(module.const_get::<_, Value>("Queue")?)?;
    let _ = ruby;
    let class = object::define_class::<QueueData>(module, "SizedQueue", superclass)?;
    class.define_method("initialize", method!(initialize, -1))?;
    class.define_method("max", method!(max, 0))?;
    Ok(class.define_method("max=", method!(set_max, 1))?)
}
