//! The blocks: all of one size, any of them good for anything.
//!
//! | a block is                  | and its link word says                                          |
//! |-----------------------------|-----------------------------------------------------------------|
//! | in the log, or a large item | the next block                                                  |
//! | the last of either          | nothing, as to the next                                         |
//! | free                        | the next of its list; the last of a list: nothing               |
//!
//! | pins                        | meaning                                                         |
//! |-----------------------------|-----------------------------------------------------------------|
//! | 0                           | no item in flight, or that came back, needs the block           |
//! | n                           | n of them do; it is in the log still                            |
//! | PASSED, n                   | n of them do; the log has left it; free with the last of them   |
//!
//! Invariant: a block is in the log, in one large item, pinned and passed, or in one free list.

use super::Critical;
use super::refusal::{Corrupt, Refusal};
use super::shared::Redo;
use super::words::List;
use crate::kernel::Kernel;
use std::sync::atomic::Ordering::Relaxed;

/// Blocks linked one to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    pub first: u32,
    pub last: u32,
    pub count: u32,
}

const PASSED: u32 = 1 << 31;

#[inline]
fn link(next: u32, pins: u32) -> u64 {
    u64::from(next) | (u64::from(pins) << 32)
}

#[inline]
fn next_of(link: u64) -> u32 {
    link as u32
}

#[inline]
fn pins_of(link: u64) -> u32 {
    (link >> 32) as u32
}

#[inline]
fn with_another_pin(now: u64) -> u64 {
    link(next_of(now), pins_of(now).wrapping_add(1))
}

