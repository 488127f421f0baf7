//! Segments: stretches of a shard's logs. A segment is a chain of blocks with entries one after the other. It is named by
//! its first block. Entries are added to the newest segment of a log, until that has `SEGMENT` blocks. An entry that
//! needs more has a segment of its own, so that it is never copied.
//!
//! A segment knows how many of its bytes are entries that the index leads to. When none are left it is free. A segment
//! with gaps is emptied by moving what is left of it.
//!
//! An entry is written first, then `used` includes it, then a slot leads to it. So whoever walks through a segment meets
//! whole entries, of which some have no slot: those were replaced or dropped, or their writers died.

use super::Refusal;
use super::blocks::{Pair, Place};
use super::entry::Head;
use super::layout::{Block, CLOSED, LARGE, LOGS, SEGMENT};
use super::shared::Redo;
use super::shared::{Critical, Map};
use super::slot::before_reuse;
use crate::kernel::Kernel;
use std::sync::atomic::Ordering::*;

/// Room for an entry that has not been added yet.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    pub place: Place,
    pub segment: u32,
}

/// What it takes to have room.
enum Plan {
    Here,
    /// So many blocks more for the newest segment.
    Extend(u32),
    /// A new segment of so many.
    Open(u32),
    OpenLarge(u32),
}

impl Map {
    /// The first words of the entry at a place.
    #[inline]
    pub(super) fn head_at(&self, place: Place) -> Option<Head> {
        let first = self.word_at(place)?.load(Relaxed);
        let second = self.word_at(self.on(place, 8)?)?.load(Relaxed);
        Some(Head::unpack([first, second]))
    }

    /// When the entry at a place expires, or 0.
    #[inline]
    pub(super) fn expiry_at(&self, place: Place, head: &Head) -> Option<u64> {
        if !head.expires {
            return Some(0);
        }
        Some(self.word_at(self.on(place, super::entry::HEAD)?)?.load(Relaxed))
    }

    /// The segment that a block belongs to.
    pub(super) fn segment_of(&self, block: u32) -> Result<(u32, &Block), Refusal> {
        let segment = Pair::of(self.block(block)?.link.load(Relaxed)).1;
        Ok((segment, self.block(segment)?))
    }

    /// Calls `each` with every entry of a segment, until it says no: its place and its first words.
    pub(super) fn walk(
        &self,
        segment: u32,
        mut each: impl FnMut(Place, &Head) -> Result<bool, Refusal>,
    ) -> Result<(), Refusal> {
        let block = self.block(segment)?;
        let is_large = block.log.load(Relaxed) & LARGE != 0;
        // Its last entry may go beyond SEGMENT blocks by nearly as many.
        let most = if is_large { 1 } else { u64::from(2 * SEGMENT) * u64::from(self.layout.block) };
        let used = block.used.load(Acquire).min(most);
        let (mut done, mut place) = (0, Place { block: segment, offset: 0 });
        while done < used {
            if place.offset >= self.layout.block {
                place = Place { block: self.next_block(place.block).ok_or(Refusal::Corrupt)?, offset: 0 };
            }
            let head = self.head_at(place).ok_or(Refusal::Corrupt)?;
            // Before `each`, which may give the blocks away.
            let next = if done + head.size() < used { self.on(place, head.size()) } else { Some(place) };
            if !each(place, &head)? {
                break;
            }
            done += head.size();
            place = next.ok_or(Refusal::Corrupt)?;
        }
        Ok(())
    }
}

/// Which log a segment is in.
pub fn log_of(segment: &Block) -> usize {
    (segment.log.load(Relaxed) & !(LARGE | CLOSED)) as usize % LOGS
}

/// The sooner of two instants, where 0 is never.
pub fn sooner(one: u64, other: u64) -> u64 {
    if one == 0 || other == 0 { one.max(other) } else { one.min(other) }
}

impl<'m, K: Kernel> Critical<'m, K> {
    pub(super) fn newest(&self, log: usize) -> Option<u32> {
        (self.shard().newest[log % LOGS].load(Relaxed) as u32).checked_sub(1)
    }

    pub(super) fn oldest(&self, log: usize) -> Option<u32> {
        (self.shard().oldest[log % LOGS].load(Relaxed) as u32).checked_sub(1)
    }

    /// The segments of a log, from the oldest on. Each is where the one after it says, so they never go round.
    pub(super) fn segments(&self, log: usize) -> Vec<u32> {
        let mut all = Vec::new();
        let (mut at, mut last) = (self.oldest(log), 0);
        while let Some(segment) = at
            && let Ok(block) = self.map.block(segment)
            && let Pair(after, before) = Pair::of(block.order.load(Relaxed))
            && before == last
            && all.len() < self.map.layout.blocks as usize
        {
            all.push(segment);
            (at, last) = (after.checked_sub(1), segment + 1);
        }
        all
    }

