//! Short items that lie within a block, as most do: the steps of `operations` without what other items need. Each of these
//! declines whatever is not simple, and has changed nothing then; the general operation follows.

use super::Critical;
use super::cursor::Cursor;
use super::in_flight::Taken;
use super::log::HEAD;
use super::words::{COUNTS, GRAIN, Position, distance};
use crate::kernel::Kernel;
use std::mem::MaybeUninit;
use std::ptr;
use std::slice;
use std::sync::atomic::{Ordering::*, compiler_fence};

/// The longest short item.
const SHORT: usize = 128;

/// Room for a short item that is taken, and the item.
pub struct Short {
    pub tag: u32,
    length: usize,
    bytes: MaybeUninit<[u8; SHORT]>,
}

impl Short {
    /// Room, and nothing in it.
    #[inline]
    #[expect(clippy::new_without_default)]
    pub fn new() -> Self {
        Short { tag: 0, length: 0, bytes: MaybeUninit::uninit() }
    }

    #[inline]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: so many have been written.
        unsafe { slice::from_raw_parts(self.bytes.as_ptr().cast(), self.length) }
    }
}

impl<K: Kernel> Critical<'_, K> {
    /// Adds an item.
    #[inline]
    pub fn push_short(&self, tag: u32, bytes: &[u8]) -> bool {
        let (header, length) = (self.header(), bytes.len());
        let (head, tail) = (self.head(), self.tail());
        let size = HEAD + length.next_multiple_of(GRAIN);
        if length > SHORT
            || tail.offset as usize + size > self.queue.layout.block as usize
            || distance(head.ordinal, tail.ordinal) + 1 >= COUNTS
            || header.max.load(Relaxed) != 0
            || self.is_closed()
            || header.room.is_waited_at()
        {
            return false;
        }
        let Ok(place) = self.queue.bytes_at(Cursor { block: tail.block, offset: tail.offset }) else {
            return false;
        };
        // SAFETY: `size` bytes from there are in the block, behind the tail, and the lock is held; the offset is a multiple of 8.
        unsafe {
            place.cast::<u64>().write(u64::from(length as u32) | (u64::from(tag) << 32));
            match <[u8; GRAIN]>::try_from(bytes) {
                Ok(word) => place.add(HEAD).cast::<[u8; GRAIN]>().write(word),
                Err(_) => ptr::copy_nonoverlapping(bytes.as_ptr(), place.add(HEAD), length),
            }
        }
        let end =
            Position { offset: tail.offset + size as u32, ordinal: tail.ordinal.wrapping_add(1), ..tail };
        compiler_fence(SeqCst);
        self.signal_item(|| header.tail.store(end.pack(), Release));
        true
    }

    /// Takes the first item for good.
    #[inline]
    pub fn pop_short(&self, short: &mut Short) -> bool {
        let Some((_, end)) = self.first_if_short(short) else { return false };
        compiler_fence(SeqCst);
        self.signal_room(|| self.header().head.store(end, Release));
        true
    }

    /// Takes the first item for a time.
    #[inline]
    pub fn take_short(&self, member: u32, short: &mut Short) -> Option<Taken> {
        let (place, end) = self.first_if_short(short)?;
        let mut redo = self.queue.redo();
        redo.set(&self.header().head, end).ok()?;
        self.take_from_log(&mut redo, place, short, member)
    }

    /// Copies the first item. Returns the place of its payload, and where the head is without it.
    #[inline]
    fn first_if_short(&self, short: &mut Short) -> Option<(Cursor, u64)> {
        self.reap_some_members().ok()?;
        let (head, tail) = (self.head(), self.tail());
        let left = (self.queue.layout.block as usize).saturating_sub(head.offset as usize);
        if self.queue.list(self.header().returned.load(Relaxed)).count > 0
            || head.ordinal == tail.ordinal
            || left < HEAD
        {
            return None;
        }
        let start = self.queue.bytes_at(Cursor { block: head.block, offset: head.offset }).ok()?;
        // SAFETY: the block has HEAD bytes from there on, at a multiple of 8.
        let word = unsafe { start.cast::<u64>().read() };
        let length = word as u32 as usize;
        let size = HEAD + length.next_multiple_of(GRAIN);
        if length > SHORT || size > left {
            return None;
        }
        // SAFETY: `size` bytes from `start` on are in the block, and there is room for SHORT.
        unsafe {
            let (from, to) = (start.add(HEAD), short.bytes.as_mut_ptr().cast::<u8>());
            match length {
                0 => {}
                1..=GRAIN => to.cast::<[u8; GRAIN]>().write(from.cast::<[u8; GRAIN]>().read()),
                _ => ptr::copy_nonoverlapping(from, to, length),
            }
        }
        (short.tag, short.length) = ((word >> 32) as u32, length);
        let end =
            Position { offset: head.offset + size as u32, ordinal: head.ordinal.wrapping_add(1), ..head };
        Some((Cursor { block: head.block, offset: head.offset + HEAD as u32 }, end.pack()))
    }
}