impl<K: Kernel> Critical<'_, K> {
    /// How many blocks are free.
    pub(super) fn free_blocks(&self) -> u32 {
        let header = self.header();
        let counts = [&header.dirty, &header.clean].map(|list| self.queue.list(list.load(Relaxed)).count);
        (counts[0].saturating_add(counts[1])).saturating_add(self.untouched())
    }

    fn untouched(&self) -> u32 {
        let touched = self.header().touched.load(Relaxed).min(u64::from(self.queue.layout.blocks)) as u32;
        (self.queue.layout.blocks - 1).saturating_sub(touched)
    }

    /// Takes `count` blocks from the free lists, those that have memory first. `None` if that would not leave `left`.
    pub(super) fn allocate(&self, redo: &mut Redo, count: u32, left: u32) -> Result<Option<Chain>, Refusal> {
        if count == 0 || self.free_blocks() < count.saturating_add(left) {
            return Ok(None);
        }
        let header = self.header();
        let mut chain: Option<Chain> = None;
        // A list is left for the next only when it is used up, and then the link of its last block is free to be written.
        for word in [&header.dirty, &header.clean] {
            let list = self.queue.list(redo.get(word));
            let part = list.count.min(count - chain.map_or(0, |chain| chain.count));
            if part > 0 {
                let mut last = list.first;
                for _ in 1..part {
                    last = self.queue.next_block(last)?;
                }
                let first = if part < list.count { self.queue.next_block(last)? } else { 0 };
                redo.set(word, List { first, count: list.count - part }.pack())?;
                self.connect(&mut chain, Chain { first: list.first, last, count: part })?;
            }
        }
        let part = count - chain.map_or(0, |chain| chain.count);
        if part > 0 {
            let touched = header.touched.load(Relaxed) as u32;
            let (first, last) = (touched + 1, touched + part);
            for block in first..=last {
                self.queue.link(block)?.store(link(block + 1, 0), Relaxed);
            }
            redo.set(&header.touched, u64::from(last))?;
            self.connect(&mut chain, Chain { first, last, count: part })?;
        }
        Ok(chain)
    }

    /// Links `more` to the end of `chain`, whose last block's link means nothing yet.
    fn connect(&self, chain: &mut Option<Chain>, more: Chain) -> Result<(), Refusal> {
        *chain = Some(match *chain {
            None => more,
            Some(chain) => {
                self.set_next(chain.last, more.first)?;
                Chain { first: chain.first, last: more.last, count: chain.count + more.count }
            }
        });
        Ok(())
    }

    /// Writes the link of a block to its next, which means nothing yet, directly.
    pub(super) fn set_next(&self, block: u32, next: u32) -> Result<(), Refusal> {
        let word = self.queue.link(block)?;
        word.store(link(next, pins_of(word.load(Relaxed))), Relaxed);
        Ok(())
    }

    /// Puts a chain on the list of free blocks that have memory.
    pub(super) fn release(&self, redo: &mut Redo, chain: Chain) -> Result<(), Refusal> {
        let dirty = self.queue.list(redo.get(&self.header().dirty));
        redo.set(self.queue.link(chain.last)?, link(dirty.first, 0))?;
        let count = dirty.count.saturating_add(chain.count);
        redo.set(&self.header().dirty, List { first: chain.first, count }.pack())
    }

    /// The log leaves a block: free, unless an item needs it.
    pub(super) fn pass(&self, redo: &mut Redo, block: u32) -> Result<(), Refusal> {
        let word = self.queue.link(block)?;
        let now = redo.get(word);
        match pins_of(now) {
            0 => self.release(redo, Chain { first: block, last: block, count: 1 }),
            pins => redo.set(word, link(next_of(now), pins | PASSED)),
        }
    }

    /// A new block is for items that are moved: it is not the log's, and stays while its list of items grows.
    pub(super) fn pin_passed(&self, redo: &mut Redo, block: u32) -> Result<(), Refusal> {
        redo.set(self.queue.link(block)?, link(0, PASSED | 1))
    }

    /// The first change to the block's link: one more item needs the block.
    #[inline]
    pub(super) fn pin_first(&self, redo: &mut Redo, block: u32) -> Result<(), Refusal> {
        let word = self.queue.link(block)?;
        redo.add(word, with_another_pin(word.load(Relaxed)))
    }

    /// The first change to the block's link: one item less needs the block. False, and nothing is changed, if nobody else does.
    #[inline]
    pub(super) fn unpin_first(&self, redo: &mut Redo, block: u32) -> Result<bool, Refusal> {
        let word = self.queue.link(block)?;
        let now = word.load(Relaxed);
        let pins = pins_of(now);
        if pins & !PASSED == 0 || pins == PASSED | 1 {
            return Ok(false);
        }
        redo.add(word, link(next_of(now), pins - 1)).map(|()| true)
    }

    /// One more item needs the block.
    #[inline]
    pub(super) fn pin(&self, redo: &mut Redo, block: u32) -> Result<(), Refusal> {
        let word = self.queue.link(block)?;
        redo.set(word, with_another_pin(redo.get(word)))
    }

    /// One item less needs the block.
    #[inline]
    pub(super) fn unpin(&self, redo: &mut Redo, block: u32) -> Result<(), Refusal> {
        let word = self.queue.link(block)?;
        let now = redo.get(word);
        match pins_of(now) {
            pins if pins & !PASSED == 0 => Err(Corrupt),
            pins if pins == PASSED | 1 => self.release(redo, Chain { first: block, last: block, count: 1 }),
            pins => redo.set(word, link(next_of(now), pins - 1)),
        }
    }
}

/// The free blocks that are left to no push: one, for `gather`.
pub(super) const LEFT: u32 = 1;

impl super::Queue {
    /// The block after `block`.
    pub(super) fn next_block(&self, block: u32) -> Result<u32, Refusal> {
        let next = next_of(self.link(block)?.load(Relaxed));
        if next < self.layout.blocks { Ok(next) } else { Err(Corrupt) }
    }

    /// The block after `block`, if no item in flight needs that.
    pub(super) fn next_if_unpinned(&self, block: u32) -> Option<u32> {
        let word = self.link(block).ok()?.load(Relaxed);
        (pins_of(word) == 0 && next_of(word) < self.layout.blocks).then(|| next_of(word))
    }

    /// Whether the log has left the block.
    pub(super) fn is_passed(&self, block: u32) -> Result<bool, Refusal> {
        Ok(pins_of(self.link(block)?.load(Relaxed)) & PASSED != 0)
    }
}
