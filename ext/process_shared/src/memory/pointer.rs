//! `ProcessShared::Pointer`: a bounded window on shared memory, with the shape of `FFI::Pointer`.
//!
//! Here: what a window is and the windows made from it. The accessors are in accessors.rs (numbers), bytes.rs
//! (strings), typed.rs (by type), foreign.rs (what needs the ffi gem) and objects.rs (Marshal).

use magnus::rb_sys::AsRawValue;
use magnus::typed_data::Obj;
use magnus::{RClass, Ruby, Symbol, Value, method, prelude::*};

use super::arguments::index;
use super::handle::{Handle, POINTER};
use super::this::This;
use crate::classes;
use crate::errors::{self, Error};
use crate::raw_methods::{module, ruby};

fn initialize(ruby: &Ruby, _this: Obj<Handle>, _arguments: &[Value]) -> Result<(), Error> {
    let text = "a Pointer is a view of a SharedMemory: use its +, [], slice or order";
    Err(Error::new(ruby.exception_type_error(), text))
}

fn initialize_copy(ruby: &Ruby, this: Obj<Handle>, _original: Value) -> Result<Value, Error> {
    let class = errors::class_name(this.as_value());
    let class = class.rsplit("::").next().unwrap_or("Pointer");
    let text = format!(
        "can't copy {class}: the object is what is shared; slice(0, size) gives another view, get_bytes a copy"
    );
    Err(Error::new(ruby.exception_type_error(), text))
}

fn size(this: Obj<Handle>) -> Result<usize, Error> {
    Ok(this.check()?.size)
}

fn type_size(this: Obj<Handle>) -> Result<usize, Error> {
    Ok(this.check()?.type_size)
}

fn has_limit(this: Obj<Handle>) -> Result<bool, Error> {
    this.check().map(|_| true)
}

fn address(this: Obj<Handle>) -> Result<usize, Error> {
    Ok(this.check()?.start.addr())
}

fn is_null(this: Obj<Handle>) -> Result<bool, Error> {
    this.check().map(|window| window.start.is_null())
}

fn part(this: Obj<Handle>, offset: i64, length: i64) -> Result<Obj<Handle>, Error> {
    this.check()?;
    let start = this.bytes(offset, length)?;
    This::from(this).view(start, length as usize, this.swapped())
}

/// From `offset` to the end.
fn rest(this: Obj<Handle>, offset: i64) -> Result<Obj<Handle>, Error> {
    let size = this.check()?.size as i64;
    part(this, offset, size.saturating_sub(offset))
}

fn at(this: Obj<Handle>, position: Value) -> Result<Obj<Handle>, Error> {
    let position = index(position.as_raw())?;
    let width = this.check()?.type_size as i64;
    rest(this, position.saturating_mul(width))
}

fn plus(this: Obj<Handle>, offset: Value) -> Result<Obj<Handle>, Error> {
    rest(this, index(offset.as_raw())?)
}

fn slice(this: Obj<Handle>, offset: Value, length: Value) -> Result<Obj<Handle>, Error> {
    let length = index(length.as_raw())?; // first, as in ffi
    part(this, index(offset.as_raw())?, length)
}

fn order(ruby: &Ruby, this: Obj<Handle>, arguments: &[Value]) -> Result<Value, Error> {
    let window = this.check()?;
    let big = cfg!(target_endian = "big") != window.swapped;
    let [wanted] = arguments else {
        return match arguments.len() {
            0 => Ok(ruby.to_symbol(if big { "big" } else { "little" }).as_value()),
            given => Err(Error::new(
                ruby.exception_arg_error(),
                format!("wrong number of arguments (given {given}, expected 0..1)"),
            )),
        };
    };
    let Some(name) = Symbol::from_value(*wanted) else {
        let text = format!("wrong argument type {} (expected Symbol)", wanted.class());
        return Err(Error::new(ruby.exception_type_error(), text));
    };
    let wants_big = match &*name.name()? {
        "big" | "network" => true,
        "little" => false,
        _ => return Err(Error::new(ruby.exception_arg_error(), "unknown byte order")),
    };
    if wants_big == big {
        return Ok(this.as_value());
    }
    let view = This::from(this).view(window.start, window.size, !window.swapped)?;
    Ok(view.as_value())
}

fn equal(this: Obj<Handle>, other: Value) -> Result<bool, Error> {
    if this.as_raw() == other.as_raw() {
        return Ok(true);
    }
    let Ok(window) = this.check() else { return Ok(false) };
    if let Ok(other) = Obj::<Handle>::try_convert(other) {
        return Ok(other.check().is_ok_and(|that| that.start == window.start));
    }
    super::foreign::address_of(other).map(|address| address == Some(window.start.addr()))
}

fn inspect(this: Obj<Handle>) -> String {
    let class = errors::class_name(this.as_value());
    match this.check() {
        Ok(window) => {
            let digits = 2 + 2 * size_of::<usize>();
            format!("#<{class} address={:#0digits$x} size={}>", window.start.addr(), window.size)
        }
        Err(_) if this.is_closed() => format!("#<{class} (closed)>"),
        Err(_) => format!("#<{class} (not initialized)>"),
    }
}

fn close(this: Obj<Handle>) {
    This::from(this).close();
}

fn is_closed(this: Obj<Handle>) -> Result<bool, Error> {
    if !this.is_closed() {
        this.check()?;
    }
    Ok(this.is_closed())
}

fn free(this: Obj<Handle>) -> Obj<Handle> {
    This::from(this).close();
    this
}

/// The memory always belongs to its objects: there is nothing to hand over.
fn set_autorelease(this: Obj<Handle>, wanted: Value) -> Result<Value, Error> {
    this.check()?;
    if wanted.to_bool() {
        return Ok(wanted);
    }
    let text = "shared memory is always released with its last object";
    Err(Error::new(ruby().exception_arg_error(), text))
}

pub fn init(ruby: &Ruby) -> Result<RClass, Error> {
    let class = POINTER.set(ruby, classes::define(module(ruby), "Pointer", ruby.class_object())?)?;
    class.define_alloc_func::<Handle>();
    class.define_private_method("initialize", method!(initialize, -1))?;
    class.define_private_method("initialize_copy", method!(initialize_copy, 1))?;
    class.define_method("size", method!(size, 0))?;
    class.define_method("total", method!(size, 0))?;
    class.define_method("type_size", method!(type_size, 0))?;
    class.define_method("size_limit?", method!(has_limit, 0))?;
    class.define_method("address", method!(address, 0))?;
    class.define_method("to_i", method!(address, 0))?;
    class.define_method("null?", method!(is_null, 0))?;
    class.define_method("[]", method!(at, 1))?;
    class.define_method("+", method!(plus, 1))?;
    class.define_method("slice", method!(slice, 2))?;
    class.define_method("order", method!(order, -1))?;
    class.define_method("==", method!(equal, 1))?;
    class.define_method("inspect", method!(inspect, 0))?;
    class.define_method("to_s", method!(inspect, 0))?;
    class.define_method("close", method!(close, 0))?;
    class.define_method("closed?", method!(is_closed, 0))?;
    class.define_method("free", method!(free, 0))?;
    class.define_method("autorelease?", method!(has_limit, 0))?;
    class.define_method("autorelease=", method!(set_autorelease, 1))?;
    Ok(class)
}
