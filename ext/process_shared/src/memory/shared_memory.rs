//! `ProcessShared::SharedMemory`: the object that makes shared memory. All it adds to Pointer is how it
//! begins.

use std::os::fd::IntoRawFd;
use std::ptr::NonNull;
use std::sync::Arc;

use magnus::rb_sys::{AsRawValue, FromRawValue};
use magnus::typed_data::Obj;
use magnus::{RClass, Ruby, Value, method, prelude::*};
use process_shared_core::memory::Region;
use process_shared_core::{Error as CoreError, Result as CoreResult};
use rb_sys::VALUE;

use super::arguments::index;
use super::handle::Handle;
use super::shape::Shape;
use super::this::This;
use super::types::Element;
use super::window::{Elements, Window};
use crate::errors::Error;
use crate::raw_methods::{module, raising};
use crate::{atomic_fixnum, classes, errors, interrupts, nogvl, path};

/// Instance variables without `@`: Ruby code cannot see them, the collector can.
const TYPE: &std::ffi::CStr = c"type";
const COUNT: &std::ffi::CStr = c"count";

fn initialize(ruby: &Ruby, this: Obj<Handle>, arguments: &[Value]) -> Result<(), Error> {
    create(ruby, this, arguments, "SharedMemory", no_elements)
}

fn no_elements(_: Element) -> Result<Elements, Error> {
    Ok(Elements::NONE)
}

/// `new(bytes = 1)` and `new(type, count = 1)` of the class with the short name `class`, with `reserve: true` or without,
/// and with a path or without; `elements` may refuse a type.
pub fn create(
    ruby: &Ruby,
    this: Obj<Handle>,
    arguments: &[Value],
    class: &'static str,
    elements: fn(Element) -> Result<Elements, Error>,
) -> Result<(), Error> {
    if this.is_open() || this.is_closed() {
        return Err(errors::already_initialized(ruby, "ProcessShared::SharedMemory"));
    }
    let given = path::given(ruby, arguments, &["reserve"])?;
    ruby.check_arity(given.positional.len(), 0..=2)?;
    let reserve = given.extra[0].is_some_and(|reserve| reserve.to_bool());
    let shape = Shape::of(ruby, given.positional.first().copied(), given.positional.get(1).copied())?;
    let elements = elements(shape.element)?;

    let size = shape.bytes(ruby)?;
    let region = match &given.location {
        None => region(ruby, size, reserve)?,
        Some(location) => {
            let details = shape.describe();
            location.open(ruby, |path, mode| Region::in_file(path, mode, class, &details, size))?
        }
    };
    path::remember(this.as_value(), given.location.as_ref())?;
    open(ruby, this, region, &shape, elements)?;
    if !ruby.block_given() {
        return Ok(());
    }
    let outcome = ruby.yield_value::<_, Value>(this);
    This::from(this).close();
    outcome?;
    Ok(())
}

/// Makes `this` an object over the whole region.
fn open(
    ruby: &Ruby,
    this: Obj<Handle>,
    region: Region,
    shape: &Shape,
    elements: Elements,
) -> Result<(), Error> {
    let region = Arc::new(region);
    let (start, size) = (region.start(), shape.bytes(ruby)?);
    let window = Window {
        start,
        size,
        type_size: shape.type_size,
        elements,
        swapped: false,
        whole: true,
        region: Some(region),
    };
    This::from(this).open(window)?;
    let (type_shown, count) = (shape.shown.as_raw(), ruby.integer_from_u64(shape.count as u64).as_raw());
    let object = this.as_raw();
    // SAFETY: sets hidden variables of an object that is not frozen.
    raising(|| unsafe {
        rb_sys::rb_iv_set(object, TYPE.as_ptr(), type_shown);
        rb_sys::rb_iv_set(object, COUNT.as_ptr(), count);
    })
}

/// `map_descriptor(fd, type, count)`: an `initialize` for the memory behind a descriptor. A count of nil is as many as there are.
pub fn map(
    ruby: &Ruby,
    this: Obj<Handle>,
    fd: Value,
    kind: Value,
    count: Value,
    elements: fn(Element) -> Result<Elements, Error>,
) -> Result<(), Error> {
    if this.is_open() || this.is_closed() {
        return Err(errors::already_initialized(ruby, "ProcessShared::SharedMemory"));
    }
    let mut shape = Shape::of(ruby, Some(kind), Some(count).filter(|count| !count.is_nil()))?;
    let elements = elements(shape.element)?;
    let fd = magnus::Integer::try_convert(fd)?.to_i32()?;
    let of_descriptor = || match Region::of_descriptor(fd) {
        Err(CoreError::System { errno: libc::EMFILE | libc::ENFILE | libc::ENOMEM, .. }) => {
            ruby.gc_start();
            Region::of_descriptor(fd)
        }
        region => region,
    };
    let region = of_descriptor().map_err(|error| errors::to_ruby(ruby, error))?;
    if count.is_nil() {
        shape.count = region.size() / shape.type_size;
    }
    let wanted = shape.bytes(ruby)?;
    if wanted == 0 || wanted > region.size() {
        let (there, least) = (region.size(), wanted.max(shape.type_size));
        let text = format!("there are {there} bytes behind descriptor {fd}, and {least} are asked for");
        return Err(Error::new(ruby.exception_arg_error(), text));
    }
    open(ruby, this, region, &shape, elements)
}

