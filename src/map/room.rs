//! Making room. What has expired goes first, then buckets that are not needed any more and gaps that replaced entries have
//! left, and then, in a map that evicts, the entries that are worth least (S3-FIFO: Yang et al., "FIFO queues are all you need for cache eviction", SOSP 2023).
//!
//! New entries go to the first log, a tenth of the blocks. Those that were read before they came to its end go on to the second;
//! the others are dropped, and their hashes remembered for a while: whoever comes back goes to the second log at once.
//! An entry at the end of the second log that was read goes to its beginning again, worth one less.
//!
//! Moving an entry is: write a copy, then one store of its slot. So a segment is emptied while readers go on, and a death
//! in the middle leaves some entries moved and others not.

use super::Refusal;
use super::blocks::Place;
use super::entry::Head;
use super::index::Found;
use super::layout::{CLOSED, LARGE, LOGS};
use super::segments::{log_of, sooner};
use super::shared::{Critical, Map, Patience};
use crate::kernel::Kernel;
use std::sync::atomic::Ordering::*;

/// The log that new entries go to.
pub const NEW: usize = 0;
/// The log of those that proved their worth.
pub const PROVEN: usize = 1;

/// New entries have one block in so many.
const SHARE_OF_NEW: u64 = 10;
/// Gaps are closed if they are one byte of so many.
const GAPS: u64 = 8;
/// After so many segments that gave nothing, entries are dropped whatever they are worth.
const PATIENCE: usize = 4;

/// The instant, in nanoseconds: also the time in which the machine sleeps, where the system counts that.
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    #[cfg(target_os = "linux")]
    const CLOCK: libc::clockid_t = libc::CLOCK_BOOTTIME;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: libc::clockid_t = libc::CLOCK_MONOTONIC;
    // SAFETY: `time` is a valid timespec to write to; the clock exists on every supported system.
    unsafe { libc::clock_gettime(CLOCK, &mut time) };
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}

impl Map {
    /// Makes room for `count` blocks in the shards other than `except`, whose lock the caller does not hold. False if there
    /// is nothing left to be gained.
    pub(super) fn make_room<K: Kernel>(
        &self,
        kernel: &K,
        except: u32,
        count: u32,
        patience: Patience,
    ) -> Result<bool, Refusal> {
        let mut gained = false;
        for step in 1..self.shards() {
            if self.free_blocks() >= count {
                return Ok(true);
            }
            let critical = self.enter(kernel, except.wrapping_add(step), patience)?;
            gained |= critical.own_free().1 > 0 || critical.gain()?;
            critical.release_blocks()?;
        }
        Ok(gained)
    }
}

impl<'m, K: Kernel> Critical<'m, K> {
    /// Has `count` free blocks of the shard's own.
    ///
    /// # Errors
    /// `Short` if this shard alone cannot have them.
    pub(super) fn ensure_blocks(&self, count: u32) -> Result<(), Refusal> {
        // Each time a block is gained. Others may take it.
        for _ in 0..=self.map.layout.blocks {
            if self.acquire_blocks(count, false)? {
                return Ok(());
            }
            if self.patience == Patience::Hasty && count > super::layout::SEGMENT {
                return Err(Refusal::Busy);
            }
            if !self.gain()? {
                break;
            }
        }
        Err(Refusal::Short(count))
    }

    /// Frees some blocks. False if there is nothing that the shard could give up.
    fn gain(&self) -> Result<bool, Refusal> {
        let gained = self.gain_for_itself()?;
        // What moving entries took from all goes back first.
        if self.map.lacks_spare_blocks() {
            self.release_blocks()?;
        }
        Ok(gained)
    }

    fn gain_for_itself(&self) -> Result<bool, Refusal> {
        let before = self.own_free().1;
        self.sweep()?;
        if self.own_free().1 > before || self.shorten_chains()? || self.close_gaps()? {
            return Ok(true);
        }
        if !self.map.evicts {
            return Ok(false);
        }
        for step in 0..=PATIENCE {
            let Some(log) = self.log_to_evict_from() else { return Ok(false) };
            if self.evict_from(log, step >= PATIENCE)? {
                return Ok(true);
            }
        }
        Err(Refusal::Corrupt)
    }

