//! Where in a window something lies: at an offset in bytes, or as the element with some number.

use process_shared_core::memory::span;

use super::handle::Handle;
use crate::errors::Error;
use crate::raw_methods::ruby;

/// An `i64` is an offset in bytes.
pub trait Place: Copy + From<i64> {
    /// The address of `width` bytes there, at least 1, if the handle is open and they lie inside it.
    fn find(self, handle: &Handle, width: i64) -> Option<*mut u8>;

    /// Why there is none.
    fn refuse(self, handle: &Handle, width: i64) -> Error;

    #[inline(always)]
    fn locate(self, handle: &Handle, width: i64) -> Result<*mut u8, Error> {
        self.find(handle, width).ok_or_else(|| self.refuse(handle, width))
    }
}

impl Place for i64 {
    #[inline(always)]
    fn find(self, handle: &Handle, width: i64) -> Option<*mut u8> {
        // A window is empty when unborn or closed.
        let index = span(self, width, handle.len()).ok()?;
        Some(handle.window().start.wrapping_add(index))
    }

    #[cold]
    #[inline(never)]
    fn refuse(self, handle: &Handle, width: i64) -> Error {
        handle.refuse(self, width)
    }
}

/// The element with this number; negative ones count from the end.
#[derive(Clone, Copy)]
pub struct Nth(i64);

impl From<i64> for Nth {
    fn from(number: i64) -> Self {
        Nth(number)
    }
}

impl Place for Nth {
    #[inline(always)]
    fn find(self, handle: &Handle, width: i64) -> Option<*mut u8> {
        let count = handle.len() / width as usize;
        let place = if self.0 < 0 { (self.0 as usize).wrapping_add(count) } else { self.0 as usize };
        // One comparison for both ends. An array that is unborn or closed has no elements.
        (place < count).then(|| handle.window().start.wrapping_add(place * width as usize))
    }

    #[cold]
    #[inline(never)]
    fn refuse(self, handle: &Handle, _: i64) -> Error {
        match handle.check() {
            Err(error) => error,
            Ok(window) => {
                let (position, count) = (self.0, window.count());
                let text = format!("index {position} outside of array bounds: -{count}...{count}");
                Error::new(ruby().exception_index_error(), text)
            }
        }
    }
}
