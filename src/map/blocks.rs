//! Blocks: all memory of entries, in pieces of one size. Bytes go on from one block to the next one that it is linked to.
//!
//! A block is free for all (the map's `free` list, or never used), free in one shard (the shard's list), part of a
//! segment, or holds buckets. Lists are delimited by counts: the link of the last block of a list or segment means
//! nothing, and may be written at any time.

use super::Refusal;
use super::layout::SPARE;
use super::shared::Redo;
use super::shared::{Critical, Map};
use super::slot::before_reuse;
use crate::kernel::Kernel;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::*};

/// A place in a block. `offset` can be the block's whole size: what follows is in the next block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub block: u32,
    pub offset: u32,
}

/// Two numbers in a word: of a list, its first block and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair(pub u32, pub u32);

impl Pair {
    pub fn of(word: u64) -> Pair {
        Pair(word as u32, (word >> 32) as u32)
    }

    pub fn pack(self) -> u64 {
        u64::from(self.0) | u64::from(self.1) << 32
    }
}

impl Map {
    #[inline]
    pub(super) fn place(&self, location: u64) -> Place {
        let (position, block) = (location * 8, u64::from(self.layout.block));
        Place {
            block: u32::try_from(position / block).unwrap_or(u32::MAX),
            offset: (position % block) as u32,
        }
    }

    #[inline]
    pub(super) fn location(&self, place: Place) -> u64 {
        (u64::from(place.block) * u64::from(self.layout.block) + u64::from(place.offset)) / 8
    }

    #[inline]
    pub(super) fn next_block(&self, block: u32) -> Option<u32> {
        let next = self.block(block).ok()?.link.load(Relaxed) as u32;
        (next < self.layout.blocks).then_some(next)
    }

    /// The place `distance` bytes on.
    #[inline]
    pub(super) fn on(&self, place: Place, distance: u64) -> Option<Place> {
        let size = u64::from(self.layout.block);
        let mut offset = u64::from(place.offset) + distance;
        let mut block = place.block;
        let mut left = self.layout.blocks;
        while offset > size {
            left = left.checked_sub(1)?;
            block = self.next_block(block)?;
            offset -= size;
        }
        Some(Place { block, offset: offset as u32 })
    }

    /// The place itself, or the beginning of the next block if nothing is left of this one.
    #[inline]
    fn settled(&self, place: Place) -> Option<Place> {
        if place.offset < self.layout.block {
            return Some(place);
        }
        Some(Place { block: self.next_block(place.block)?, offset: 0 })
    }

    /// Calls `each` with the pieces of memory from `place` on, and how many bytes came before each.
    #[inline]
    fn pieces(
        &self,
        mut place: Place,
        length: usize,
        mut each: impl FnMut(*mut u8, usize, usize) -> bool,
    ) -> Option<bool> {
        let mut done = 0;
        while done < length {
            place = self.settled(place)?;
            let piece = (length - done).min((self.layout.block - place.offset) as usize);
            if !each(self.bytes_at(place)?, done, piece) {
                return Some(false);
            }
            done += piece;
            place.offset += piece as u32;
        }
        Some(true)
    }

    /// Copies bytes out of blocks. `None` if the blocks are in disorder, as they may be for a reader that comes late.
    ///
    /// # Safety
    /// `to` has room for so many.
    #[inline]
    pub(super) unsafe fn read(&self, place: Place, length: usize, to: *mut u8) -> Option<()> {
        // SAFETY: each piece is inside a block, and inside the caller's room. Other processes may write meanwhile; then
        // the bytes are not used.
        let copy = |from: *mut u8, done, piece| unsafe {
            ptr::copy_nonoverlapping(from, to.add(done), piece);
            true
        };
        self.pieces(place, length, copy).map(|_| ())
    }

    /// Whether these bytes are there.
    #[inline]
    pub(super) fn has(&self, place: Place, bytes: &[u8]) -> Option<bool> {
        // SAFETY: as in `read`.
        self.pieces(place, bytes.len(), |there, done, piece| unsafe {
            libc::memcmp(there.cast(), bytes.as_ptr().add(done).cast(), piece) == 0
        })
    }

    /// Writes bytes to blocks that nothing leads to.
    pub(super) fn write(&self, place: Place, bytes: &[u8]) -> Result<(), Refusal> {
        // SAFETY: each piece is inside a block, which is the caller's.
        let copy = |to: *mut u8, done: usize, piece| unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr().add(done), to, piece);
            true
        };
        self.pieces(place, bytes.len(), copy).map(|_| ()).ok_or(Refusal::Corrupt)
    }

    /// Copies bytes from blocks to blocks that nothing leads to.
    pub(super) fn copy(&self, mut from: Place, to: Place, length: usize) -> Result<(), Refusal> {
        let copied = self.pieces(to, length, |to, _, piece| {
            let copy = |from: *mut u8, done, piece| {
                // SAFETY: both are pieces of blocks. They overlap only if the memory has been overwritten.
                unsafe { ptr::copy(from, to.add(done), piece) };
                true
            };
            let read = self.pieces(from, piece, copy);
            read.and_then(|_| self.on(from, piece as u64)).map(|next| from = next).is_some()
        });
        if copied == Some(true) { Ok(()) } else { Err(Refusal::Corrupt) }
    }

    /// The word at a place, which is a multiple of 8.
    #[inline]
    pub(super) fn word_at(&self, place: Place) -> Option<&AtomicU64> {
        let place = self.settled(place)?;
        let address = self.bytes_at(place).filter(|_| place.offset % 8 == 0)?;
        // SAFETY: inside a block, whose size is a multiple of 8, and aligned.
        Some(unsafe { &*address.cast::<AtomicU64>() })
    }

    /// How many blocks are free for all, but for those that moving entries may need.
    pub(super) fn free_blocks(&self) -> u32 {
        self.unused_blocks().saturating_sub(SPARE)
    }

    /// Whether moving entries would have fewer blocks than they may need.
    pub(super) fn lacks_spare_blocks(&self) -> bool {
        self.unused_blocks() < SPARE
    }

    fn unused_blocks(&self) -> u32 {
        let header = self.header();
        let free = Pair::of(header.free.load(Relaxed)).1;
        free.saturating_add(self.layout.blocks.saturating_sub(header.touched.load(Relaxed) as u32))
    }
}

