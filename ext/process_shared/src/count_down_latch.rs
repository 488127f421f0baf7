//! `ProcessShared::CountDownLatch`.

use magnus::{Integer, RModule, Ruby, Value, method, prelude::*};
use process_shared_core::latch::MAX;
use process_shared_core::{CountDownLatch, Thread};
use std::path::Path;

use crate::errors::{self, Error};
use crate::object::{self, Object, Shared};
use crate::timeout::Timeout;
use crate::typed_data::{Data, of};
use crate::{data_type, fiber_scheduler, nogvl, path, thread, trap_context};

#[derive(Default)]
pub struct CountDownLatchData(Shared<CountDownLatch>);

impl Data for CountDownLatchData {
    data_type!(CountDownLatchData, c"ProcessShared::CountDownLatch");

    fn extra_size(&self) -> usize {
        process_shared_core::arena::SLOT
    }
}

impl Object for CountDownLatchData {
    type Core = CountDownLatch;
    const TAKES_PATH: bool = true;

    fn shared(&self) -> &Shared<CountDownLatch> {
        &self.0
    }

    fn class_name(&self) -> &'static str {
        "ProcessShared::CountDownLatch"
    }

    fn describe(&self, latch: &CountDownLatch) -> String {
        match latch.waiters() {
            0 => format!("count {}", latch.count()),
            waiters => format!("count {}, {waiters} waiting", latch.count()),
        }
    }
}

fn initialize(ruby: &Ruby, object: Value, args: &[Value]) -> Result<(), Error> {
    let given = path::given(ruby, args, &[])?;
    ruby.check_arity(given.positional.len(), 0..=1)?;
    let count = given.positional.first().map_or(Ok(1), |count| parse(ruby, *count))?;
    let make = || CountDownLatch::new(count);
    let open = |path: &Path, mode| CountDownLatch::in_file(path, mode, "CountDownLatch", count);
    of::<CountDownLatchData>(object).initialize(ruby, object, given.location.as_ref(), make, open)
}

fn parse(ruby: &Ruby, count: Value) -> Result<u32, Error> {
    let Some(integer) = Integer::from_value(count) else {
        let text = format!("count must be an Integer, not {}", errors::class_name(count));
        return Err(Error::new(ruby.exception_arg_error(), text));
    };
    let count = integer.to_u32().ok().filter(|count| *count <= MAX);
    count.ok_or_else(|| {
        Error::new(ruby.exception_arg_error(), format!("a latch's count is from 0 to {MAX}, not {integer}"))
    })
}

fn wait(ruby: &Ruby, object: Value, args: &[Value]) -> Result<bool, Error> {
    ruby.check_arity(args.len(), 0..=1)?;
    let timeout = args.first().map_or(Ok(Timeout::Never), |seconds| Timeout::parse(ruby, *seconds))?;
    let data = of::<CountDownLatchData>(object);
    let latch = data.open(ruby)?;
    if latch.count() == 0 {
        return Ok(true);
    }
    if timeout.has_passed() {
        return Ok(false);
    }
    if latch.wait_soon() {
        return Ok(true);
    }
    trap_context::refuse(ruby)?;
    let check = || data.check(ruby);
    if fiber_scheduler::is_non_blocking() {
        return fiber_scheduler::wait_until(ruby, object, timeout, || check().map(|()| latch.count() == 0));
    }
    let wait = |thread: &Thread| latch.wait(thread, timeout.deadline());
    nogvl::block(ruby, [Some(object), None], check, wait, nogvl::keep)
}

fn count_down(ruby: &Ruby, object: Value) -> Result<(), Error> {
    let latch = of::<CountDownLatchData>(object).open(ruby)?;
    latch.count_down(&thread::current(ruby)?);
    Ok(())
}

fn count(ruby: &Ruby, object: Value) -> Result<u32, Error> {
    of::<CountDownLatchData>(object).open(ruby).map(CountDownLatch::count)
}

fn waiters(ruby: &Ruby, object: Value) -> Result<usize, Error> {
    of::<CountDownLatchData>(object).open(ruby).map(CountDownLatch::waiters)
}

/// `wait`, for the helper threads of `fiber_scheduler.rb`.
fn watch(ruby: &Ruby, object: Value, timeout: Value) -> Result<bool, Error> {
    wait(ruby, object, &[timeout])
}

pub fn init(ruby: &Ruby, module: RModule) -> Result<(), Error> {
    let class = object::define_class::<CountDownLatchData>(module, "CountDownLatch", ruby.class_object())?;
    class.define_method("initialize", method!(initialize, -1))?;
    class.define_method("wait", method!(wait, -1))?;
    class.define_method("count_down", method!(count_down, 0))?;
    class.define_method("count", method!(count, 0))?;
    class.define_method("waiters", method!(waiters, 0))?;
    Ok(class.define_private_method("watch", method!(watch, 1))?)
}
