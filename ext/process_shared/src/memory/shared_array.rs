//! `ProcessShared::SharedArray`: element access, as fast as a read of memory. The rest of the class is Ruby
//! (lib/process_shared/shared_array.rb).

use std::ffi::{c_int, c_long};

use magnus::typed_data::Obj;
use magnus::{RClass, Ruby, Value, method, prelude::*};
use process_shared_core::Error as CoreError;
use rb_sys::VALUE;

use super::handle::{Handle, Window};
use super::number::{fixnum, index, integer};
use super::shared_memory::create;
use super::typed::Elements;
use crate::classes;
use crate::errors::Error;
use crate::raw_methods::{Method2, MethodN, NIL, answer, arguments, define, module, raising};

/// `array[index]`, `array[start, length]` and `array[range]`.
unsafe extern "C" fn at(argc: c_int, argv: *const VALUE, this: VALUE) -> VALUE {
    // SAFETY: `this` is a SharedArray (rule 3 of raw_methods.rs), there are as many arguments as Ruby says, and this frame owns
    // nothing; so below.
    unsafe {
        if argc == 1 && fixnum(*argv).is_some() {
            return (Handle::of(this).window().elements.at)(this, *argv);
        }
        at_slowly(argc, argv, this)
    }
}

#[cold]
#[inline(never)]
unsafe fn at_slowly(argc: c_int, argv: *const VALUE, this: VALUE) -> VALUE {
    // SAFETY: as above.
    answer(|| unsafe {
        let given = arguments(argc, argv, 1, 2)?;
        let length = Handle::of(this).check().map(count)? as i64;
        let found = match *given {
            [start, count] => part(index(start)?, index(count)?, length),
            _ => match range(given[0], length)? {
                Range::Inside(start, count) => Some((start, count)),
                Range::Outside => None,
                Range::None => {
                    let at = Handle::of(this).window().elements.at;
                    return raising(|| at(this, given[0]));
                }
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
///
/// # Safety
/// `this` is a SharedArray.
unsafe fn copy(this: VALUE, start: i64, count: i64) -> Result<VALUE, Error> {
    // SAFETY: as the caller promises; what an element raises is caught.
    raising(|| unsafe {
        let at = Handle::of(this).window().elements.at;
        let array = rb_sys::rb_ary_new_capa(count as c_long);
        for position in start..start + count {
            rb_sys::rb_ary_push(array, at(this, integer(position)));
        }
        array
    })
}

fn count(window: &Window) -> usize {
    window.size / window.type_size
}

unsafe extern "C" fn put(this: VALUE, position: VALUE, value: VALUE) -> VALUE {
    // SAFETY: as above.
    unsafe { (Handle::of(this).window().elements.put)(this, position, value) }
}

fn length(this: Obj<Handle>) -> Result<usize, Error> {
    this.check().map(count)
}

fn initialize(ruby: &Ruby, this: Obj<Handle>, arguments: &[Value]) -> Result<(), Error> {
    create(ruby, this, arguments, |element| {
        Elements::of(element).ok_or_else(|| {
            let error = CoreError::Invalid("a SharedArray holds numbers, :bool or :pointer, of a type that SharedMemory has accessors for".into());
            crate::errors::to_ruby(&crate::raw_methods::ruby(), error)
        })
    })
}

pub fn init(ruby: &Ruby, shared_memory: RClass) -> Result<(), Error> {
    let class = classes::define(module(ruby), "SharedArray", shared_memory)?;
    define(class, "[]", at as MethodN)?;
    define(class, "[]=", put as Method2)?;
    class.define_method("length", method!(length, 0))?;
    Ok(class.define_private_method("initialize", method!(initialize, -1))?)
}