    /// Drops what has expired, if anything can have.
    pub(super) fn sweep(&self) -> Result<(), Refusal> {
        let due = |expiry: u64, now: u64| expiry != 0 && expiry <= now;
        let (shard, now) = (self.shard(), now());
        if !due(shard.expiry.load(Relaxed), now) {
            return Ok(());
        }
        let mut next = 0;
        for segment in (0..LOGS).flat_map(|log| self.segments(log)) {
            let block = self.map.block(segment)?;
            if due(block.expiry.load(Relaxed), now) {
                let mut left = 0;
                self.map.walk(segment, |place, head| {
                    let expiry = self.map.expiry_at(place, head).unwrap_or(0);
                    if due(expiry, now) {
                        if let Some(slot) = self.slot_of(place, head) {
                            let lead = slot.look();
                            self.drop_entry(&Found { slot, lead, place, head: *head })?;
                            add(&shard.expirations, 1);
                        }
                    } else if expiry != 0 && self.slot_of(place, head).is_some() {
                        left = sooner(left, expiry);
                    }
                    Ok(true)
                })?;
                block.expiry.store(left, Relaxed);
                if block.live.load(Relaxed) == 0 {
                    self.free_segment(segment)?;
                }
            }
            next = sooner(next, block.expiry.load(Relaxed));
        }
        shard.expiry.store(next, Relaxed);
        Ok(())
    }

    /// Has nothing lead to an entry any more. Its segment stays, also if it is empty now.
    pub(super) fn drop_entry(&self, found: &Found) -> Result<(), Refusal> {
        found.slot.clear();
        let size = found.head.size();
        let (_, block) = self.map.segment_of(found.place.block)?;
        subtract(&block.live, size);
        subtract(&self.shard().live, size);
        subtract(&self.shard().count, 1);
        add(&self.shard().dropped, 1);
        Ok(())
    }

    /// Frees the segment at a place if nothing is left of it. True if so.
    pub(super) fn free_if_empty(&self, place: Place) -> Result<bool, Refusal> {
        let (segment, block) = self.map.segment_of(place.block)?;
        let is_empty = block.live.load(Relaxed) == 0;
        if is_empty {
            self.free_segment(segment)?;
        }
        Ok(is_empty)
    }

    /// Moves the entries of the segment with the largest gaps, if that is worth it. True if it freed blocks.
    fn close_gaps(&self) -> Result<bool, Refusal> {
        let mut best = None;
        for segment in (0..LOGS).flat_map(|log| self.segments(log)) {
            let block = self.map.block(segment)?;
            let (used, live) = (block.used.load(Relaxed), block.live.load(Relaxed));
            let gaps = used.saturating_sub(live);
            if best.is_none_or(|(most, _)| gaps > most) && self.is_worth_moving(used, gaps) {
                best = Some((gaps, segment));
            }
        }
        let Some((_, segment)) = best else { return Ok(false) };
        let log = log_of(self.map.block(segment)?);
        self.close(log, segment)?;
        self.empty(segment, |_, worth| Some((log, worth)))
    }

    /// A map that drops nothing moves entries for the last byte.
    fn is_worth_moving(&self, used: u64, gaps: u64) -> bool {
        if self.map.evicts { gaps.saturating_mul(GAPS) >= used && gaps > 0 } else { gaps >= 8 }
    }

    /// Where there is something to drop, and whose turn it is.
    fn log_to_evict_from(&self) -> Option<usize> {
        let blocks = |log: usize| self.shard().blocks[log].load(Relaxed);
        let (new, proven) = (blocks(NEW), blocks(PROVEN));
        let has = |log: usize| self.oldest(log).is_some();
        match new.saturating_mul(SHARE_OF_NEW) > new.saturating_add(proven) {
            true if has(NEW) => Some(NEW),
            _ if has(PROVEN) => Some(PROVEN),
            _ => has(NEW).then_some(NEW),
        }
    }

