//! `ProcessShared::AtomicFixnum`, which has a word of its own, or is in memory of the user's.

use magnus::{Integer, RClass, RModule, Ruby, Value, method, prelude::*};
use process_shared_core::AtomicFixnum;
use process_shared_core::objects::OutOfRange;
use rb_sys::VALUE;
use std::any::Any;
use std::ffi::c_int;
use std::path::Path;
use std::ptr::NonNull;

use crate::errors::{self, Error};
use crate::object::{self, Object, Shared};
use crate::raw_methods::{Method0, MethodN, answer, arguments, define, require_block, ruby, value};
use crate::typed_data::{self, Data, of};
use crate::{data_type, path};

#[derive(Default)]
pub struct AtomicFixnumData(Shared<AtomicFixnum>);

impl Data for AtomicFixnumData {
    data_type!(AtomicFixnumData, c"ProcessShared::AtomicFixnum");

    fn extra_size(&self) -> usize {
        match self.0.get() {
            Some(number) if number.is_in_memory() => 0,
            _ => process_shared_core::arena::SLOT,
        }
    }
}

impl Object for AtomicFixnumData {
    type Core = AtomicFixnum;
    const TAKES_PATH: bool = true;

    fn shared(&self) -> &Shared<AtomicFixnum> {
        &self.0
    }

    fn class_name(&self) -> &'static str {
        "ProcessShared::AtomicFixnum"
    }

    fn describe(&self, number: &AtomicFixnum) -> String {
        format!("value {}", number.value())
    }
}

/// An argument that is a number of the range.
///
/// # Errors
/// `ArgumentError` if it is no Integer, `RangeError` if it is outside.
#[inline]
fn number(ruby: &Ruby, argument: Value) -> Result<i64, Error> {
    let Some(integer) = Integer::from_value(argument) else {
        let text = format!("value must be an Integer, not {}", errors::class_name(argument));
        return Err(Error::new(ruby.exception_arg_error(), text));
    };
    integer.to_i64().map_err(|_| out_of_range(ruby, &integer.to_string()))
}

#[cold]
fn out_of_range(ruby: &Ruby, what: &str) -> Error {
    let text = format!("{what} is outside the numbers of 64 bits, from -2**63 to 2**63 - 1");
    Error::new(ruby.exception_range_error(), text)
}

fn initialize(ruby: &Ruby, object: Value, args: &[Value]) -> Result<(), Error> {
    let given = path::given(ruby, args, &[])?;
    ruby.check_arity(given.positional.len(), 0..=1)?;
    let value = given.positional.first().map_or(Ok(0), |value| number(ruby, *value))?;
    let open = |path: &Path, mode| AtomicFixnum::in_file(path, mode, "AtomicFixnum", value);
    let data = of::<AtomicFixnumData>(object);
    data.initialize(ruby, object, given.location.as_ref(), || AtomicFixnum::new(value), open)
}

#[inline(always)]
fn open<'a>(this: VALUE) -> Result<&'a AtomicFixnum, Error> {
    // SAFETY: a method's receiver, which Ruby keeps meanwhile.
    let data = unsafe { typed_data::get::<AtomicFixnumData>(this) };
    match data.0.usable() {
        Some(number) => Ok(number),
        None => data.open(&ruby()),
    }
}

fn integer(value: i64) -> VALUE {
    // SAFETY: may allocate, and raise where no frame up to Ruby owns anything.
    unsafe { rb_sys::rb_ll2inum(value) }
}

unsafe extern "C" fn read(this: VALUE) -> VALUE {
    answer(|| open(this).map(|number| integer(number.value())))
}

unsafe extern "C" fn add<const SIGN: i64>(argc: c_int, argv: *const VALUE, this: VALUE) -> VALUE {
    answer(|| {
        // SAFETY: what Ruby passed.
        let delta = match unsafe { arguments(argc, argv, 0, 1) }? {
            [] => 1,
            [delta, ..] => number(&ruby(), value(*delta))?,
        };
        let number = open(this)?;
        let sum = if SIGN < 0 { number.subtract(delta) } else { number.add(delta) };
        sum.map(integer)
            .map_err(|OutOfRange| out_of_range(&ruby(), if SIGN < 0 { "the difference" } else { "the sum" }))
    })
}

fn set(ruby: &Ruby, object: Value, argument: Value) -> Result<Value, Error> {
    let value = number(ruby, argument)?;
    of::<AtomicFixnumData>(object).open(ruby)?.set(value);
    Ok(argument)
}

fn compare_and_set(ruby: &Ruby, object: Value, expect: Value, update: Value) -> Result<bool, Error> {
    let (expect, update) = (number(ruby, expect)?, number(ruby, update)?);
    Ok(of::<AtomicFixnumData>(object).open(ruby)?.compare_and_set(expect, update))
}

unsafe extern "C" fn update(this: VALUE) -> VALUE {
    // SAFETY: within a method; nothing to drop.
    unsafe { require_block() };
    answer(|| {
        let ruby = ruby();
        loop {
            let before = open(this)?.value();
            let after: Value = ruby.yield_value(before)?;
            let next = number(&ruby, after)?;
            if open(this)?.compare_and_set(before, next) {
                return Ok(integer(next));
            }
        }
    })
}

/// The number in the 8 bytes at `address`, which `memory` keeps mapped: `SharedMemory#atomic`.
///
/// # Errors
/// `ArgumentError` if the address is no multiple of 8.
///
/// # Safety
/// It does, and they are inside.
pub unsafe fn in_memory(
    ruby: &Ruby,
    address: NonNull<u8>,
    memory: impl Any + Send + Sync,
) -> Result<Value, Error> {
    // SAFETY: the caller's promise.
    let number = unsafe { AtomicFixnum::at(address, memory) };
    let class: RClass = ruby.get_inner(&errors::MODULE).const_get("AtomicFixnum")?;
    let object: Value = class.funcall("allocate", ())?;
    of::<AtomicFixnumData>(object).initialized(ruby, number)?;
    Ok(object)
}

pub fn init(ruby: &Ruby, module: RModule) -> Result<(), Error> {
    let class = object::define_class::<AtomicFixnumData>(module, "AtomicFixnum", ruby.class_object())?;
    class.define_method("initialize", method!(initialize, -1))?;
    define(class, "value", read as Method0)?;
    class.define_method("value=", method!(set, 1))?;
    for name in ["increment", "up"] {
        define(class, name, add::<1> as MethodN)?;
    }
    for name in ["decrement", "down"] {
        define(class, name, add::<-1> as MethodN)?;
    }
    define(class, "update", update as Method0)?;
    Ok(class.define_method("compare_and_set", method!(compare_and_set, 2))?)
}
