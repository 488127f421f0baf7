//! Short items, as most are: the steps of `operations` without what other items need, and without memory of the process's own.
//! Each of these declines whatever is not simple, and has changed nothing then; the general operation follows.

use super::Critical;
use super::blocks::Chain;
use super::cursor::Cursor;
use super::in_flight::Taken;
use super::log::{HEAD, Payload, write_at};
use super::words::{COUNTS, GRAIN, Position, distance};
use crate::kernel::Kernel;
use std::mem::MaybeUninit;
use std::ptr;
use std::slice;
use std::sync::atomic::{Ordering::*, compiler_fence};

/// The longest short item: whatever fits into the smallest block.
const SHORT: usize = 4096 - HEAD;

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
    /// Adds an item that fits into the last block.
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
            || header.room.is_waited_at::<K>()
        {
            return false;
        }
        let Ok(place) = self.queue.bytes_at(Cursor { block: tail.block, offset: tail.offset }) else {
            return false;
        };
        // SAFETY: `size` bytes from there are in the block, behind the tail, and the lock is held; the offset is a multiple of 8.
        unsafe { write_at(place, tag, bytes) };
        let end =
            Position { offset: tail.offset + size as u32, ordinal: tail.ordinal.wrapping_add(1), ..tail };
        compiler_fence(SeqCst);
        self.signal_item(|| header.tail.store(end.pack(), Release));
        true
    }

    /// Takes the first item for good, if it lies in the first block.
    #[inline]
    pub fn pop_short(&self, short: &mut Short) -> bool {
        let Some((_, end)) = self.first_if_short(short) else { return false };
        compiler_fence(SeqCst);
        self.signal_room(|| self.header().head.store(end, Release));
        true
    }

    /// Takes the first item for good, if it is short, and lets go of the blocks that the log leaves.
    pub fn pop_wide(&self, short: &mut Short) -> bool {
        self.try_pop_wide(short).is_some()
    }

    fn try_pop_wide(&self, short: &mut Short) -> Option<()> {
        self.reap_some_members().ok()?;
        if self.has_returned() {
            return None;
        }
        let record = self.front().ok()??;
        let Payload::Small(mut cursor) = record.payload else { return None };
        let length = record.length as usize;
        if length > SHORT {
            return None;
        }
        // SAFETY: there is room for SHORT.
        unsafe { cursor.read(self.queue, short.bytes.as_mut_ptr().cast(), length).ok()? };
        (short.tag, short.length) = (record.tag, length);
        let mut redo = self.queue.redo();
        self.advance(&mut redo, &record).ok()?;
        self.signal_room(|| redo.commit());
        Some(())
    }

    /// Takes the first `count` items for good, in one step, if all of them are words that `accept` takes, which gets tag and
    /// bytes of each. If not, nothing has changed.
    pub fn pop_words(&self, count: usize, accept: impl FnMut(u32, &[u8]) -> bool) -> bool {
        self.try_pop_words(count, accept).is_some()
    }

    fn try_pop_words(&self, count: usize, mut accept: impl FnMut(u32, &[u8]) -> bool) -> Option<()> {
        self.reap_some_members().ok()?;
        if self.has_returned() || count > self.logged() as usize {
            return None;
        }
        let head = self.head();
        let mut cursor = Cursor { block: head.block, offset: head.offset };
        let mut passed = None;
        for _ in 0..count {
            let item = self.read_word(&mut cursor, &mut passed)?;
            let (length, tag) = (item as u32 as usize, (item >> 32) as u32);
            let word = match length {
                0 => 0,
                1..=GRAIN => self.read_word(&mut cursor, &mut passed)?,
                _ => return None,
            };
            if !accept(tag, &word.to_ne_bytes()[..length]) {
                return None;
            }
        }
        let ordinal = head.ordinal.wrapping_add(count as u32);
        let mut redo = self.queue.redo();
        if let Some(passed) = passed {
            self.release(&mut redo, passed).ok()?;
        }
        let end = Position { block: cursor.block, offset: cursor.offset, ordinal };
        redo.set(&self.header().head, end.pack()).ok()?;
        self.signal_room(|| redo.commit());
        Some(())
    }

    /// Reads a word of the log and moves behind it. The blocks that it leaves are added to `passed`; `None` if an item in flight
    /// needs one of them.
    #[inline]
    fn read_word(&self, cursor: &mut Cursor, passed: &mut Option<Chain>) -> Option<u64> {
        if cursor.offset >= self.queue.layout.block {
            let (first, count) = passed.map_or((cursor.block, 0), |passed| (passed.first, passed.count));
            *passed = Some(Chain { first, last: cursor.block, count: count + 1 });
            let next = self.queue.next_if_unpinned(cursor.block)?;
            *cursor = Cursor { block: next, offset: 0 };
        }
        let from = self.queue.bytes_at(*cursor).ok()?;
        cursor.offset += GRAIN as u32;
        // SAFETY: both the offset and the block's size are multiples of 8.
        Some(unsafe { from.cast::<u64>().read() })
    }

    #[inline]
    fn has_returned(&self) -> bool {
        self.queue.list(self.header().returned.load(Relaxed)).count > 0
    }

    /// The item at `head`, if it is short and lies in that block: where its bytes begin, its tag and its length.
    #[inline]
    fn short_at(&self, head: Position) -> Option<(*const u8, u32, usize)> {
        let left = (self.queue.layout.block as usize).saturating_sub(head.offset as usize);
        if left < HEAD {
            return None;
        }
        let start = self.queue.bytes_at(Cursor { block: head.block, offset: head.offset }).ok()?;
        // SAFETY: the block has HEAD bytes from there on, at a multiple of 8.
        let word = unsafe { start.cast::<u64>().read() };
        let length = word as u32 as usize;
        let fits = length <= SHORT && HEAD + length.next_multiple_of(GRAIN) <= left;
        // SAFETY: as above.
        fits.then(|| (unsafe { start.add(HEAD) }.cast_const(), (word >> 32) as u32, length))
    }

    /// Takes the first item for a time, if it lies in the first block.
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
        if self.has_returned() || head.ordinal == tail.ordinal {
            return None;
        }
        let (from, tag, length) = self.short_at(head)?;
        // SAFETY: the bytes to the next multiple of 8 are in the block, and there is room for SHORT.
        unsafe {
            let to = short.bytes.as_mut_ptr().cast::<u8>();
            match length {
                0 => {}
                1..=GRAIN => to.cast::<[u8; GRAIN]>().write(from.cast::<[u8; GRAIN]>().read()),
                _ => ptr::copy_nonoverlapping(from, to, length),
            }
        }
        (short.tag, short.length) = (tag, length);
        let size = HEAD + length.next_multiple_of(GRAIN);
        let end =
            Position { offset: head.offset + size as u32, ordinal: head.ordinal.wrapping_add(1), ..head };
        Some((Cursor { block: head.block, offset: head.offset + HEAD as u32 }, end.pack()))
    }
}
