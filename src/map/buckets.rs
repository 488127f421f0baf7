//! Buckets in blocks: those that did not fit into the index. A chain gets one when none of its slots is empty. It loses its
//! last one when the others have room for what that leads to.
//!
//! The buckets of a shard fill its blocks of buckets from the first to the last, without a gap: when one leaves its chain,
//! the one that came last is copied to its place. So the shard has no more such blocks than its chains need, and a
//! block goes back to the free ones as soon as the last bucket has left it.
//!
//! | step                | one write or redo log                                                                    |
//! |---------------------|------------------------------------------------------------------------------------------|
//! | an entry moves up   | its new slot, the chain's version, its old slot                                          |
//! | a bucket leaves     | the `next` before it, the chain's version; the shard's `vacant_bucket` is this one       |
//! | the last one moves  | copied first; the `next` before it, its chain's version, `vacant_bucket`, `spare_buckets` |
//! | a block is free     | `spare_buckets` as it was before the block, the shard's free blocks                      |
//!
//! Readers go through chains meanwhile: `slot` says how they notice. Chains are looked at when room is needed, one for each
//! entry that was dropped before; so a store's work grows with what was dropped, not with the index.

use super::Refusal;
use super::blocks::Pair;
use super::index::LONGEST_CHAIN;
use super::shared::{Critical, Redo};
use super::slot::{Bucket, Slot, with_new_version, with_number};
use crate::kernel::Kernel;
use std::ptr;
use std::sync::atomic::Ordering::*;

impl<'m, K: Kernel> Critical<'m, K> {
    /// How many blocks one more bucket needs.
    pub(super) fn blocks_for_bucket(&self) -> u32 {
        let shard = self.shard();
        let is_there =
            shard.vacant_bucket.load(Relaxed) != 0 || Pair::of(shard.spare_buckets.load(Relaxed)).1 > 0;
        u32::from(!is_there)
    }

