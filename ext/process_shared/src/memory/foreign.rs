//! Where the ffi gem comes in: addresses stored in memory, and handing our memory to foreign functions.
//!
//! We never follow an address that merely lies in memory: that is the ffi gem's trade. What would have to is
//! refused with NotImplementedError until the program itself has loaded ffi.

use std::ffi::c_int;
use std::ptr;

use magnus::rb_sys::AsRawValue;
use magnus::{Integer, RClass, Ruby, Value, prelude::*};
use rb_sys::VALUE;
use rb_sys::macros::{RARRAY_LEN, RSTRING_PTR};
use rb_sys::ruby_value_type::{RUBY_T_ARRAY, RUBY_T_STRING};

use super::arguments::{check_type, index, optional_index};
use super::arrays::convert_all;
use super::number::{Number, UInt64};
use super::place::Place;
use super::this::{This, This0, This1, This2, ThisN, define};
use super::{bytes, types};
use crate::errors::Error;
use crate::raw_methods::{answer, answer_with, arguments, ruby, value};

/// Bytes an address takes.
const WIDTH: i64 = size_of::<usize>() as i64;

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
fn address_from(mut given: Value) -> Result<usize, Error> {
    for _ in 0..DEPTH {
        if given.is_nil() {
            return Ok(0);
        }
        if Integer::from_value(given).is_some() {
            return Ok(UInt64::from_ruby(given.as_raw())? as usize);
        }
        if let Some(pointer) = This::inside(given.as_raw()) {
            return Ok(pointer.check()?.start.addr());
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
fn bytes_of(source: VALUE, length: i64) -> Result<VALUE, Error> {
    let source = value(source);
    if !source.respond_to("get_bytes", false)? {
        return Err(Error::new(ruby().exception_arg_error(), "Invalid Memory object"));
    }
    let bytes: Value = source.funcall("get_bytes", (0, length))?;
    check_type(bytes.as_raw(), RUBY_T_STRING)?;
    Ok(bytes.as_raw())
}

fn load(this: This, place: impl Place) -> Result<usize, Error> {
    let address = place.locate(&this, WIDTH)?;
    // SAFETY: `locate` has checked the range.
    Ok(unsafe { address.cast::<usize>().read_unaligned() })
}

pub fn get_at(this: This, place: impl Place) -> Result<VALUE, Error> {
    pointer_to(load(this, place)?).map(AsRawValue::as_raw)
}

pub fn put_at(this: This, place: impl Place, given: VALUE) -> Result<(), Error> {
    let pointed = address_from(value(given))?;
    this.check_writable()?;
    let address = place.locate(&this, WIDTH)?;
    // SAFETY: `locate` has checked the range.
    unsafe { address.cast::<usize>().write_unaligned(pointed) };
    Ok(())
}

fn get_array_at(this: This, offset: i64, count: i64) -> Result<VALUE, Error> {
    read_all(this, offset, Some(count), pointer_to)
}

/// What `make` makes of the addresses in memory: of `count` of them, or of those up to a null pointer or the
/// end. Each is read when it is its turn: `make` may run any code, and nobody knows how few there are.
fn read_all(
    this: This,
    offset: i64,
    count: Option<i64>,
    make: fn(usize) -> Result<Value, Error>,
) -> Result<VALUE, Error> {
    if count.is_some_and(i64::is_negative) {
        let text = "negative array size (or size too big)";
        return Err(Error::new(ruby().exception_arg_error(), text));
    }
    this.bytes(offset, count.unwrap_or(1).saturating_mul(WIDTH))?;
    let all = (this.check()?.size as i64 - offset) / WIDTH;
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

/// The range is checked before the elements are looked at, as for numbers, and again, as they may have run
/// any code.
fn put_array_at(this: This, offset: i64, array: VALUE) -> Result<(), Error> {
    check_type(array, RUBY_T_ARRAY)?;
    this.check_writable()?;
    // SAFETY: it is an Array.
    let count = unsafe { RARRAY_LEN(array) } as usize;
    let length = (count as i64).saturating_mul(WIDTH);
    this.bytes(offset, length)?;
    let addresses = convert_all(array, count, |given| address_from(value(given)))?;
    this.check_writable()?;
    let target = this.bytes(offset, length)?;
    // SAFETY: `bytes` has checked the range; the String holds as many bytes, and nothing is allocated
    // meanwhile.
    unsafe { ptr::copy_nonoverlapping(RSTRING_PTR(addresses).cast(), target, length as usize) };
    Ok(())
}

/// The C string an address points to; nil for a null pointer, which needs no ffi.
fn string_at(address: usize) -> Result<Value, Error> {
    if address == 0 {
        return Ok(ruby().qnil().as_value());
    }
    Ok(pointer_to(address)?.funcall("read_string", ())?)
}

pub fn get_string_at(this: This, offset: i64) -> Result<VALUE, Error> {
    string_at(load(this, offset)?).map(AsRawValue::as_raw)
}

/// An `FFI::Pointer` of the same place, size and byte order, which keeps the memory mapped while it lives.
pub fn to_ffi(this: This) -> Result<Value, Error> {
    let ruby = ruby();
    let window = this.check()?;
    let (start, size, swapped) = (window.start.addr(), window.size, window.swapped);
    let class = pointer_class(&ruby)?.ok_or_else(|| missing(&ruby, "to_ptr"))?;
    let kept = this.whole_view()?;
    let everywhere: Value = class.funcall("new", (start as isize,))?;
    let bounded: Value = everywhere.funcall("slice", (0, size))?;
    let _: Value = bounded.funcall("instance_variable_set", (ruby.to_symbol("@process_shared"), kept))?;
    if !swapped {
        return Ok(bounded);
    }
    let order = ruby.to_symbol(if cfg!(target_endian = "big") { "little" } else { "big" });
    Ok(bounded.funcall("order", (order,))?)
}

pub extern "C" fn get_pointer<P: Place>(this: This, place: VALUE) -> VALUE {
    answer(|| get_at(this, P::from(index(place)?)))
}

pub extern "C" fn put_pointer<P: Place>(this: This, place: VALUE, given: VALUE) -> VALUE {
    answer_with(this.raw(), || put_at(this, P::from(index(place)?), given))
}

extern "C" fn read_pointer(this: This) -> VALUE {
    answer(|| get_at(this, 0))
}

extern "C" fn write_pointer(this: This, given: VALUE) -> VALUE {
    answer_with(this.raw(), || put_at(this, 0, given))
}

extern "C" fn get_array_of_pointer(this: This, offset: VALUE, count: VALUE) -> VALUE {
    answer(|| {
        let count = index(count)?; // first, as in ffi
        get_array_at(this, index(offset)?, count)
    })
}

extern "C" fn put_array_of_pointer(this: This, offset: VALUE, array: VALUE) -> VALUE {
    answer_with(this.raw(), || put_array_at(this, index(offset)?, array))
}

extern "C" fn read_array_of_pointer(this: This, count: VALUE) -> VALUE {
    answer(|| get_array_at(this, 0, index(count)?))
}

extern "C" fn write_array_of_pointer(this: This, array: VALUE) -> VALUE {
    answer_with(this.raw(), || put_array_at(this, 0, array))
}

/// `get_array_of_string(offset, count = nil)`
unsafe extern "C" fn get_array_of_string(argc: c_int, argv: *const VALUE, this: This) -> VALUE {
    answer(|| {
        // SAFETY: what Ruby passed; so below.
        let given = unsafe { arguments(argc, argv, 1, 2) }?;
        let offset = index(given[0])?;
        read_all(this, offset, optional_index(given.get(1))?, string_at)
    })
}

/// `read_array_of_string(count = nil)`
unsafe extern "C" fn read_array_of_string(argc: c_int, argv: *const VALUE, this: This) -> VALUE {
    answer(|| {
        // SAFETY: as above.
        let count = optional_index(unsafe { arguments(argc, argv, 0, 1) }?.first())?;
        read_all(this, 0, count, string_at)
    })
}

extern "C" fn to_ptr(this: This) -> VALUE {
    answer(|| to_ffi(this).map(AsRawValue::as_raw))
}

/// `__copy_from__(source, length)`: the first bytes of another Pointer, or of anything with `get_bytes`.
extern "C" fn copy_from(this: This, source: VALUE, length: VALUE) -> VALUE {
    answer_with(this.raw(), || {
        let length = index(length)?;
        let Some(from) = This::inside(source) else {
            let text = bytes_of(source, length)?;
            // SAFETY: it is a String.
            return unsafe { bytes::put(this, 0, text, 0, None, 0) };
        };
        this.check_writable()?;
        let (from, to) = (from.bytes(0, length)?, this.bytes(0, length)?);
        // SAFETY: both ranges were checked, and may overlap.
        unsafe { ptr::copy(from, to, length as usize) };
        Ok(())
    })
}

pub fn init(class: RClass) -> Result<(), Error> {
    define(class, "get_pointer", get_pointer::<i64> as This1)?;
    define(class, "put_pointer", put_pointer::<i64> as This2)?;
    define(class, "read_pointer", read_pointer as This0)?;
    define(class, "write_pointer", write_pointer as This1)?;
    define(class, "get_array_of_pointer", get_array_of_pointer as This2)?;
    define(class, "put_array_of_pointer", put_array_of_pointer as This2)?;
    define(class, "read_array_of_pointer", read_array_of_pointer as This1)?;
    define(class, "write_array_of_pointer", write_array_of_pointer as This1)?;
    define(class, "get_array_of_string", get_array_of_string as ThisN)?;
    define(class, "read_array_of_string", read_array_of_string as ThisN)?;
    define(class, "to_ptr", to_ptr as This0)?;
    define(class, "__copy_from__", copy_from as This2)
}
