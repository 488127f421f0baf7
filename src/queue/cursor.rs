//! Bytes in the blocks, read and written from one block to the next.

use super::Queue;
use super::refusal::{Corrupt, Refusal};
use std::ptr;

/// A place in a block; `offset` can be the block's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub block: u32,
    pub offset: u32,
}

impl Cursor {
    /// Goes on to the next block if this one is at its end.
    #[inline]
    pub fn enter_block(&mut self, queue: &Queue) -> Result<(), Refusal> {
        if self.offset >= queue.layout.block {
            *self = Cursor { block: queue.next_block(self.block)?, offset: 0 };
        }
        Ok(())
    }

    /// Calls `act` with each stretch of memory of the next `length` bytes, and moves behind them.
    #[inline]
    fn each(
        &mut self,
        queue: &Queue,
        mut length: usize,
        mut act: impl FnMut(*mut u8, usize),
    ) -> Result<(), Refusal> {
        while length > 0 {
            self.enter_block(queue)?;
            let part = length.min((queue.layout.block - self.offset) as usize);
            act(queue.bytes_at(*self)?, part);
            self.offset += part as u32;
            length -= part;
        }
        Ok(())
    }

    /// Writes `bytes`.
    ///
    /// # Safety
    /// The blocks from here on are the caller's to write.
    #[inline]
    pub unsafe fn write(&mut self, queue: &Queue, bytes: &[u8]) -> Result<(), Refusal> {
        let mut from = bytes.as_ptr();
        self.each(queue, bytes.len(), |to, part| {
            // SAFETY: `each` gives out stretches inside a block, and no more bytes in all than `bytes` has.
            unsafe {
                ptr::copy_nonoverlapping(from, to, part);
                from = from.add(part);
            }
        })
    }

    /// Copies `length` bytes to `to`. What other processes write meanwhile may come with them.
    ///
    /// # Safety
    /// `to` has room for them.
    #[inline]
    pub unsafe fn read(&mut self, queue: &Queue, mut to: *mut u8, length: usize) -> Result<(), Refusal> {
        self.each(queue, length, |from, part| {
            // SAFETY: as in `write`, and as the caller promises.
            unsafe {
                ptr::copy_nonoverlapping(from, to, part);
                to = to.add(part);
            }
        })
    }

    /// Moves behind `length` bytes.
    #[inline]
    pub fn skip(&mut self, queue: &Queue, length: usize) -> Result<(), Refusal> {
        self.each(queue, length, |_, _| {})
    }

    /// Appends `length` bytes to `buffer`.
    #[inline]
    pub fn read_into(&mut self, queue: &Queue, buffer: &mut Vec<u8>, length: usize) -> Result<(), Refusal> {
        buffer.try_reserve(length).map_err(|_| Corrupt)?;
        let filled = buffer.len();
        // SAFETY: the room has been reserved, and is written before it is counted.
        unsafe {
            self.read(queue, buffer.as_mut_ptr().add(filled), length)?;
            buffer.set_len(filled + length);
        }
        Ok(())
    }

    /// Reads a word. The places of words are multiples of 8, so none lies in two blocks.
    #[inline]
    pub fn read_word(&mut self, queue: &Queue) -> Result<u64, Refusal> {
        let mut bytes = [0; 8];
        // SAFETY: `bytes` has room for 8.
        unsafe { self.read(queue, bytes.as_mut_ptr(), 8)? };
        Ok(u64::from_ne_bytes(bytes))
    }
}
