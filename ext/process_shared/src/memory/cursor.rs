//! What a SharedMemoryIO is inside: a memory, and a position in it.
//!
//! The memory may be anything with `size`, `get_bytes` and `put_bytes`; a Pointer of ours is used without
//! calling it. A frozen IO refuses to read, write and move, as a frozen File does. Ractors cannot share one.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::Relaxed};

use magnus::rb_sys::AsRawValue;
use magnus::{Integer, Value, prelude::*};
use rb_sys::{VALUE, rb_gc_writebarrier};

use super::bytes;
use super::frozen::{frozen, frozen_error};
use super::this::This;
use crate::errors::{self, Error};
use crate::raw_methods::{ruby, value};
use crate::typed_data::{self, Data, DataType};

/// Where an IO stands. `memory` is 0 until `initialize`.
#[derive(Default)]
pub struct Cursor {
    memory: AtomicUsize,
    pub size: AtomicI64,
    pub position: AtomicI64,
    pub read_closed: AtomicBool,
    pub write_closed: AtomicBool,
}

impl Data for Cursor {
    fn data_type() -> &'static DataType {
        static TYPE: DataType = DataType::of::<Cursor>(c"ProcessShared::SharedMemoryIO");
        &TYPE
    }

    const SHAREABLE: bool = false;

    fn mark(&self) {
        let memory = self.memory.load(Relaxed);
        if memory != 0 {
            // SAFETY: a live object, which this one refers to.
            unsafe { rb_sys::rb_gc_mark(memory as VALUE) };
        }
    }
}

impl Cursor {
    /// # Safety
    /// `this` is a SharedMemoryIO, and no frame up to Ruby owns anything.
    #[inline(always)]
    pub unsafe fn of<'a>(this: VALUE) -> Result<&'a Cursor, Error> {
        // SAFETY: as the caller promises.
        let cursor: &Cursor = unsafe { typed_data::get(this) };
        match cursor.memory.load(Relaxed) {
            0 => Err(errors::not_initialized(&ruby(), "ProcessShared::SharedMemoryIO")),
            _ => Ok(cursor),
        }
    }

    pub fn is_closed(&self) -> bool {
        self.read_closed.load(Relaxed) && self.write_closed.load(Relaxed)
    }

    /// Refuses an IO that is closed for both.
    pub fn open(&self) -> Result<&Self, Error> {
        match self.is_closed() {
            false => Ok(self),
            true => Err(errors::to_ruby(
                &ruby(),
                process_shared_core::Error::Closed("ProcessShared::SharedMemoryIO"),
            )),
        }
    }

    /// Why an IO that is closed for one of both cannot be used.
    #[cold]
    fn closed_for(&self, what: &'static str) -> Error {
        self.open().err().unwrap_or_else(|| Error::new(ruby().exception_io_error(), what))
    }

    /// Refuses an IO that is frozen.
    #[inline(always)]
    pub fn unfrozen(&self, this: VALUE) -> Result<&Self, Error> {
        // SAFETY: `this` is the heap object that holds this cursor.
        match unsafe { frozen(this) } {
            false => Ok(self),
            true => Err(frozen_error(this)),
        }
    }

    #[inline(always)]
    pub fn readable(&self, this: VALUE) -> Result<&Self, Error> {
        match self.read_closed.load(Relaxed) {
            false => self.unfrozen(this),
            true => Err(self.closed_for("not opened for reading")),
        }
    }

    #[inline(always)]
    pub fn writable(&self, this: VALUE) -> Result<&Self, Error> {
        match self.write_closed.load(Relaxed) {
            false => self.unfrozen(this),
            true => Err(self.closed_for("not opened for writing")),
        }
    }

    pub fn memory(&self) -> VALUE {
        self.memory.load(Relaxed) as VALUE
    }

    pub fn left(&self) -> i64 {
        self.size.load(Relaxed).saturating_sub(self.position.load(Relaxed)).max(0)
    }

    pub fn attach(&self, this: VALUE, memory: VALUE) -> Result<(), Error> {
        let size = match This::inside(memory) {
            Some(pointer) => pointer.check()?.size as i64,
            None => {
                if !value(memory).respond_to("get_bytes", false)? {
                    return Err(errors::wrong_type(&ruby(), value(memory), "a Pointer"));
                }
                let size: Integer = value(memory).funcall("size", ())?;
                size.to_i64()?
            }
        };
        self.unfrozen(this)?; // last, as the memory was asked for its size
        self.memory.store(memory as usize, Relaxed);
        self.size.store(size, Relaxed);
        self.position.store(0, Relaxed);
        self.read_closed.store(false, Relaxed);
        self.write_closed.store(false, Relaxed);
        // SAFETY: both are live objects, and `this` now refers to `memory`.
        unsafe { rb_gc_writebarrier(this, memory) };
        Ok(())
    }

    /// Copies `length` bytes from the position, and steps over them.
    pub fn take(&self, length: i64) -> Result<VALUE, Error> {
        let (memory, position) = (self.memory(), self.position.load(Relaxed));
        let text = match This::inside(memory) {
            Some(pointer) => bytes::get(pointer, position, length)?,
            None => value(memory).funcall::<_, _, Value>("get_bytes", (position, length))?.as_raw(),
        };
        self.position.store(position.saturating_add(length), Relaxed);
        Ok(text)
    }

    /// Copies the String `text`, of `length` bytes, to the position, and steps over them.
    ///
    /// # Safety
    /// It is one, and has that length.
    pub unsafe fn give(&self, text: VALUE, length: i64) -> Result<(), Error> {
        let (memory, position) = (self.memory(), self.position.load(Relaxed));
        match This::inside(memory) {
            // SAFETY: as the caller promises.
            Some(pointer) => unsafe { bytes::put(pointer, position, text, 0, None, 0) }?,
            None => {
                value(memory).funcall::<_, _, Value>("put_bytes", (position, value(text), 0, length))?;
            }
        }
        self.position.store(position.saturating_add(length), Relaxed);
        Ok(())
    }

    /// Whether `initialize` has run.
    pub fn is_attached(&self) -> bool {
        self.memory.load(Relaxed) != 0
    }
}
