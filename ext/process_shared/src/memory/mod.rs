//! Shared memory as Ruby objects: `Pointer`, and `SharedMemory` and `SharedArray` on top of it; and
//! `SharedMemoryIO`.
//!
//! From the inside out, each file uses only those before it:
//! - `window` and `handle` are what all three are inside, `place` finds an address in it, and `this` is
//!   such an object as the receiver of a method;
//! - `arguments`, `number` and `types` convert what Ruby passes;
//! - `raw` and `accessors` are the methods of Pointer for one number, `arrays` for several, `bytes` for
//!   Strings, `foreign` for pointers and the ffi gem, `typed` for a type as argument, `objects` (with
//!   `marshal_string`) for Marshal;
//! - `pointer`, `shared_memory` (with `shape`), `shared_array` and `io` (with `cursor`) are the classes.
//!
//! # Races
//! Other processes, and Ractors that share a frozen object, may write the bytes that are read here at
//! any moment. No lock of ours orders that, and the language has no word for another process. What holds all
//! the same:
//! - No reference to the bytes is ever made, only raw pointers, so the compiler may assume nothing about
//!   them.
//! - One number (`raw`) is read or written by one volatile access where it is aligned: whole, and once.
//! - Several bytes or numbers are copied by plain accesses, which the compiler may join, as vector
//!   instructions do. They may see some of another's write and miss the rest. Nothing is decided by them: a
//!   length or offset that lies in shared memory is never used as one here, and Marshal, which does that,
//!   reads each byte once and checks every length against the end. (Volatile accesses would cost arrays their
//!   vector instructions, and order nothing.)

mod accessors;
mod arguments;
mod arrays;
mod bytes;
mod cursor;
mod foreign;
mod frozen;
mod handle;
mod io;
mod marshal_string;
mod number;
mod objects;
mod place;
mod pointer;
mod raw;
mod shape;
mod shared_array;
mod shared_memory;
mod this;
mod typed;
mod types;
mod window;

use std::sync::Arc;

use magnus::{Ruby, Value, prelude::*};
use process_shared_core::memory::Region;

use crate::errors::Error;

/// A Pointer to all of a region.
pub fn pointer_on(ruby: &Ruby, region: Region) -> Value {
    let (start, size) = (region.start(), region.size());
    let region = Some(Arc::new(region));
    let elements = window::Elements::NONE;
    let window = window::Window { start, size, type_size: 1, elements, swapped: false, whole: false, region };
    ruby.obj_wrap(handle::Handle::on(window)).as_value()
}

pub fn init(ruby: &Ruby) -> Result<(), Error> {
    let pointer = pointer::init(ruby)?;
    accessors::init(pointer)?;
    bytes::init(pointer)?;
    typed::init(pointer)?;
    foreign::init(pointer)?;
    objects::init(pointer)?;
    let shared_memory = shared_memory::init(ruby, pointer)?;
    shared_array::init(ruby, shared_memory)?;
    io::init(ruby)
}