    /// Adds a bucket to those of this hash. The shard has the blocks that it needs.
    pub(super) fn add_bucket(&self, hash: u32) -> Result<&'m Slot, Refusal> {
        let (map, shard) = (self.map, self.shard());
        let last = map.chain(self.first_bucket(hash)).last().ok_or(Refusal::Corrupt)?;
        if last.next() != 0 {
            return Err(Refusal::Full);
        }
        if self.blocks_for_bucket() > 0 {
            self.add_block()?;
        }
        let vacant = shard.vacant_bucket.load(Relaxed) as u32;
        let Pair(spare, count) = Pair::of(shard.spare_buckets.load(Relaxed));
        let number = if vacant == 0 { spare } else { vacant };
        let bucket = self.numbered(number)?;
        bucket.prepare(map.home(hash));
        let mut redo = Redo::new(map, &shard.redo);
        redo.set(&last.next, with_number(last.next.load(Relaxed), number))?;
        match vacant {
            0 => redo.set(&shard.spare_buckets, Pair(spare + 1, count.saturating_sub(1)).pack())?,
            _ => redo.set(&shard.vacant_bucket, 0)?,
        }
        redo.commit();
        bucket.slots.first().ok_or(Refusal::Corrupt)
    }

    /// Makes a free block one of buckets.
    fn add_block(&self) -> Result<(), Refusal> {
        let (map, shard) = (self.map, self.shard());
        let mut redo = Redo::new(map, &shard.redo);
        let (block, _) = self.detach(&mut redo, 1, None)?;
        let count = map.buckets_of_a_block();
        redo.set(&map.block(block)?.link, shard.spare_buckets.load(Relaxed))?;
        redo.set(&shard.spare_buckets, Pair(block * count + 1, count).pack())?;
        redo.commit();
        Ok(())
    }

    fn numbered(&self, number: u32) -> Result<&'m Bucket, Refusal> {
        self.map.bucket_in_block(u64::from(number)).ok_or(Refusal::Corrupt)
    }

    /// Looks at one chain for each entry that was dropped, until a block is free. True then.
    pub(super) fn shorten_chains(&self) -> Result<bool, Refusal> {
        let (shard, chains) = (self.shard(), u64::from(self.map.layout.buckets));
        let before = self.own_free().1;
        let mut left = shard.dropped.load(Relaxed).min(chains);
        while left > 0 && self.own_free().1 == before {
            left -= 1;
            let next = shard.next_chain.load(Relaxed) % chains;
            shard.next_chain.store(next + 1, Relaxed);
            self.shorten(next as u32)?;
        }
        shard.dropped.store(left, Relaxed);
        Ok(self.own_free().1 > before)
    }

    pub(super) fn shorten_all_chains(&self) -> Result<(), Refusal> {
        (0..self.map.layout.buckets).try_for_each(|index| self.shorten(index))?;
        self.shard().dropped.store(0, Relaxed);
        Ok(())
    }

    /// Has a chain lose the buckets that it does not need.
    fn shorten(&self, index: u32) -> Result<(), Refusal> {
        let first = self.map.nth_bucket(self.index, index);
        // No more often than a chain has buckets, also in a memory that has been overwritten.
        for _ in 0..LONGEST_CHAIN {
            if first.next() == 0 {
                break;
            }
            self.fill_vacant()?;
            let (mut before, mut last, mut room) = (first, first, 0);
            for bucket in self.map.chain(first) {
                room += empty_slots(bucket);
                (before, last) = (last, bucket);
            }
            let leads = Bucket::SLOTS - empty_slots(last);
            if room < Bucket::SLOTS || last.next() != 0 || ptr::eq(last, first) {
                break;
            }
            for old in last.slots.iter().filter(|slot| !slot.look().is_empty()).take(leads) {
                self.move_up(first, old)?;
            }
            self.unlink_bucket(first, before)?;
            self.fill_vacant()?;
        }
        Ok(())
    }

    /// Moves an entry to the first empty slot of its chain.
    fn move_up(&self, first: &Bucket, old: &Slot) -> Result<(), Refusal> {
        let mut slots = self.map.chain(first).flat_map(|bucket| &bucket.slots);
        let new = slots.find(|slot| slot.look().is_empty()).ok_or(Refusal::Corrupt)?;
        let mut redo = Redo::new(self.map, &self.shard().redo);
        redo.set(new.word(), new.instead_of(old.look()))?;
        redo.set(&first.next, with_new_version(first.next.load(Relaxed)))?;
        redo.set(old.word(), old.emptied())?;
        redo.commit();
        Ok(())
    }

    /// Has the bucket behind `before` leave its chain. Its slots are empty, and it is the last.
    fn unlink_bucket(&self, first: &Bucket, before: &Bucket) -> Result<(), Refusal> {
        let mut redo = Redo::new(self.map, &self.shard().redo);
        let number = before.next();
        redo.set(&before.next, with_number(before.next.load(Relaxed), 0))?;
        redo.set(&first.next, with_new_version(redo.get(&first.next)))?;
        redo.set(&self.shard().vacant_bucket, number)?;
        redo.commit();
        Ok(())
    }

    /// Moves the bucket that came last to the place of the vacant one, if there is one; and frees its block if it has no
    /// other.
    fn fill_vacant(&self) -> Result<(), Refusal> {
        let (map, shard) = (self.map, self.shard());
        let vacant = shard.vacant_bucket.load(Relaxed) as u32;
        let Pair(spare, count) = Pair::of(shard.spare_buckets.load(Relaxed));
        if vacant != 0 {
            let last = spare.checked_sub(1).filter(|_| count < map.buckets_of_a_block());
            let last = last.ok_or(Refusal::Corrupt)?;
            let mut redo = Redo::new(map, &shard.redo);
            if last != vacant {
                let bucket = self.numbered(last)?;
                let first = map.nth_bucket(self.index, bucket.home() % map.layout.buckets);
                let mut chain = map.chain(first);
                let before = chain.find(|before| before.next() == u64::from(last)).ok_or(Refusal::Corrupt)?;
                self.numbered(vacant)?.copy(bucket);
                redo.set(&before.next, with_number(before.next.load(Relaxed), vacant))?;
                redo.set(&first.next, with_new_version(redo.get(&first.next)))?;
            }
            redo.set(&shard.vacant_bucket, 0)?;
            redo.set(&shard.spare_buckets, Pair(last, count + 1).pack())?;
            redo.commit();
        }
        self.free_block_of_buckets()
    }

    /// Frees the last block of buckets if it has none.
    fn free_block_of_buckets(&self) -> Result<(), Refusal> {
        let (map, shard) = (self.map, self.shard());
        let Pair(spare, count) = Pair::of(shard.spare_buckets.load(Relaxed));
        if spare == 0 || count < map.buckets_of_a_block() {
            return Ok(());
        }
        let block = (spare - 1) / map.buckets_of_a_block();
        let (own, link) = (self.own_free(), &map.block(block)?.link);
        let mut redo = Redo::new(map, &shard.redo);
        redo.set(&shard.spare_buckets, link.load(Relaxed))?;
        redo.set(link, u64::from(own.0))?;
        redo.set(&shard.free, Pair(block, own.1.saturating_add(1)).pack())?;
        redo.commit();
        Ok(())
    }
}

fn empty_slots(bucket: &Bucket) -> usize {
    bucket.slots.iter().filter(|slot| slot.look().is_empty()).count()
}