fn map_memory(ruby: &Ruby, this: Obj<Handle>, fd: Value, kind: Value, count: Value) -> Result<(), Error> {
    map(ruby, this, fd, kind, count, no_elements)
}

/// Where it is.
fn path_of(this: Obj<Handle>) -> Result<Value, Error> {
    this.check()?;
    path::of(this.as_value())
}

/// A new region. Garbage may hold the descriptors or the address space that is missing: one collection, one
/// more try.
fn region(ruby: &Ruby, size: usize, reserve: bool) -> Result<Region, Error> {
    let made: CoreResult<Region> = match region_of(ruby, size, reserve)? {
        Err(CoreError::System { errno: libc::EMFILE | libc::ENFILE | libc::ENOMEM, .. }) => {
            ruby.gc_start();
            region_of(ruby, size, reserve)?
        }
        made => made,
    };
    made.map_err(|error| errors::to_ruby(ruby, error))
}

/// To take much memory takes long: other threads go on meanwhile, and an exception of theirs ends it.
fn region_of(ruby: &Ruby, size: usize, reserve: bool) -> Result<CoreResult<Region>, Error> {
    let region = match Region::new(size) {
        Ok(region) => region,
        error => return Ok(error),
    };
    let mut done = 0;
    while reserve && done < size {
        interrupts::check(ruby)?;
        match nogvl::without_gvl(|| region.reserve(done)) {
            Some(Ok(further)) => done = further,
            Some(Err(error)) => return Ok(Err(error)),
            None => {}
        }
    }
    Ok(Ok(region))
}

fn hidden(this: Obj<Handle>, name: &std::ffi::CStr) -> Result<Value, Error> {
    this.check()?;
    let object = this.as_raw();
    // SAFETY: reads a variable of an object.
    let found = raising(|| unsafe { rb_sys::rb_iv_get(object, name.as_ptr()) })?;
    Ok(crate::raw_methods::value(found))
}

fn kind(this: Obj<Handle>) -> Result<Value, Error> {
    hidden(this, TYPE)
}

fn count(this: Obj<Handle>) -> Result<Value, Error> {
    hidden(this, COUNT)
}

fn fd(this: Obj<Handle>) -> Result<Option<i32>, Error> {
    Ok(this.check()?.region.as_ref().and_then(|region| region.fd()))
}

/// A new descriptor of the memory, for `to_io`. Garbage may hold the descriptors that are missing, as for a
/// new region.
fn copy_fd(ruby: &Ruby, this: Obj<Handle>) -> Result<i32, Error> {
    let copy = || match &this.check()?.region {
        Some(region) => Ok(region.copy_fd()),
        None => Err(errors::not_initialized(ruby, "ProcessShared::SharedMemory")),
    };
    let copied = match copy()? {
        Err(CoreError::System { errno: libc::EMFILE | libc::ENFILE, .. }) => {
            ruby.gc_start();
            copy()?
        }
        copied => copied,
    };
    Ok(copied.map_err(|error| errors::to_ruby(ruby, error))?.into_raw_fd())
}

fn atomic(ruby: &Ruby, this: Obj<Handle>, arguments: &[Value]) -> Result<Value, Error> {
    ruby.check_arity(arguments.len(), 0..=1)?;
    let offset = arguments.first().map_or(Ok(0), |offset| index(offset.as_raw()))?;
    let this = This::from(this);
    this.check_writable()?;
    let address = this.bytes(offset, size_of::<i64>() as i64)?;
    match (NonNull::new(address), this.check()?.region.clone()) {
        // SAFETY: `bytes` has checked the range, which is mapped as long as its region lives.
        (Some(address), Some(region)) => unsafe { atomic_fixnum::in_memory(ruby, address, region) },
        _ => Err(errors::not_initialized(ruby, "ProcessShared::SharedMemory")),
    }
}

unsafe extern "C" fn allocate(class: VALUE) -> VALUE {
    let ruby = crate::raw_methods::ruby();
    // SAFETY: Ruby passes the class whose `allocate` was called: SharedMemory or a subclass.
    match RClass::from_value(unsafe { Value::from_raw(class) }) {
        Some(class) => ruby.obj_wrap_as(Handle::unborn(true), class).as_raw(),
        None => crate::raw_methods::NIL,
    }
}

pub fn init(ruby: &Ruby, pointer: RClass) -> Result<RClass, Error> {
    let class = classes::define(module(ruby), "SharedMemory", pointer)?;
    // SAFETY: it allocates what every method of the class expects, a Handle.
    raising(|| unsafe { rb_sys::rb_define_alloc_func(class.as_raw(), Some(allocate)) })?;
    class.define_private_method("initialize", method!(initialize, -1))?;
    class.define_method("type", method!(kind, 0))?;
    class.define_method("count", method!(count, 0))?;
    class.define_method("fd", method!(fd, 0))?;
    class.define_method("path", method!(path_of, 0))?;
    class.define_private_method("map_descriptor", method!(map_memory, 3))?;
    class.define_method("atomic", method!(atomic, -1))?;
    class.define_private_method("copy_fd", method!(copy_fd, 0))?;
    Ok(class)
}
