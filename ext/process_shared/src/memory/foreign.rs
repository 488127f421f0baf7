//! Where the ffi gem comes in: addresses stored in memory, and handing our memory to foreign functions.
//!
//! We never follow an address that merely lies in memory: that is the ffi gem's trade. What would have to is refused
//! with NotImplementedError until the program itself has loaded ffi.

use std::ffi::c_int;
use std::ptr;

use magnus::rb_sys::AsRawValue;
use magnus::{Integer, RClass, Ruby, Value, prelude::*};
use rb_sys::VALUE;
use rb_sys::macros::{RARRAY_LEN, RSTRING_PTR};
use rb_sys::ruby_value_type::{RUBY_T_ARRAY, RUBY_T_STRING};

use super::accessors::{check_type, convert_all};
use super::handle::{Handle, Place};
use super::number::{Number, UInt64, index, optional_index};
use super::types;
use crate::errors::Error;
use crate::raw_methods::{
    Method0, Method1, Method2, MethodN, answer, answer_with, arguments, define, ruby, value,
};

/// Bytes an address takes.
pub const WIDTH: i64 = size_of::<usize>() as i64;

/// How often `to_ptr` may answer with yet another thing that has a `to_ptr`.
const DEPTH: usize = 8;

fn pointer_class(ruby: &Ruby) -> Result<Option<RClass>, Error> {
    Ok(types::ffi(ruby)?.map(|ffi| ffi.const_get("Pointer")).transpose()?)
}

fn missing(ruby: &Ruby, what: &str) -> Error {
    let text = format!("{what} needs the ffi gem: require \"ffi\" first");
    Error::new(ruby.exception_not_imp_error(), text)
}

/// An `FFI::Pointer` to an address somebody stored.
fn pointer_to(address: usize) -> Result<Value, Error> {
    let ruby = ruby();
    let class = pointer_class(&ruby)?.ok_or_else(|| missing(&ruby, "reading a pointer"))?;
    // ffi takes the upper half of all addresses as negative numbers only.
    Ok(class.funcall("new", (address as isize,))?)
}

/// The address of an `FFI::Pointer`; None for anything else.
pub fn address_of(other: Value) -> Result<Option<usize>, Error> {
    match pointer_class(&ruby())? {
        Some(class) if other.is_kind_of(class) => Ok(other.funcall("address", ())?),
        _ => Ok(None),
    }
}

/// What is stored for a value: nil, an Integer, a Pointer of ours or ffi's, or anything with `to_ptr`.
pub fn address_from(mut given: Value) -> Result<usize, Error> {
    for _ in 0..DEPTH {
        if given.is_nil() {
            return Ok(0);
        }
        if Integer::from_value(given).is_some() {
            return Ok(UInt64::from_ruby(given.as_raw())? as usize);
        }
        if let Some(handle) = Handle::inside(given.as_raw()) {
            return Ok(handle.check()?.start.addr());
        }
        if let Some(address) = address_of(given)? {
            return Ok(address);
        }
        if !given.respond_to("to_ptr", false)? {
            break;
        }
        given = given.funcall("to_ptr", ())?;
    }
    Err(Error::new(ruby().exception_arg_error(), "value is not a pointer"))
}

/// The first `length` bytes of memory that is not ours.
pub fn bytes_of(source: VALUE, length: i64) -> Result<VALUE, Error> {
    let source = value(source);
    if !source.respond_to("get_bytes", false)? {
        return Err(Error::new(ruby().exception_arg_error(), "Invalid Memory object"));
    }
    let bytes: Value = source.funcall("get_bytes", (0, length))?;
    check_type(bytes.as_raw(), RUBY_T_STRING)?;
    Ok(bytes.as_raw())
}

/// # Safety
/// `this` is a Pointer; so for all that follow.
unsafe fn load(this: VALUE, place: impl Place) -> Result<usize, Error> {
    // SAFETY: as the caller promises; `locate` has checked the range.
    unsafe { Ok(place.locate(Handle::of(this), WIDTH)?.cast::<usize>().read_unaligned()) }
}

