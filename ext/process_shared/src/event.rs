//! `ProcessShared::Event`.

use magnus::{RModule, Ruby, Value, method, prelude::*};
use process_shared_core::event::Epoch;
use process_shared_core::{Event, Thread};
use rb_sys::VALUE;
use std::ffi::c_int;
use std::path::Path;

use crate::errors::Error;
use crate::object::{self, Object, Shared};
use crate::raw_methods::{Method0, MethodN, TRUE, answer, arguments, boolean, define, ruby, slow, value};
use crate::timeout::Timeout;
use crate::typed_data::{self, Data, of};
use crate::{data_type, fiber_scheduler, nogvl, path, thread, trap_context};

#[derive(Default)]
pub struct EventData(Shared<Event>);

impl Data for EventData {
    data_type!(EventData, c"ProcessShared::Event");

    fn extra_size(&self) -> usize {
        process_shared_core::arena::SLOT
    }
}

impl Object for EventData {
    type Core = Event;
    const TAKES_PATH: bool = true;

    fn shared(&self) -> &Shared<Event> {
        &self.0
    }

    fn class_name(&self) -> &'static str {
        "ProcessShared::Event"
    }

    fn describe(&self, event: &Event) -> String {
        let state = if event.is_set() { "set" } else { "not set" };
        match event.waiters() {
            0 => state.to_owned(),
            waiters => format!("{state}, {waiters} waiting"),
        }
    }
}

fn initialize(ruby: &Ruby, object: Value, args: &[Value]) -> Result<(), Error> {
    let given = path::given(ruby, args, &[])?;
    ruby.check_arity(given.positional.len(), 0..=0)?;
    let open = |path: &Path, mode| Event::in_file(path, mode, "Event");
    of::<EventData>(object).initialize(ruby, object, given.location.as_ref(), Event::new, open)
}

unsafe extern "C" fn is_set(object: VALUE) -> VALUE {
    // SAFETY: a method's receiver; nothing to drop in this frame.
    unsafe {
        match typed_data::get::<EventData>(object).0.usable() {
            Some(event) => boolean(event.is_set()),
            None => slow(object, method!(is_set_slow, 0)),
        }
    }
}

fn is_set_slow(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    of::<EventData>(object).open(ruby).map(Event::is_set)
}

fn set(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    try_set(ruby, object).map(|_| true)
}

fn try_set(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    let event = of::<EventData>(object).open(ruby)?;
    Ok(event.set(&thread::current(ruby)?))
}

fn reset(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    let event = of::<EventData>(object).open(ruby)?;
    event.reset(&thread::current(ruby)?);
    Ok(true)
}

unsafe extern "C" fn wait(argc: c_int, argv: *const VALUE, object: VALUE) -> VALUE {
    // SAFETY: a method's receiver; nothing to drop in this frame.
    let data = unsafe { typed_data::get::<EventData>(object) };
    if argc == 0 && data.0.usable().is_some_and(Event::is_set) {
        return TRUE;
    }
    answer(|| {
        // SAFETY: what Ruby passed.
        let timeout =
            unsafe { arguments(argc, argv, 0, 1) }?.first().copied().unwrap_or(rb_sys::Qnil as VALUE);
        let ruby = ruby();
        let timeout = Timeout::parse(&ruby, value(timeout))?;
        await_event(&ruby, value(object), timeout).map(boolean)
    })
}

fn await_event(ruby: &Ruby, object: Value, timeout: Timeout) -> Result<bool, Error> {
    let data = of::<EventData>(object);
    let event = data.open(ruby)?;
    let Some(epoch) = event.begin() else { return Ok(true) };
    if timeout.has_passed() {
        return Ok(false);
    }
    if event.wait_soon(epoch) {
        return Ok(true);
    }
    trap_context::refuse(ruby)?;
    let check = || data.check(ruby);
    if fiber_scheduler::is_non_blocking() {
        let is_over = || check().map(|()| event.is_over(epoch));
        return fiber_scheduler::wait_until_past(ruby, object, timeout, epoch.number(), is_over);
    }
    sleep(ruby, object, epoch, timeout)
}

fn sleep(ruby: &Ruby, object: Value, epoch: Epoch, timeout: Timeout) -> Result<bool, Error> {
    let data = of::<EventData>(object);
    let event = data.open(ruby)?;
    let wait = |thread: &Thread| event.wait(thread, epoch, timeout.deadline());
    nogvl::block(ruby, [Some(object), None], || data.check(ruby), wait, nogvl::keep)
}

/// Waits until it has been set since an epoch. For the helper threads of `fiber_scheduler.rb`.
fn watch(ruby: &Ruby, object: Value, timeout: Value, epoch: u32) -> Result<bool, Error> {
    sleep(ruby, object, Epoch::of(epoch), Timeout::parse(ruby, timeout)?)
}

fn waiters(ruby: &Ruby, object: Value) -> Result<usize, Error> {
    of::<EventData>(object).open(ruby).map(Event::waiters)
}

pub fn init(ruby: &Ruby, module: RModule) -> Result<(), Error> {
    let class = object::define_class::<EventData>(module, "Event", ruby.class_object())?;
    define(class, "set?", is_set as Method0)?;
    define(class, "wait", wait as MethodN)?;
    class.define_method("initialize", method!(initialize, -1))?;
    class.define_method("set", method!(set, 0))?;
    class.define_method("try?", method!(try_set, 0))?;
    class.define_method("reset", method!(reset, 0))?;
    class.define_method("waiters", method!(waiters, 0))?;
    Ok(class.define_private_method("watch", method!(watch, 2))?)
}
