//! Shared memory as Ruby objects: `Pointer`, and `SharedMemory` and `SharedArray` on top of it.
//!
//! `handle` is what all three are inside; `number` and `types` know the types; `accessors`, `bytes`, `typed`, `foreign`
//! and `objects` are the methods of Pointer, a kind of access each. `io` is the core of SharedMemoryIO.

mod accessors;
mod bytes;
mod foreign;
mod handle;
mod io;
mod number;
mod objects;
mod pointer;
mod shared_array;
mod shared_memory;
mod typed;
mod types;

use magnus::Ruby;

use crate::errors::Error;

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
