//! The part of a region that a Pointer, SharedMemory or SharedArray is about: what is decided once, when it
//! is made.

use std::ptr;
use std::sync::Arc;

use process_shared_core::memory::Region;
use rb_sys::VALUE;

use crate::errors;
use crate::raw_methods::{Method1, Method2, answer, ruby};

pub struct Window {
    pub start: *mut u8,
    pub size: usize,
    /// Bytes of one element: what `[]` of a Pointer steps by.
    pub type_size: usize,
    /// How a SharedArray reads and writes its elements; not used elsewhere.
    pub elements: Elements,
    /// True where numbers are stored in the other byte order than this machine's.
    pub swapped: bool,
    /// True for the SharedMemory itself, false for views of it.
    pub whole: bool,
    pub region: Option<Arc<Region>>,
}

impl Window {
    /// What an object has before `initialize`.
    pub const fn none(whole: bool) -> Self {
        Window {
            start: ptr::null_mut(),
            size: 0,
            type_size: 1,
            elements: Elements::NONE,
            swapped: false,
            whole,
            region: None,
        }
    }

    /// What to call its object in a message. A SharedArray is a SharedMemory.
    pub fn kind(&self) -> &'static str {
        if self.whole { "ProcessShared::SharedMemory" } else { "ProcessShared::Pointer" }
    }

    /// How many elements it has.
    pub fn count(&self) -> usize {
        self.size / self.type_size
    }
}

/// The methods that read and write an element of a SharedArray; their receiver is a Pointer.
#[derive(Clone, Copy)]
pub struct Elements {
    pub at: Method1,
    pub put: Method2,
}

impl Elements {
    /// Of an array that was never initialized.
    pub const NONE: Elements = Elements { at: no_element_at, put: no_element_to_put };
}

unsafe extern "C" fn no_element_at(_this: VALUE, _position: VALUE) -> VALUE {
    answer(|| Err(errors::not_initialized(&ruby(), "ProcessShared::SharedMemory")))
}

unsafe extern "C" fn no_element_to_put(_this: VALUE, _position: VALUE, _value: VALUE) -> VALUE {
    answer(|| Err(errors::not_initialized(&ruby(), "ProcessShared::SharedMemory")))
}
