//! The log: the items that were pushed and not taken, one after the other, from `head` to `tail`.
//!
//! | an item's first 8 bytes | and what follows                                                            |
//! |-------------------------|-----------------------------------------------------------------------------|
//! | length, tag             | its payload, to a multiple of 8 bytes; perhaps in two blocks                |
//! | LARGE, tag              | its first and last block, its length: the payload is in blocks of its own   |
//!
//! Invariants:
//! - What lies behind `tail` is nobody's: a push writes the item there, then moves `tail` in one store. What lies
//!   before `head` is free, or pinned.
//! - There is always one block in the log. A position at the very end of a block is the beginning of the next, which
//!   may not be there yet.

use super::blocks::{Chain, LEFT};
use super::cursor::Cursor;
use super::refusal::{Corrupt, Refusal};
use super::shared::Redo;
use super::words::{COUNTS, GRAIN, Position, distance};
use super::{Critical, Queue};
use crate::kernel::Kernel;
use std::ptr;
use std::sync::atomic::{Ordering::*, compiler_fence};

/// Stands for the length of a large item.
const LARGE: u32 = u32::MAX;
pub(super) const HEAD: usize = 8;
const DESCRIPTOR: usize = 24;

/// An item of the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub tag: u32,
    pub length: u64,
    pub payload: Payload,
    /// How many bytes it takes in the log, and where they begin.
    size: usize,
    pub start: Cursor,
    pub ordinal: u32,
}

/// Where the bytes of an item are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Payload {
    Small(Cursor),
    Large(Chain),
}

fn size_of_small(length: usize) -> usize {
    HEAD + length.next_multiple_of(GRAIN)
}

fn head(length: u32, tag: u32) -> [u8; HEAD] {
    (u64::from(length) | (u64::from(tag) << 32)).to_ne_bytes()
}

/// Writes a small item that lies in one block.
///
/// # Safety
/// The item's size from `place` on, a multiple of 8, is the caller's to write.
#[inline]
pub(super) unsafe fn write_at(place: *mut u8, tag: u32, bytes: &[u8]) {
    // SAFETY: the caller's promise.
    unsafe {
        place.cast::<[u8; HEAD]>().write(head(bytes.len() as u32, tag));
        match <[u8; GRAIN]>::try_from(bytes) {
            Ok(word) => place.add(HEAD).cast::<[u8; GRAIN]>().write(word),
            Err(_) => ptr::copy_nonoverlapping(bytes.as_ptr(), place.add(HEAD), bytes.len()),
        }
    }
}

