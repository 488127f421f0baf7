//! `ProcessShared::Presence`.

use magnus::{Integer, RArray, RClass, RModule, RString, Ruby, TryConvert, Value, method, prelude::*};
use process_shared_core::objects::presence::MAX_NAME;
use process_shared_core::{Member, Presence, Refusal};
use std::path::Path;

use crate::errors::{self, Error};
use crate::memory::pointer_on;
use crate::object::{self, Object, Shared};
use crate::typed_data::{Data, of};
use crate::{data_type, path, thread};

#[derive(Default)]
pub struct PresenceData(Shared<Presence>);

impl Data for PresenceData {
    data_type!(PresenceData, c"ProcessShared::Presence");

    fn extra_size(&self) -> usize {
        self.0.get().map_or(0, Presence::memory_size)
    }
}

impl Object for PresenceData {
    type Core = Presence;
    const TAKES_PATH: bool = true;

    fn shared(&self) -> &Shared<Presence> {
        &self.0
    }

    fn class_name(&self) -> &'static str {
        "ProcessShared::Presence"
    }

    fn describe(&self, presence: &Presence) -> String {
        format!("{} of at most {}", presence.size(), presence.slots())
    }

    /// A thread that is a member leaves.
    fn before_close(&self, ruby: &Ruby) -> Result<(), Error> {
        if let Some(presence) = self.0.usable() {
            presence.leave(&thread::current(ruby)?, None);
        }
        Ok(())
    }
}

fn initialize(ruby: &Ruby, object: Value, args: &[Value]) -> Result<(), Error> {
    let given = path::given(ruby, args, &["bytes"])?;
    ruby.check_arity(given.positional.len(), 0..=1)?;
    let slots = given.positional.first().map_or(Ok(256), |slots| number(ruby, "slots", *slots))?;
    let bytes = given.extra[0].map_or(Ok(64), |bytes| number(ruby, "bytes", bytes))?;
    let make = || Presence::new(slots, bytes);
    let open = |path: &Path, mode| Presence::in_file(path, mode, "Presence", slots, bytes);
    of::<PresenceData>(object).initialize(ruby, object, given.location.as_ref(), make, open)
}

fn number(ruby: &Ruby, what: &str, value: Value) -> Result<usize, Error> {
    let integer = Integer::try_convert(value)?;
    integer.to_usize().map_err(|_| {
        Error::new(ruby.exception_arg_error(), format!("{what} cannot be {}", integer.inspect()))
    })
}

/// The bytes of a name, in UTF-8.
fn name_of(ruby: &Ruby, name: Value) -> Result<Option<Vec<u8>>, Error> {
    if name.is_nil() {
        return Ok(None);
    }
    let name: RString = RString::try_convert(name)?.funcall("encode", ("UTF-8",))?;
    // SAFETY: copied at once.
    let bytes = unsafe { name.as_slice() }.to_vec();
    if bytes.len() > MAX_NAME {
        let text = format!("a name has at most {MAX_NAME} bytes, not {}", bytes.len());
        return Err(Error::new(ruby.exception_arg_error(), text));
    }
    Ok(Some(bytes))
}

/// A member as Ruby sees it.
fn shown(ruby: &Ruby, presence: &Presence, member: &Member) -> Result<Value, Error> {
    let class: RClass =
        ruby.get_inner(&errors::MODULE).const_get::<_, RClass>("Presence")?.const_get("Member")?;
    let name = member.name.as_ref().map(|name| ruby.enc_str_new(name, ruby.utf8_encoding()));
    let nanoseconds = (member.since.as_secs(), member.since.subsec_nanos(), ruby.to_symbol("nsec"));
    let since: Value = ruby.class_object().const_get::<_, RClass>("Time")?.funcall("at", nanoseconds)?;
    let memory = pointer_on(ruby, presence.memory(member));
    Ok(class.funcall("new", (member.pid, member.tid, name, since, memory))?)
}

fn enter(ruby: &Ruby, object: Value, args: &[Value]) -> Result<Value, Error> {
    ruby.check_arity(args.len(), 0..=1)?;
    let name = args.first().map_or(Ok(None), |name| name_of(ruby, *name))?;
    let data = of::<PresenceData>(object);
    let (presence, thread) = (data.open(ruby)?, thread::current(ruby)?);
    let member = presence.enter(&thread, name.as_deref()).map_err(|refusal| {
        let text = match refusal {
            Refusal::Full => format!("all {} slots are taken: make it with more slots", presence.slots()),
            Refusal::Member => "this thread has entered already: call leave before this call".to_owned(),
            Refusal::HoldsTooMany => "this thread holds too many locks to be released if it dies".to_owned(),
        };
        errors::ownership(ruby, text)
    })?;
    // No Ruby code runs between here and the block but what is caught, so whatever ends it, the thread leaves.
    let outcome = shown(ruby, presence, &member).and_then(|shown| match ruby.block_given() {
        true => Ok(ruby.yield_value(shown)?),
        false => Ok(shown),
    });
    if (outcome.is_err() || ruby.block_given()) && thread.is_here() && data.shared().reached().is_some() {
        presence.leave(&thread, Some(&member));
    }
    outcome
}

fn leave(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    let presence = of::<PresenceData>(object).open(ruby)?;
    if presence.leave(&thread::current(ruby)?, None) {
        return Ok(object);
    }
    Err(errors::ownership(ruby, "this thread has not entered".to_owned()))
}

fn size(ruby: &Ruby, object: Value) -> Result<usize, Error> {
    of::<PresenceData>(object).open(ruby).map(Presence::size)
}

fn slots(ruby: &Ruby, object: Value) -> Result<usize, Error> {
    of::<PresenceData>(object).open(ruby).map(Presence::slots)
}

fn pids(ruby: &Ruby, object: Value) -> Result<RArray, Error> {
    let members = of::<PresenceData>(object).open(ruby)?.all();
    let mut pids: Vec<u32> = Vec::new();
    for member in members {
        if !pids.contains(&member.pid) {
            pids.push(member.pid);
        }
    }
    Ok(ruby.ary_from_vec(pids))
}

/// For `each`.
fn members(ruby: &Ruby, object: Value) -> Result<RArray, Error> {
    let presence = of::<PresenceData>(object).open(ruby)?;
    let array = ruby.ary_new();
    for member in presence.all() {
        array.push(shown(ruby, presence, &member)?)?;
    }
    Ok(array)
}

pub fn init(ruby: &Ruby, module: RModule) -> Result<(), Error> {
    let class = object::define_class::<PresenceData>(module, "Presence", ruby.class_object())?;
    class.define_method("initialize", method!(initialize, -1))?;
    class.define_method("enter", method!(enter, -1))?;
    class.define_method("leave", method!(leave, 0))?;
    class.define_method("size", method!(size, 0))?;
    class.define_method("slots", method!(slots, 0))?;
    class.define_method("pids", method!(pids, 0))?;
    Ok(class.define_private_method("members", method!(members, 0))?)
}