impl<K: Kernel> Critical<'_, K> {
    /// The blocks of the shard that have nothing in them.
    pub(super) fn own_free(&self) -> Pair {
        let Pair(first, count) = Pair::of(self.shard().free.load(Relaxed));
        Pair(first, count.min(self.map.layout.blocks))
    }

    /// Sees to it that the shard has `count` free blocks of its own. False if there are not enough; then it has those that
    /// there are.
    pub(super) fn acquire_blocks(&self, count: u32, for_moving: bool) -> Result<bool, Refusal> {
        let own = self.own_free().1;
        if own >= count {
            return Ok(true);
        }
        let wanted = count - own;
        let there = || if for_moving { self.map.unused_blocks() } else { self.map.free_blocks() };
        if there() == 0 || (!self.map.evicts && there() < wanted) {
            return Ok(false);
        }
        self.with_pool(|| {
            let taken = there().min(wanted);
            if taken == 0 || (!self.map.evicts && taken < wanted) {
                return Ok(false);
            }
            self.take_blocks(taken)?;
            Ok(taken == wanted)
        })
    }

    /// Takes free blocks from all; the lock of those is held.
    fn take_blocks(&self, count: u32) -> Result<(), Refusal> {
        let (map, header, shard) = (self.map, self.map.header(), self.shard());
        let Pair(first, free) = Pair::of(header.free.load(Relaxed));
        let touched = header.touched.load(Relaxed) as u32;
        let own = self.own_free();
        let mut redo = Redo::new(map, &header.redo);
        let old = count.min(free);
        let fresh = count - old;
        // Never used ones are a list that ends with the shard's own.
        let end = touched.saturating_add(fresh);
        for block in touched..end {
            let next = if block + 1 == end { own.0 } else { block + 1 };
            map.block(block)?.link.store(u64::from(next), Relaxed);
        }
        let mut begins = if fresh > 0 { touched } else { own.0 };
        if old > 0 {
            let (last, next) = self.nth_link(first, old)?;
            redo.set(&map.block(last)?.link, u64::from(begins))?;
            redo.set(&header.free, Pair(next, free - old).pack())?;
            begins = first;
        }
        redo.set(&header.touched, u64::from(end))?;
        redo.set(&shard.free, Pair(begins, own.1 + count).pack())?;
        redo.commit();
        Ok(())
    }

    /// The last of `count` blocks from `first` on, and the block after it.
    fn nth_link(&self, first: u32, count: u32) -> Result<(u32, u32), Refusal> {
        let mut last = first;
        for _ in 1..count {
            last = self.map.block(last)?.link.load(Relaxed) as u32;
        }
        Ok((last, self.map.block(last)?.link.load(Relaxed) as u32))
    }

    /// Gives the shard's free blocks to all.
    pub(super) fn release_blocks(&self) -> Result<(), Refusal> {
        let own = self.own_free();
        if own.1 == 0 {
            return Ok(());
        }
        let (last, _) = self.nth_link(own.0, own.1)?;
        let header = self.map.header();
        self.with_pool(|| {
            let Pair(first, count) = Pair::of(header.free.load(Relaxed));
            self.map.block(last)?.link.store(u64::from(first), Relaxed);
            let mut redo = Redo::new(self.map, &header.redo);
            redo.set(&header.free, Pair(own.0, count.saturating_add(own.1)).pack())?;
            redo.set(&self.shard().free, 0)?;
            redo.commit();
            Ok(())
        })
    }

    /// Takes `count` of the shard's free blocks, which it has, for `segment`, or for one that begins with the first of them.
    /// Returns the first and the last. The change is made with `redo`.
    pub(super) fn detach(
        &self,
        redo: &mut Redo,
        count: u32,
        segment: Option<u32>,
    ) -> Result<(u32, u32), Refusal> {
        let own = self.own_free();
        if count == 0 || own.1 < count {
            return Err(Refusal::Corrupt);
        }
        before_reuse();
        let segment = segment.unwrap_or(own.0);
        let (mut last, mut next) = (own.0, own.0);
        for _ in 0..count {
            last = next;
            let link = &self.map.block(last)?.link;
            next = link.load(Relaxed) as u32;
            link.store(Pair(next, segment).pack(), Relaxed);
        }
        redo.set(&self.shard().free, Pair(next, own.1 - count).pack())?;
        Ok((own.0, last))
    }
}
