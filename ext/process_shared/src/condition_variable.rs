//! `ProcessShared::ConditionVariable`. How to wait for one is in `condition_wait.rs`.

use magnus::{RModule, Ruby, Value, method, prelude::*};
use process_shared_core::{Condition, ConditionVariable};
use std::path::Path;

use crate::condition_wait::{self, Waitable};
use crate::errors::{self, Error};
use crate::object::{self, Object, Shared};
use crate::timeout::Timeout;
use crate::typed_data::{Data, of};
use crate::{data_type, fiber_scheduler, lock, path, thread};

#[derive(Default)]
pub struct ConditionVariableData(Shared<ConditionVariable>);

impl Data for ConditionVariableData {
    data_type!(ConditionVariableData, c"ProcessShared::ConditionVariable");

    fn extra_size(&self) -> usize {
        process_shared_core::arena::SLOT
    }
}

impl Object for ConditionVariableData {
    type Core = ConditionVariable;
    const TAKES_PATH: bool = true;

    fn shared(&self) -> &Shared<ConditionVariable> {
        &self.0
    }

    fn class_name(&self) -> &'static str {
        "ProcessShared::ConditionVariable"
    }

    fn describe(&self, condition: &ConditionVariable) -> String {
        format!("{} waiting", condition.condition().waiters())
    }
}

impl Waitable for ConditionVariableData {
    fn condition(&self, ruby: &Ruby) -> Result<Condition<'_>, Error> {
        Ok(self.open(ruby)?.condition())
    }
}

fn condition<'a>(ruby: &Ruby, object: Value) -> Result<Condition<'a>, Error> {
    of::<ConditionVariableData>(object).condition(ruby)
}

fn initialize(ruby: &Ruby, object: Value, args: &[Value]) -> Result<(), Error> {
    let given = path::given(ruby, args, &[])?;
    ruby.check_arity(given.positional.len(), 0..=0)?;
    let open = |path: &Path, mode| ConditionVariable::in_file(path, mode, "ConditionVariable");
    let data = of::<ConditionVariableData>(object);
    data.initialize(ruby, object, given.location.as_ref(), ConditionVariable::new, open)
}

fn wait(ruby: &Ruby, object: Value, args: &[Value]) -> Result<Value, Error> {
    ruby.check_arity(args.len(), 1..=2)?;
    let (lock, timeout) = (args[0], args.get(1).copied().unwrap_or(ruby.qnil().as_value()));
    let data = of::<ConditionVariableData>(object);
    data.check(ruby)?;
    let Some(ours) = lock::find(lock) else {
        if lock.respond_to("sleep", false)? {
            return fiber_scheduler::sleep_on(ruby, object, lock, timeout);
        }
        return Err(errors::wrong_type(ruby, lock, "a lock: it has to respond to sleep(timeout)"));
    };
    let timeout = Timeout::parse(ruby, timeout)?;
    ours.assert_held(ruby)?;
    condition_wait::wait(ruby, object, data, lock, ours, timeout)
}

fn signal(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    let thread = thread::current(ruby)?;
    condition(ruby, object)?.signal(&thread);
    Ok(object)
}

fn broadcast(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    let thread = thread::current(ruby)?;
    condition(ruby, object)?.broadcast(&thread);
    Ok(object)
}

fn waiters(ruby: &Ruby, object: Value) -> Result<usize, Error> {
    Ok(condition(ruby, object)?.waiters())
}

pub fn init(ruby: &Ruby, module: RModule) -> Result<(), Error> {
    let class =
        object::define_class::<ConditionVariableData>(module, "ConditionVariable", ruby.class_object())?;
    class.define_method("initialize", method!(initialize, -1))?;
    class.define_method("wait", method!(wait, -1))?;
    class.define_method("signal", method!(signal, 0))?;
    class.define_method("broadcast", method!(broadcast, 0))?;
    class.define_method("waiters", method!(waiters, 0))?;
    condition_wait::define_methods::<ConditionVariableData>(class)
}
