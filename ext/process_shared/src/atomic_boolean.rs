//! `ProcessShared::AtomicBoolean`.

use magnus::{RModule, Ruby, Value, method, prelude::*};
use process_shared_core::AtomicBoolean;
use std::path::Path;

use crate::errors::Error;
use crate::object::{self, Object, Shared};
use crate::typed_data::{Data, of};
use crate::{data_type, path};

#[derive(Default)]
pub struct AtomicBooleanData(Shared<AtomicBoolean>);

impl Data for AtomicBooleanData {
    data_type!(AtomicBooleanData, c"ProcessShared::AtomicBoolean");

    fn extra_size(&self) -> usize {
        process_shared_core::arena::SLOT
    }
}

impl Object for AtomicBooleanData {
    type Core = AtomicBoolean;
    const TAKES_PATH: bool = true;

    fn shared(&self) -> &Shared<AtomicBoolean> {
        &self.0
    }

    fn class_name(&self) -> &'static str {
        "ProcessShared::AtomicBoolean"
    }

    fn describe(&self, flag: &AtomicBoolean) -> String {
        format!("value {}", flag.value())
    }
}

fn initialize(ruby: &Ruby, object: Value, args: &[Value]) -> Result<(), Error> {
    let given = path::given(ruby, args, &[])?;
    ruby.check_arity(given.positional.len(), 0..=1)?;
    let value = given.positional.first().is_some_and(|value| value.to_bool());
    let open = |path: &Path, mode| AtomicBoolean::in_file(path, mode, "AtomicBoolean", value);
    let data = of::<AtomicBooleanData>(object);
    data.initialize(ruby, object, given.location.as_ref(), || AtomicBoolean::new(value), open)
}

fn open<'a>(ruby: &Ruby, object: Value) -> Result<&'a AtomicBoolean, Error> {
    of::<AtomicBooleanData>(object).open(ruby)
}

fn is_true(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    open(ruby, object).map(AtomicBoolean::value)
}

fn is_false(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    is_true(ruby, object).map(|value| !value)
}

fn set(ruby: &Ruby, object: Value, value: Value) -> Result<Value, Error> {
    open(ruby, object)?.make(value.to_bool());
    Ok(value)
}

fn make_true(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    open(ruby, object).map(|flag| flag.make(true))
}

fn make_false(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    open(ruby, object).map(|flag| flag.make(false))
}

pub fn init(ruby: &Ruby, module: RModule) -> Result<(), Error> {
    let class = object::define_class::<AtomicBooleanData>(module, "AtomicBoolean", ruby.class_object())?;
    class.define_method("initialize", method!(initialize, -1))?;
    class.define_method("value", method!(is_true, 0))?;
    class.define_method("value=", method!(set, 1))?;
    class.define_method("true?", method!(is_true, 0))?;
    class.define_method("false?", method!(is_false, 0))?;
    class.define_method("make_true", method!(make_true, 0))?;
    Ok(class.define_method("make_false", method!(make_false, 0))?)
}