    fn plan(&self, log: usize, size: u64) -> Result<Plan, Refusal> {
        let block = u64::from(self.map.layout.block);
        let alone = u32::try_from(size.div_ceil(block)).map_err(|_| Refusal::TooLarge)?;
        if alone > SEGMENT {
            return Ok(Plan::OpenLarge(alone));
        }
        let Some(newest) = self.newest(log) else { return Ok(Plan::Open(alone)) };
        let newest = self.map.block(newest)?;
        let count = Pair::of(newest.extent.load(Relaxed)).1;
        let room = (u64::from(count) * block).saturating_sub(newest.used.load(Relaxed));
        Ok(match newest.log.load(Relaxed) & (LARGE | CLOSED) {
            0 if size <= room => Plan::Here,
            0 if count < SEGMENT => Plan::Extend((size - room).div_ceil(block) as u32),
            _ => Plan::Open(alone),
        })
    }

    /// How many free blocks an entry of that size needs.
    pub(super) fn blocks_needed(&self, log: usize, size: u64) -> Result<u32, Refusal> {
        Ok(match self.plan(log, size)? {
            Plan::Here => 0,
            Plan::Extend(count) | Plan::Open(count) | Plan::OpenLarge(count) => count,
        })
    }

    /// Room for an entry of that size, from the shard's own free blocks, which are enough.
    pub(super) fn room(&self, log: usize, size: u64) -> Result<Room, Refusal> {
        match self.plan(log, size)? {
            Plan::Here => {}
            Plan::Extend(count) => self.extend(log, count)?,
            Plan::Open(count) => self.open(log, count, false)?,
            Plan::OpenLarge(count) => {
                let segment = self.open_large(log, count)?;
                return Ok(Room { place: Place { block: segment, offset: 0 }, segment });
            }
        }
        let segment = self.newest(log).ok_or(Refusal::Corrupt)?;
        let block = self.map.block(segment)?;
        // The blocks that were just added are linked behind the last one that has been written to.
        let used = block.used.load(Relaxed);
        let size = u64::from(self.map.layout.block);
        let mut place = Place { block: segment, offset: 0 };
        let extent = Pair::of(block.extent.load(Relaxed));
        if u64::from(extent.1.saturating_sub(1)) * size <= used {
            place = Place { block: extent.0, offset: (used - u64::from(extent.1 - 1) * size) as u32 };
        } else if used > 0 {
            place = self.map.on(place, used).ok_or(Refusal::Corrupt)?;
        }
        if place.offset == self.map.layout.block {
            place = Place { block: self.map.next_block(place.block).ok_or(Refusal::Corrupt)?, offset: 0 };
        }
        before_reuse();
        Ok(Room { place, segment })
    }

    fn extend(&self, log: usize, count: u32) -> Result<(), Refusal> {
        let segment = self.newest(log).ok_or(Refusal::Corrupt)?;
        let block = self.map.block(segment)?;
        let mut redo = Redo::new(self.map, &self.shard().redo);
        let (first, last) = self.detach(&mut redo, count, Some(segment))?;
        let extent = Pair::of(block.extent.load(Relaxed));
        self.map.block(extent.0)?.link.store(Pair(first, segment).pack(), Relaxed);
        redo.set(&block.extent, Pair(last, extent.1.saturating_add(count)).pack())?;
        self.count_blocks(&mut redo, log, i64::from(count))?;
        redo.commit();
        Ok(())
    }

    fn open(&self, log: usize, count: u32, large: bool) -> Result<(), Refusal> {
        let mut redo = Redo::new(self.map, &self.shard().redo);
        let segment = self.detach_segment(&mut redo, log, count, large)?;
        self.append_segment(&mut redo, log, segment)?;
        redo.commit();
        Ok(())
    }

    fn open_large(&self, log: usize, count: u32) -> Result<u32, Refusal> {
        let mut redo = Redo::new(self.map, &self.shard().redo);
        let segment = self.detach_segment(&mut redo, log, count, true)?;
        self.append_large(&mut redo, log, segment)?;
        redo.commit();
        Ok(segment)
    }

    fn detach_segment(&self, redo: &mut Redo, log: usize, count: u32, large: bool) -> Result<u32, Refusal> {
        let (first, last) = self.detach(redo, count, None)?;
        let block = self.map.block(first)?;
        block.used.store(0, Relaxed);
        block.live.store(0, Relaxed);
        block.expiry.store(0, Relaxed);
        block.order.store(0, Relaxed);
        block.log.store(log as u64 | if large { LARGE } else { 0 }, Relaxed);
        block.extent.store(Pair(last, count).pack(), Relaxed);
        self.count_blocks(redo, log, i64::from(count))?;
        Ok(first)
    }