pub unsafe fn get_at(this: VALUE, place: impl Place) -> Result<VALUE, Error> {
    // SAFETY: as the caller promises.
    pointer_to(unsafe { load(this, place) }?).map(AsRawValue::as_raw)
}

pub unsafe fn put_at(this: VALUE, place: impl Place, given: VALUE) -> Result<(), Error> {
    let address = address_from(value(given))?;
    // SAFETY: as the caller promises; `locate` has checked the range.
    unsafe {
        let handle = Handle::of(this);
        handle.check_writable(this)?;
        place.locate(handle, WIDTH)?.cast::<usize>().write_unaligned(address);
    }
    Ok(())
}

pub unsafe fn get_array_at(this: VALUE, offset: i64, count: i64) -> Result<VALUE, Error> {
    // SAFETY: as the caller promises.
    unsafe { read_all(this, offset, Some(count), pointer_to) }
}

/// What `make` makes of the addresses in memory: of `count` of them, or of those up to a null pointer or the end. Each is
/// read when it is its turn: `make` may run any code, and nobody knows how few there are.
unsafe fn read_all(
    this: VALUE,
    offset: i64,
    count: Option<i64>,
    make: fn(usize) -> Result<Value, Error>,
) -> Result<VALUE, Error> {
    if count.is_some_and(i64::is_negative) {
        let text = "negative array size (or size too big)";
        return Err(Error::new(ruby().exception_arg_error(), text));
    }
    // SAFETY: as the caller promises.
    unsafe {
        let handle = Handle::of(this);
        handle.bytes(offset, count.unwrap_or(1).saturating_mul(WIDTH))?;
        let all = (handle.check()?.size as i64 - offset) / WIDTH;
        let array = ruby().ary_new_capa(count.unwrap_or(0) as usize);
        for position in 0..count.unwrap_or(all) {
            let address = load(this, offset + position * WIDTH)?;
            if address == 0 && count.is_none() {
                break;
            }
            array.push(make(address)?)?;
        }
        Ok(array.as_raw())
    }
}

pub unsafe fn put_array_at(this: VALUE, offset: i64, array: VALUE) -> Result<(), Error> {
    check_type(array, RUBY_T_ARRAY)?;
    // SAFETY: as the caller promises. The range is checked before the elements are looked at, as for numbers, and again, as
    // they may have run any code. The String holds as many bytes, and nothing is allocated meanwhile.
    unsafe {
        let handle = Handle::of(this);
        handle.check_writable(this)?;
        let count = RARRAY_LEN(array) as usize;
        let length = (count as i64).saturating_mul(WIDTH);
        handle.bytes(offset, length)?;
        let addresses = convert_all(array, count, |given| address_from(value(given)))?;
        handle.check_writable(this)?;
        let target = handle.bytes(offset, length)?;
        ptr::copy_nonoverlapping(RSTRING_PTR(addresses).cast(), target, length as usize);
    }
    Ok(())
}

/// The C string an address points to; nil for a null pointer, which needs no ffi.
fn string_at(address: usize) -> Result<Value, Error> {
    if address == 0 {
        return Ok(ruby().qnil().as_value());
    }
    Ok(pointer_to(address)?.funcall("read_string", ())?)
}

pub unsafe fn get_string_at(this: VALUE, offset: i64) -> Result<VALUE, Error> {
    // SAFETY: as the caller promises.
    string_at(unsafe { load(this, offset) }?).map(AsRawValue::as_raw)
}

/// An `FFI::Pointer` of the same place, size and byte order, which keeps the memory mapped while it lives.
pub unsafe fn to_ffi(this: VALUE) -> Result<Value, Error> {
    let ruby = ruby();
    // SAFETY: as the caller promises.
    let handle = unsafe { Handle::of(this) };
    let window = handle.check()?;
    let (start, size, swapped) = (window.start.addr(), window.size, window.swapped);
    let class = pointer_class(&ruby)?.ok_or_else(|| missing(&ruby, "to_ptr"))?;
    let kept = handle.whole_view(this)?;
    let everywhere: Value = class.funcall("new", (start as isize,))?;
    let bounded: Value = everywhere.funcall("slice", (0, size))?;
    let _: Value = bounded.funcall("instance_variable_set", (ruby.to_symbol("@process_shared"), kept))?;
    if !swapped {
        return Ok(bounded);
    }
    let order = ruby.to_symbol(if cfg!(target_endian = "big") { "little" } else { "big" });
    Ok(bounded.funcall("order", (order,))?)
}

