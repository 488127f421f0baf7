//! The index: for each hash a bucket, and the buckets behind it, whose slots lead to entries. An entry stays in its chain as
//! long as it is there, whatever becomes of its value; so who goes through all chains meets it once.

use super::blocks::{Pair, Place};
use super::entry::{Head, Key};
use super::layout::LOGS;
use super::shared::{Critical, Map};
use super::slot::{Bucket, Chain, Lead, Slot};
use crate::kernel::Kernel;
use std::sync::atomic::Ordering::*;

/// An entry, as it was when it was looked at.
#[derive(Clone, Copy, Debug)]
pub struct Found<'m> {
    pub slot: &'m Slot,
    pub lead: Lead,
    pub place: Place,
    pub head: Head,
}

/// Buckets of one hash. A map full of the smallest entries has 4 on average. A chain that goes round ends here.
pub const LONGEST_CHAIN: u32 = 256;

impl Map {
    /// The buckets from the first one for a hash on.
    #[inline]
    pub(super) fn chain<'m>(&'m self, first: &'m Bucket) -> impl Iterator<Item = &'m Bucket> {
        let mut left = LONGEST_CHAIN - 1;
        std::iter::successors(Some(first), move |bucket| {
            left = left.checked_sub(1)?;
            self.bucket_in_block(bucket.next())
        })
    }

    /// What the slot leads to, if that is an entry of this key. `None` if it is not, or was not for a moment.
    #[inline]
    fn entry_of<'m>(&self, slot: &'m Slot, lead: Lead, key: &Key) -> Option<Found<'m>> {
        let place = self.place(lead.location()?);
        let head = self.head_at(place)?;
        let same = head.hash == key.hash as u32
            && head.class == key.class
            && head.key == key.bytes.len() as u64
            && self.has(self.on(place, head.key_at())?, key.bytes)?;
        same.then_some(Found { slot, lead, place, head })
    }

    /// The entry of a key. Takes no lock; what is read of the entry counts only if its slot still leads there afterwards,
    /// and the chain is unchanged.
    #[inline]
    pub(super) fn look_up(&self, key: &Key) -> Option<(Found<'_>, Chain<'_>)> {
        let first = self.bucket(self.shard_of(key.hash), key.hash as u32);
        loop {
            let chain = Chain::of(first);
            for bucket in self.chain(first) {
                for slot in &bucket.slots {
                    let mut lead = slot.look();
                    while lead.may_be(key.hash) {
                        let found = self.entry_of(slot, lead, key);
                        if slot.still_leads(lead) {
                            if let Some(found) = found {
                                return Some((found, chain));
                            }
                            break;
                        }
                        lead = slot.look();
                    }
                }
            }
            if chain.is_unchanged() {
                return None;
            }
        }
    }
}

impl<'m, K: Kernel> Critical<'m, K> {
    pub(super) fn first_bucket(&self, hash: u32) -> &'m Bucket {
        self.map.bucket(self.index, hash)
    }

    /// The entry of a key, expired or not.
    #[inline]
    pub(super) fn find(&self, key: &Key) -> Option<Found<'m>> {
        for bucket in self.map.chain(self.first_bucket(key.hash as u32)) {
            for slot in &bucket.slots {
                let lead = slot.look();
                if lead.may_be(key.hash)
                    && let Some(found) = self.map.entry_of(slot, lead, key)
                {
                    return Some(found);
                }
            }
        }
        None
    }

    /// The slot that leads to the entry at a place, if one does.
    pub(super) fn slot_of(&self, place: Place, head: &Head) -> Option<&'m Slot> {
        let location = Some(self.map.location(place));
        let chain = self.map.chain(self.first_bucket(head.hash));
        chain.flat_map(|bucket| &bucket.slots).find(|slot| slot.look().location() == location)
    }

    /// Whether there is a slot for one more entry of this hash.
    pub(super) fn empty_slot(&self, hash: u32) -> Option<&'m Slot> {
        let chain = self.map.chain(self.first_bucket(hash));
        chain.flat_map(|bucket| &bucket.slots).find(|slot| slot.look().is_empty())
    }

    /// Every slot of the shard that leads to an entry.
    pub(super) fn all(&self) -> impl Iterator<Item = Found<'m>> + use<'_, 'm, K> {
        let (map, shard) = (self.map, self.index);
        let buckets = (0..map.layout.buckets).flat_map(move |index| map.chain(map.nth_bucket(shard, index)));
        buckets.flat_map(|bucket| &bucket.slots).filter_map(move |slot| {
            let lead = slot.look();
            let place = map.place(lead.location()?);
            Some(Found { slot, lead, place, head: map.head_at(place)? })
        })
    }

    /// Counts what is there: after a death no count is certain.
    pub(super) fn recount(&self) {
        let (map, shard) = (self.map, self.shard());
        for log in 0..LOGS {
            let mut blocks = 0;
            for segment in self.segments(log) {
                if let Ok(block) = map.block(segment) {
                    block.live.store(0, Relaxed);
                    blocks += u64::from(Pair::of(block.extent.load(Relaxed)).1);
                }
            }
            shard.blocks[log].store(blocks, Relaxed);
        }
        let (mut count, mut live) = (0, 0);
        for found in self.all() {
            if let Ok((_, block)) = map.segment_of(found.place.block) {
                block.live.store(block.live.load(Relaxed).saturating_add(found.head.size()), Relaxed);
            }
            count += 1;
            live += found.head.size();
        }
        shard.count.store(count, Relaxed);
        shard.live.store(live, Relaxed);
    }
}