    fn count_blocks(&self, redo: &mut Redo, log: usize, change: i64) -> Result<(), Refusal> {
        let blocks = &self.shard().blocks[log % LOGS];
        let now = redo.get(blocks);
        redo.set(blocks, now.saturating_add_signed(change))
    }

    /// Makes a segment that is in no log the newest.
    fn append_segment(&self, redo: &mut Redo, log: usize, segment: u32) -> Result<(), Refusal> {
        let (shard, log) = (self.shard(), log % LOGS);
        let newest = redo.get(&shard.newest[log]) as u32;
        self.link(redo, log, newest, segment + 1)?;
        self.link(redo, log, segment + 1, 0)
    }

    /// Puts a large one before the newest, which may get more entries.
    fn append_large(&self, redo: &mut Redo, log: usize, segment: u32) -> Result<(), Refusal> {
        let (shard, log) = (self.shard(), log % LOGS);
        let newest = redo.get(&shard.newest[log]) as u32;
        let before = match newest.checked_sub(1) {
            Some(newest) => Pair::of(redo.get(&self.map.block(newest)?.order)).1,
            None => 0,
        };
        self.link(redo, log, before, segment + 1)?;
        self.link(redo, log, segment + 1, newest)
    }

    /// Makes one segment follow the other; 0 stands for the log's ends.
    fn link(&self, redo: &mut Redo, log: usize, one: u32, other: u32) -> Result<(), Refusal> {
        let shard = self.shard();
        match one.checked_sub(1) {
            Some(one) => {
                let order = &self.map.block(one)?.order;
                let Pair(_, before) = Pair::of(redo.get(order));
                redo.set(order, Pair(other, before).pack())?;
            }
            None => redo.set(&shard.oldest[log], u64::from(other))?,
        }
        match other.checked_sub(1) {
            Some(other) => {
                let order = &self.map.block(other)?.order;
                let Pair(after, _) = Pair::of(redo.get(order));
                redo.set(order, Pair(after, one).pack())
            }
            None => redo.set(&shard.newest[log], u64::from(one)),
        }
    }

    fn unlink(&self, redo: &mut Redo, segment: u32) -> Result<usize, Refusal> {
        let block = self.map.block(segment)?;
        let log = log_of(block);
        let Pair(after, before) = Pair::of(redo.get(&block.order));
        self.link(redo, log, before, after)?;
        Ok(log)
    }

    /// Frees a segment that the index leads nowhere in.
    pub(super) fn free_segment(&self, segment: u32) -> Result<(), Refusal> {
        let block = self.map.block(segment)?;
        let Pair(last, count) = Pair::of(block.extent.load(Relaxed));
        let own = self.own_free();
        let mut redo = Redo::new(self.map, &self.shard().redo);
        let log = self.unlink(&mut redo, segment)?;
        self.count_blocks(&mut redo, log, -i64::from(count))?;
        self.map.block(last)?.link.store(u64::from(own.0), Relaxed);
        redo.set(&self.shard().free, Pair(segment, own.1.saturating_add(count)).pack())?;
        redo.commit();
        Ok(())
    }

    /// Makes a segment of one large entry young again, in `log`.
    pub(super) fn renew_large(&self, segment: u32, log: usize) -> Result<(), Refusal> {
        let block = self.map.block(segment)?;
        let count = i64::from(Pair::of(block.extent.load(Relaxed)).1);
        let mut redo = Redo::new(self.map, &self.shard().redo);
        let old = self.unlink(&mut redo, segment)?;
        self.count_blocks(&mut redo, old, -count)?;
        self.count_blocks(&mut redo, log, count)?;
        redo.set(&block.log, log as u64 | LARGE)?;
        self.append_large(&mut redo, log, segment)?;
        redo.commit();
        Ok(())
    }

    /// The entry in `room` is complete: it is part of its segment from now on.
    pub(super) fn include(&self, room: Room, size: u64, expiry: u64) -> Result<(), Refusal> {
        let block = self.map.block(room.segment)?;
        self.note_expiry(block, expiry);
        block.used.store(block.used.load(Relaxed).wrapping_add(size), Release);
        block.live.store(block.live.load(Relaxed).wrapping_add(size), Relaxed);
        Ok(())
    }

    /// Nothing expires in the segment or shard before it says so.
    pub(super) fn note_expiry(&self, segment: &Block, expiry: u64) {
        if expiry != 0 {
            for word in [&segment.expiry, &self.shard().expiry] {
                word.store(sooner(word.load(Relaxed), expiry), Relaxed);
            }
        }
    }
}