    /// Drops or moves all entries of a log's oldest segment. True if the shard has fewer blocks in use then.
    fn evict_from(&self, log: usize, all: bool) -> Result<bool, Refusal> {
        let in_use =
            || self.shard().blocks.iter().fold(0, |sum: u64, log| sum.wrapping_add(log.load(Relaxed)));
        let before = in_use();
        let Some(segment) = self.oldest(log) else { return Ok(false) };
        self.close(log, segment)?;
        let is_large = self.map.block(segment)?.log.load(Relaxed) & LARGE != 0;
        if is_large && !all && self.renew_worthy(log, segment)? {
            return Ok(false);
        }
        self.empty(segment, |head, worth| {
            if worth > 0 && !all && !is_large {
                return Some((PROVEN, if log == PROVEN { worth - 1 } else { 0 }));
            }
            if log == NEW
                && let Some(ghost) = self.map.ghost(self.index, head.hash)
            {
                ghost.store(head.hash, Relaxed);
            }
            None
        })?;
        Ok(in_use() < before)
    }

    /// Whether the large entry of a segment has been read; then it is young again.
    fn renew_worthy(&self, log: usize, segment: u32) -> Result<bool, Refusal> {
        let mut is_worthy = false;
        self.map.walk(segment, |place, head| {
            if let Some(slot) = self.slot_of(place, head)
                && slot.look().worth() > 0
            {
                is_worthy = true;
                let worth = slot.look().worth();
                slot.move_to(self.map.location(place), if log == PROVEN { worth - 1 } else { 0 });
            }
            Ok(false)
        })?;
        if is_worthy {
            self.renew_large(segment, PROVEN)?;
        }
        Ok(is_worthy)
    }

    /// Whether an entry of this hash was dropped a short while ago.
    pub(super) fn was_dropped(&self, hash: u32) -> bool {
        self.map.ghost(self.index, hash).is_some_and(|ghost| ghost.load(Relaxed) == hash && hash != 0)
    }

    /// Sees to it that no entry is added to a segment any more.
    fn close(&self, log: usize, segment: u32) -> Result<(), Refusal> {
        if self.newest(log) == Some(segment) {
            let log = &self.map.block(segment)?.log;
            log.store(log.load(Relaxed) | CLOSED, Relaxed);
        }
        Ok(())
    }

    /// Empties and frees a segment. `destiny` says to which log each entry goes, with which worth, or that it is dropped. In
    /// a map that evicts, an entry that there is no room for is dropped too; else the rest stays, and this is false.
    fn empty(
        &self,
        segment: u32,
        destiny: impl Fn(&Head, u64) -> Option<(usize, u64)>,
    ) -> Result<bool, Refusal> {
        let now = now();
        self.map.walk(segment, |place, head| {
            let Some(slot) = self.slot_of(place, head) else { return Ok(true) };
            let found = Found { slot, lead: slot.look(), place, head: *head };
            let expiry = self.map.expiry_at(place, head).unwrap_or(0);
            if expiry != 0 && expiry <= now {
                self.drop_entry(&found)?;
                add(&self.shard().expirations, 1);
                return Ok(true);
            }
            match destiny(head, found.lead.worth()) {
                Some((log, worth)) if self.move_entry(&found, log, worth, expiry)? => Ok(true),
                Some(_) if !self.map.evicts => Ok(false),
                _ => {
                    self.drop_entry(&found)?;
                    add(&self.shard().evictions, 1);
                    Ok(true)
                }
            }
        })?;
        self.free_if_empty(Place { block: segment, offset: 0 })
    }

    /// Moves an entry to the beginning of a log. False if there is no room.
    fn move_entry(&self, found: &Found, log: usize, worth: u64, expiry: u64) -> Result<bool, Refusal> {
        let size = found.head.size();
        if !self.acquire_blocks(self.blocks_needed(log, size)?, true)? {
            return Ok(false);
        }
        let room = self.room(log, size)?;
        self.map.copy(found.place, room.place, size as usize)?;
        self.include(room, size, expiry)?;
        found.slot.move_to(self.map.location(room.place), worth);
        subtract(&self.map.segment_of(found.place.block)?.1.live, size);
        Ok(true)
    }
}

/// Changes a count that others may read meanwhile.
pub fn add(word: &std::sync::atomic::AtomicU64, count: u64) {
    word.store(word.load(Relaxed).wrapping_add(count), Relaxed);
}

pub fn subtract(word: &std::sync::atomic::AtomicU64, count: u64) {
    word.store(word.load(Relaxed).saturating_sub(count), Relaxed);
}
