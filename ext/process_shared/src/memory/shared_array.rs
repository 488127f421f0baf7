//! `ProcessShared::SharedArray`: element access, as fast as a read of memory. The rest of the class is Ruby
//! (lib/process_shared/shared_array.rb).

use std::ffi::{c_int, c_long};

use magnus::typed_data::Obj;
use magnus::{RClass, Ruby, Value, method, prelude::*};
use process_shared_core::Error as CoreError;
use rb_sys::VALUE;

use super::arguments::{fixnum, index};
use super::handle::Handle;
use super::number::integer;
use super::shared_memory::{create, map};
use super::this::{This, This2, ThisN, define};
use super::typed;
use super::types::Element;
use super::window::Elements;
use crate::classes;
use crate::errors::Error;
use crate::raw_methods::{NIL, answer, arguments, module, raising};

/// `array[index]`, `array[start, length]` and `array[range]`.
unsafe extern "C" fn at(argc: c_int, argv: *const VALUE, this: This) -> VALUE {
    // SAFETY: there are as many arguments as Ruby says.
    match unsafe { (argc == 1).then(|| *argv) } {
        Some(position) if fixnum(position).is_some() => element_at(this, position),
        // SAFETY: as above.
        _ => unsafe { at_slow(argc, argv, this) },
    }
}

#[inline(always)]
fn element_at(this: This, position: VALUE) -> VALUE {
    // SAFETY: the receiver of such a function is a Pointer.
    unsafe { (this.window().elements.at)(this.raw(), position) }
}

#[cold]
#[inline(never)]
unsafe fn at_slow(argc: c_int, argv: *const VALUE, this: This) -> VALUE {
    answer(|| {
        // SAFETY: what Ruby passed.
        let given = unsafe { arguments(argc, argv, 1, 2) }?;
        let length = this.check()?.count() as i64;
        let found = match *given {
            [start, count] => part(index(start)?, index(count)?, length),
            _ => match range(given[0], length)? {
                Range::Inside(start, count) => Some((start, count)),
                Range::Outside => None,
                Range::None => return raising(|| element_at(this, given[0])),
            },
        };
        found.map_or(Ok(NIL), |(start, count)| copy(this, start, count))
    })
}

/// What Array makes of a start and a number of elements: None outside; the end is inside, and holds nothing.
fn part(start: i64, count: i64, length: i64) -> Option<(i64, i64)> {
    let start = if start < 0 { start.saturating_add(length) } else { start };
    ((0..=length).contains(&start) && count >= 0).then(|| (start, count.min(length - start)))
}

/// What Array makes of a Range.
enum Range {
    /// The first element and how many.
    Inside(i64, i64),
    Outside,
    /// It is no Range.
    None,
}

fn range(given: VALUE, length: i64) -> Result<Range, Error> {
    let (mut start, mut count) = (0, 0);
    // SAFETY: any object; whatever its ends raise is caught.
    let found = raising(|| unsafe {
        rb_sys::rb_range_beg_len(given, &raw mut start, &raw mut count, length as c_long, 0)
    })?;
    Ok(match found {
        NIL => Range::Outside,
        found if found == rb_sys::Qfalse as VALUE => Range::None,
        _ => Range::Inside(start, count),
    })
}

/// An Array of elements that were inside when they were counted; each is checked again when it is read.
fn copy(this: This, start: i64, count: i64) -> Result<VALUE, Error> {
    // SAFETY: makes an Array and adds to it; what an element raises is caught.
    raising(|| unsafe {
        let array = rb_sys::rb_ary_new_capa(count as c_long);
        for position in start..start + count {
            rb_sys::rb_ary_push(array, element_at(this, integer(position)));
        }
        array
    })
}

extern "C" fn put(this: This, position: VALUE, value: VALUE) -> VALUE {
    // SAFETY: the receiver of such a function is a Pointer.
    unsafe { (this.window().elements.put)(this.raw(), position, value) }
}

fn length(this: Obj<Handle>) -> Result<usize, Error> {
    Ok(this.check()?.count())
}

fn elements(element: Element) -> Result<Elements, Error> {
    typed::elements(element).ok_or_else(|| {
        let text = "a SharedArray holds numbers, :bool or :pointer, of a type that has accessors";
        let error = CoreError::Invalid(text.into());
        crate::errors::to_ruby(&crate::raw_methods::ruby(), error)
    })
}

fn initialize(ruby: &Ruby, this: Obj<Handle>, arguments: &[Value]) -> Result<(), Error> {
    create(ruby, this, arguments, "SharedArray", elements)
}

fn map_array(ruby: &Ruby, this: Obj<Handle>, fd: Value, kind: Value, count: Value) -> Result<(), Error> {
    map(ruby, this, fd, kind, count, elements)
}

pub fn init(ruby: &Ruby, shared_memory: RClass) -> Result<(), Error> {
    let class = classes::define(module(ruby), "SharedArray", shared_memory)?;
    define(class, "[]", at as ThisN)?;
    define(class, "[]=", put as This2)?;
    class.define_method("length", method!(length, 0))?;
    class.define_private_method("map_descriptor", method!(map_array, 3))?;
    Ok(class.define_private_method("initialize", method!(initialize, -1))?)
}
