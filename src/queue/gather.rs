//! Moves small items in flight together when blocks run short, so that a worker that keeps an item for an hour does not
//! keep a block for it.
//!
//! They go to the parking block: passed by the log, with one pin of its own beside those of its items, and filled from its
//! beginning. When it is full it loses that pin and becomes a block like others. One free block is kept for this: nothing else
//! is given the last one.

use super::Critical;
use super::cursor::Cursor;
use super::layout::Entry;
use super::refusal::Refusal;
use super::words::{GRAIN, Position};
use crate::kernel::Kernel;
use std::collections::HashMap;
use std::sync::atomic::Ordering::Relaxed;

/// Marks, in the parking position's ordinal, that there is a parking block.
const THERE_IS_ONE: u32 = 1;

impl<K: Kernel> Critical<'_, K> {
    /// Moves the items of blocks that are less than half needed. True if there are more free blocks than before.
    #[cold]
    pub(super) fn gather(&self) -> Result<bool, Refusal> {
        let before = self.free_blocks();
        let mut items = Vec::new();
        let mut needed: HashMap<u32, usize> = HashMap::new();
        for index in 0..self.used_entries() {
            let entry = self.queue.entry(index)?;
            if let Some(blocks) = self.pinned_blocks(entry)? {
                items.push((index, blocks));
                let length = entry.length.load(Relaxed) as usize;
                needed.entry(blocks.0).and_modify(|sum| *sum += length).or_insert(length);
                if blocks.1 != blocks.0 {
                    needed.entry(blocks.1).and_modify(|sum| *sum += length).or_insert(length);
                }
            }
        }
        let parking = self.parking().map(|parking| parking.block);
        for (index, (first, last)) in items {
            let mut moves = false;
            for block in [first, last] {
                let half = self.queue.layout.block as usize / 2;
                let is_sparse = needed.get(&block).is_some_and(|bytes| *bytes <= half);
                moves |= is_sparse && parking != Some(block) && self.queue.is_passed(block)?;
            }
            if moves && !self.park(self.queue.entry(index)?)? {
                break;
            }
        }
        Ok(self.free_blocks() > before)
    }

    fn parking(&self) -> Option<Position> {
        let parking = Position::unpack(self.header().parking.load(Relaxed));
        (parking.ordinal == THERE_IS_ONE).then_some(parking)
    }

    /// Moves one item. False if there is no block to move it to.
    fn park(&self, entry: &Entry) -> Result<bool, Refusal> {
        let length = entry.length.load(Relaxed);
        let size = (length as u32).next_multiple_of(GRAIN as u32);
        let mut redo = self.queue.redo();
        let to = match self.parking() {
            Some(parking) if parking.offset + size <= self.queue.layout.block => parking,
            full => {
                let Some(chain) = self.allocate(&mut redo, 1, 0)? else { return Ok(false) };
                if let Some(full) = full {
                    self.unpin(&mut redo, full.block)?;
                }
                self.pin_passed(&mut redo, chain.first)?;
                Position { block: chain.first, offset: 0, ordinal: THERE_IS_ONE }
            }
        };
        let mut bytes = Vec::new();
        self.copy_small(entry, &mut bytes)?;
        let place = Cursor { block: to.block, offset: to.offset };
        // SAFETY: what lies behind the parking position is nobody's, and the lock is held.
        unsafe { { place }.write(self.queue, &bytes)? };
        redo.set(&self.header().parking, Position { offset: to.offset + size, ..to }.pack())?;
        self.pin(&mut redo, to.block)?;
        self.free_payload(&mut redo, entry)?;
        redo.set(&entry.place, u64::from(place.block) | (u64::from(place.offset) << 32))?;
        redo.commit();
        Ok(true)
    }
}