pub unsafe extern "C" fn get_pointer<P: Place>(this: VALUE, place: VALUE) -> VALUE {
    // SAFETY: `this` is a Pointer (rule 3 of bind.rs), and the arguments are Ruby's; so below.
    answer(|| unsafe { get_at(this, P::from(index(place)?)) })
}

pub unsafe extern "C" fn put_pointer<P: Place>(this: VALUE, place: VALUE, given: VALUE) -> VALUE {
    // SAFETY: as above.
    answer_with(this, || unsafe { put_at(this, P::from(index(place)?), given) })
}

unsafe extern "C" fn read_pointer(this: VALUE) -> VALUE {
    // SAFETY: as above.
    answer(|| unsafe { get_at(this, 0) })
}

unsafe extern "C" fn write_pointer(this: VALUE, given: VALUE) -> VALUE {
    // SAFETY: as above.
    answer_with(this, || unsafe { put_at(this, 0, given) })
}

unsafe extern "C" fn get_array_of_pointer(this: VALUE, offset: VALUE, count: VALUE) -> VALUE {
    // SAFETY: as above.
    answer(|| unsafe {
        let count = index(count)?; // first, as in ffi
        get_array_at(this, index(offset)?, count)
    })
}

unsafe extern "C" fn put_array_of_pointer(this: VALUE, offset: VALUE, array: VALUE) -> VALUE {
    // SAFETY: as above.
    answer_with(this, || unsafe { put_array_at(this, index(offset)?, array) })
}

unsafe extern "C" fn read_array_of_pointer(this: VALUE, count: VALUE) -> VALUE {
    // SAFETY: as above.
    answer(|| unsafe { get_array_at(this, 0, index(count)?) })
}

unsafe extern "C" fn write_array_of_pointer(this: VALUE, array: VALUE) -> VALUE {
    // SAFETY: as above.
    answer_with(this, || unsafe { put_array_at(this, 0, array) })
}

/// `get_array_of_string(offset, count = nil)`
unsafe extern "C" fn get_array_of_string(argc: c_int, argv: *const VALUE, this: VALUE) -> VALUE {
    // SAFETY: as above.
    answer(|| unsafe {
        let given = arguments(argc, argv, 1, 2)?;
        let offset = index(given[0])?;
        read_all(this, offset, optional_index(given.get(1))?, string_at)
    })
}

/// `read_array_of_string(count = nil)`
unsafe extern "C" fn read_array_of_string(argc: c_int, argv: *const VALUE, this: VALUE) -> VALUE {
    // SAFETY: as above.
    answer(|| unsafe {
        let count = optional_index(arguments(argc, argv, 0, 1)?.first())?;
        read_all(this, 0, count, string_at)
    })
}

unsafe extern "C" fn to_ptr(this: VALUE) -> VALUE {
    // SAFETY: as above.
    answer(|| unsafe { to_ffi(this).map(AsRawValue::as_raw) })
}

pub fn init(class: RClass) -> Result<(), Error> {
    define(class, "get_pointer", get_pointer::<i64> as Method1)?;
    define(class, "put_pointer", put_pointer::<i64> as Method2)?;
    define(class, "read_pointer", read_pointer as Method0)?;
    define(class, "write_pointer", write_pointer as Method1)?;
    define(class, "get_array_of_pointer", get_array_of_pointer as Method2)?;
    define(class, "put_array_of_pointer", put_array_of_pointer as Method2)?;
    define(class, "read_array_of_pointer", read_array_of_pointer as Method1)?;
    define(class, "write_array_of_pointer", write_array_of_pointer as Method1)?;
    define(class, "get_array_of_string", get_array_of_string as MethodN)?;
    define(class, "read_array_of_string", read_array_of_string as MethodN)?;
    define(class, "to_ptr", to_ptr as Method0)
}
