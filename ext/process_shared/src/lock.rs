//! What waiting for a condition needs of the lock that it releases meanwhile. A class of locks implements `Lock` for its
//! data, stands in the table `LOCKS` of `lib.rs`, and calls `define_methods` in its `init`.

use magnus::{Ruby, Value, prelude::*, rb_sys::AsRawValue};
use rb_sys::VALUE;
use std::sync::OnceLock;

use crate::errors::Error;
use crate::interrupts;
use crate::object::Object;
use crate::raw_methods::{self, Method0, Method1, NIL, answer, ruby, value};
use crate::typed_data;

/// How a lock was held: what `release` tells `retake`.
#[derive(Clone, Copy, Default)]
pub struct Held {
    /// How often: a Monitor can be held more than once.
    pub levels: u32,
    /// Whether its holder is in `on_abandoned`.
    pub in_repair: bool,
}

impl Held {
    const IN_REPAIR: u64 = 1 << 32;

    fn to_u64(self) -> u64 {
        u64::from(self.levels) | if self.in_repair { Self::IN_REPAIR } else { 0 }
    }

    fn from_u64(number: u64) -> Self {
        Held { levels: number as u32, in_repair: number & Self::IN_REPAIR != 0 }
    }
}

pub trait Lock {
    /// The core's name of the lock, for the waiter table; 0 if it has none.
    fn name(&self, ruby: &Ruby) -> Result<u32, Error>;

    /// Refuses a caller that does not hold the lock, where the lock can tell.
    fn assert_held(&self, _: &Ruby) -> Result<(), Error> {
        Ok(())
    }

    /// Releases the lock on all levels.
    fn release(&self, ruby: &Ruby) -> Result<Held, Error>;

    /// Takes the lock again, whatever happens: an exception that arrives meanwhile is returned, with the lock held, and so
    /// is `raised`. `rest` runs before any Ruby code does.
    fn retake(
        &self,
        ruby: &Ruby,
        object: Value,
        held: Held,
        raised: Option<Error>,
        rest: &mut dyn FnMut(),
    ) -> Option<Error>;
}

/// Two callables as a lock: one that releases it; one that takes it again, and is told whether an exception ended the wait.
pub struct Callables {
    pub release: Value,
    pub retake: Value,
}

impl Lock for Callables {
    fn name(&self, _: &Ruby) -> Result<u32, Error> {
        Ok(0)
    }

    fn release(&self, _: &Ruby) -> Result<Held, Error> {
        self.release.funcall::<_, _, Value>("call", ())?;
        Ok(Held::default())
    }

    /// No other waiter waits for one whose lock has no name, so there is no need to rest.
    fn retake(
        &self,
        ruby: &Ruby,
        _: Value,
        _: Held,
        raised: Option<Error>,
        _: &mut dyn FnMut(),
    ) -> Option<Error> {
        let ended = if raised.is_some() { ruby.qtrue().as_value() } else { ruby.qfalse().as_value() };
        interrupts::call(ruby, self.retake, "call", [ended]).err().or(raised)
    }
}

/// Finds the lock in an object of one class.
pub type Find = fn(Value) -> Option<&'static dyn Lock>;

/// `Find` for the class of data `T`.
pub fn of<T: Object + Lock>(object: Value) -> Option<&'static dyn Lock> {
    typed_data::find::<T>(object.as_raw()).map(|data| data as &dyn Lock)
}

static KINDS: OnceLock<&'static [Find]> = OnceLock::new();

/// The lock in `object`, if it is one of ours. To be used only while `object` is alive.
pub fn find(object: Value) -> Option<&'static dyn Lock> {
    KINDS.get()?.iter().find_map(|find| find(object))
}

pub fn init(kinds: &'static [Find]) {
    let _ = KINDS.set(kinds);
}

unsafe extern "C" fn release<T: Object + Lock>(this: VALUE) -> VALUE {
    answer(|| {
        let held = typed_data::of::<T>(value(this)).release(&ruby())?;
        Ok(ruby().integer_from_u64(held.to_u64()).as_raw())
    })
}

unsafe extern "C" fn retake<T: Object + Lock>(this: VALUE, held: VALUE) -> VALUE {
    answer(|| {
        let held = Held::from_u64(magnus::Integer::try_convert(value(held))?.to_u64()?);
        let error = typed_data::of::<T>(value(this)).retake(&ruby(), value(this), held, None, &mut || {});
        error.map_or(Ok(NIL), Err)
    })
}

/// `release` and `retake`, for `lib/process_shared/fiber_scheduler.rb`.
pub fn define_methods<T: Object + Lock>(class: impl AsRawValue) -> Result<(), Error> {
    let class = class.as_raw();
    raw_methods::define_private(value(class), "release", release::<T> as Method0)?;
    raw_methods::define_private(value(class), "retake", retake::<T> as Method1)
}