impl<K: Kernel> Critical<'_, K> {
    pub(super) fn tail(&self) -> Position {
        Position::unpack(self.header().tail.load(Relaxed))
    }

    pub(super) fn head(&self) -> Position {
        Position::unpack(self.header().head.load(Relaxed))
    }

    /// Writes small items behind the tail, and moves it: all of them are there in one step. False if there are no blocks for
    /// them.
    #[inline]
    pub(super) fn append(&self, items: &[(u32, &[u8])]) -> Result<bool, Refusal> {
        let tail = self.tail();
        let size = items.iter().map(|(_, bytes)| size_of_small(bytes.len())).sum();
        if size > (self.queue.layout.block as usize).saturating_sub(tail.offset as usize) {
            return self.append_in_new_blocks(tail, items, size);
        }
        let end = self.write_items(tail, items)?;
        compiler_fence(SeqCst);
        self.signal_item(|| self.header().tail.store(end, Release));
        Ok(true)
    }

    #[inline]
    fn write_items(&self, tail: Position, items: &[(u32, &[u8])]) -> Result<u64, Refusal> {
        let mut cursor = Cursor { block: tail.block, offset: tail.offset };
        for (tag, bytes) in items {
            let size = size_of_small(bytes.len());
            if cursor.offset as usize + size <= self.queue.layout.block as usize {
                // SAFETY: as below, in one block.
                unsafe { write_at(self.queue.bytes_at(cursor)?, *tag, bytes) };
                cursor.offset += size as u32;
                continue;
            }
            // SAFETY: what lies behind the tail, under the lock, is the holder's to write.
            unsafe {
                cursor.write(self.queue, &head(bytes.len() as u32, *tag))?;
                cursor.write(self.queue, bytes)?;
            }
            cursor.skip(self.queue, size - HEAD - bytes.len())?;
        }
        let ordinal = tail.ordinal.wrapping_add(items.len() as u32);
        Ok(Position { block: cursor.block, offset: cursor.offset, ordinal }.pack())
    }

    #[cold]
    fn append_in_new_blocks(
        &self,
        tail: Position,
        items: &[(u32, &[u8])],
        size: usize,
    ) -> Result<bool, Refusal> {
        let mut redo = self.queue.redo();
        let block = self.queue.layout.block as usize;
        let beyond = size - block.saturating_sub(tail.offset as usize);
        let Ok(count) = u32::try_from(beyond.div_ceil(block)) else { return Ok(false) };
        let Some(chain) = self.allocate(&mut redo, count, LEFT)? else { return Ok(false) };
        self.set_next(tail.block, chain.first)?;
        let end = self.write_items(tail, items)?;
        redo.set(&self.header().tail, end)?;
        self.signal_item(|| redo.commit());
        Ok(true)
    }

    /// Adds a large item, whose bytes are in `chain`, to the log. `spare` is a block for the log if it needs one; it is free if
    /// not.
    pub(super) fn append_large(
        &self,
        redo: &mut Redo,
        tag: u32,
        chain: Chain,
        length: u64,
        spare: u32,
    ) -> Result<(), Refusal> {
        let tail = self.tail();
        if tail.offset as usize + DESCRIPTOR > self.queue.layout.block as usize {
            self.set_next(tail.block, spare)?;
        } else {
            self.release(redo, Chain { first: spare, last: spare, count: 1 })?;
        }
        let blocks = u64::from(chain.first) | (u64::from(chain.last) << 32);
        let mut cursor = Cursor { block: tail.block, offset: tail.offset };
        // SAFETY: as in `write_items`; the spare block is the caller's.
        unsafe {
            cursor.write(self.queue, &head(LARGE, tag))?;
            cursor.write(self.queue, &blocks.to_ne_bytes())?;
            cursor.write(self.queue, &length.to_ne_bytes())?;
        }
        let ordinal = tail.ordinal.wrapping_add(1);
        redo.set(&self.header().tail, Position { block: cursor.block, offset: cursor.offset, ordinal }.pack())
    }

    /// The oldest item of the log.
    #[inline]
    pub(super) fn front(&self) -> Result<Option<Record>, Refusal> {
        let head = self.head();
        if distance(head.ordinal, self.tail().ordinal) == 0 {
            return Ok(None);
        }
        let mut cursor = Cursor { block: head.block, offset: head.offset };
        cursor.enter_block(self.queue)?;
        let start = cursor;
        let word = cursor.read_word(self.queue)?;
        let (length, tag) = (word as u32, (word >> 32) as u32);
        let ordinal = head.ordinal;
        if length == LARGE {
            let blocks = cursor.read_word(self.queue)?;
            let length = cursor.read_word(self.queue)?;
            let chain = self.queue.chain(blocks, length)?;
            return Ok(Some(Record {
                tag,
                length,
                payload: Payload::Large(chain),
                size: DESCRIPTOR,
                start,
                ordinal,
            }));
        }
        if length as usize > self.queue.largest_small() {
            return Err(Corrupt);
        }
        Ok(Some(Record {
            tag,
            length: u64::from(length),
            payload: Payload::Small(cursor),
            size: size_of_small(length as usize),
            start,
            ordinal,
        }))
    }

    /// Takes the oldest item, `record`, off the log, where that is one store: in its block, without a pin.
    #[inline]
    pub(super) fn step_over(&self, record: &Record) -> Option<u64> {
        let head = self.head();
        let end = record.start.offset as usize + record.size;
        let stays = record.start.block == head.block && end <= self.queue.layout.block as usize;
        stays.then(|| self.next_position(head.block, end as u32))
    }

    fn next_position(&self, block: u32, offset: u32) -> u64 {
        Position { block, offset, ordinal: self.head().ordinal.wrapping_add(1) }.pack()
    }

    /// Takes the oldest item, `record`, off the log, and lets go of the blocks it leaves.
    pub(super) fn advance(&self, redo: &mut Redo, record: &Record) -> Result<(), Refusal> {
        let head = self.head();
        if head.block != record.start.block {
            self.pass(redo, head.block)?;
        }
        let mut end = record.start;
        end.skip(self.queue, record.size)?;
        if end.block != record.start.block {
            self.pass(redo, record.start.block)?;
        }
        redo.set(&self.header().head, self.next_position(end.block, end.offset))
    }

    /// Removes the oldest item of the log.
    pub(super) fn discard_logged(&self) -> Result<(), Refusal> {
        let record = self.front()?.ok_or(Refusal::Empty)?;
        let mut redo = self.queue.redo();
        self.advance(&mut redo, &record)?;
        if let Payload::Large(chain) = record.payload {
            self.release(&mut redo, chain)?;
        }
        self.signal_room(|| redo.commit());
        Ok(())
    }

    /// How many items the log has: no more than there is room for, whatever the memory says.
    pub(super) fn logged(&self) -> u32 {
        let most = u64::from(self.queue.layout.blocks) * u64::from(self.queue.layout.block) / HEAD as u64;
        distance(self.head().ordinal, self.tail().ordinal).min(u32::try_from(most).unwrap_or(u32::MAX))
    }

    /// Whether the log can count `more` items.
    pub(super) fn can_count(&self, more: usize) -> bool {
        (self.logged() as usize).saturating_add(more) < COUNTS as usize
    }
}

impl Queue {
    /// The largest item that is copied under the lock.
    #[inline]
    pub fn largest_small(&self) -> usize {
        (self.layout.block as usize - HEAD).min(16 << 10)
    }

    /// The blocks of a large item, from two words of the memory.
    pub(super) fn chain(&self, blocks: u64, length: u64) -> Result<Chain, Refusal> {
        let (first, last) = (blocks as u32, (blocks >> 32) as u32);
        let count = self.blocks_for(length)?;
        if first.max(last) >= self.layout.blocks { Err(Corrupt) } else { Ok(Chain { first, last, count }) }
    }

    /// How many blocks so many bytes take.
    pub(super) fn blocks_for(&self, length: u64) -> Result<u32, Refusal> {
        let count = length.div_ceil(u64::from(self.layout.block));
        u32::try_from(count).ok().filter(|count| *count <= self.layout.blocks).ok_or(Corrupt)
    }
}
