//! A slot of the index: one word that leads to an entry, or to none. And a bucket: a cache line of slots.
//!
//! | bits | what                                                                              |
//! |------|-----------------------------------------------------------------------------------|
//! | 34   | location: which 8 bytes of the blocks the entry begins at, from 1; 0: no entry    |
//! | 12   | tag: part of the key's hash, so that most other keys are told apart here          |
//! | 16   | version: one higher with each change                                              |
//! | 2    | worth: how often it was read since it was looked at, at most 3                    |
//!
//! One store of a slot publishes an entry, moves it or drops it. Entries do not change once they are published (but for
//! words that change by one store), and the memory of an entry is not written again before its slot has changed. So a
//! reader copies, and then looks whether the slot is what it was: then the copy is whole. It waits for nobody.
//!
//! A reader that is stopped in the middle could take a new entry for the old one if the same slot led to the same place
//! again, with the same tag, after a multiple of 65,536 changes.
//!
//! Writers of a slot hold the lock of its shard. Only worth is changed by readers too, by a compare-and-swap that fails
//! if the slot leads elsewhere; a writer may lose one of those.
//!
//! Memory order: a reader's first look (Acquire) pairs with the publishing store (Release). The fence before the second
//! look pairs with `before_reuse`: a reader that copied any of the new bytes sees that the slot has changed. Marks of
//! worth are Relaxed and break neither: a compare-and-swap continues the release sequence of the store whose value it
//! read, and comes right after that value in the slot's modification order, so before every later store.
//!
//! **Chains.** Buckets that did not fit into the index are linked behind the first one for their hash. An entry may move
//! to another slot of its chain, and a bucket may leave the chain, whose memory then serves for anything else. Each such
//! change gives the chain a new version, which stands in its first bucket. A reader takes the version before it looks
//! at any slot. What it found counts only if the version is the same after the copy, and that it found nothing only if
//! it is the same after the last slot. Three orders make that right:
//!
//! - An entry is in its new slot before the version changes, and leaves the old slot after that. So a reader with the
//!   old version twice has seen the old slot full, and a reader with the new version sees the new slot full.
//! - A bucket's memory is written again after the version has changed, and `before_reuse`.
//! - A bucket is written before it is linked, by a Release store.
//!
//! A mark of worth may come to a slot after its bucket's memory has been used again. It changes nothing there unless the
//! very same word stands in the same place.

use crate::atomic::{AtomicU64, Ordering::*, fence};

const WORTH_BITS: u32 = 2;
const VERSION_BITS: u32 = 16;
const TAG_BITS: u32 = 12;
const VERSION_SHIFT: u32 = WORTH_BITS;
const TAG_SHIFT: u32 = VERSION_SHIFT + VERSION_BITS;
const LOCATION_SHIFT: u32 = TAG_SHIFT + TAG_BITS;

const WORTH: u64 = (1 << WORTH_BITS) - 1;
const VERSION: u64 = (1 << VERSION_BITS) - 1;
const TAG: u64 = (1 << TAG_BITS) - 1;

/// The value of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lead(u64);

impl Lead {
    pub fn is_empty(self) -> bool {
        self.0 >> LOCATION_SHIFT == 0
    }

    /// Which 8 bytes the entry begins at, if there is one.
    #[inline]
    pub fn location(self) -> Option<u64> {
        (self.0 >> LOCATION_SHIFT).checked_sub(1)
    }

    /// Whether the entry can have a key of this hash.
    #[inline]
    pub fn may_be(self, hash: u64) -> bool {
        (self.0 >> TAG_SHIFT) & TAG == tag(hash) && !self.is_empty()
    }

    pub fn worth(self) -> u64 {
        self.0 & WORTH
    }

    /// Apart from worth.
    fn without_worth(self) -> u64 {
        self.0 & !WORTH
    }
}

fn tag(hash: u64) -> u64 {
    (hash >> 40) & TAG
}

/// See above. All zeroes leads nowhere.
#[repr(transparent)]
#[derive(Default, Debug)]
pub struct Slot(AtomicU64);

impl Slot {
    #[inline]
    pub fn look(&self) -> Lead {
        Lead(self.0.load(Acquire))
    }

    /// Whether what was copied since `look` gave `lead` is whole.
    #[inline]
    pub fn still_leads(&self, lead: Lead) -> bool {
        fence(Acquire);
        Lead(self.0.load(Relaxed)).without_worth() == lead.without_worth()
    }

    /// Publishes what the writer of the slot has written before.
    #[inline]
    fn change_to(&self, value: u64) {
        #[cfg(not(loom))]
        self.0.store(value, Release);
        // loom lets a store come before a compare-and-swap of another thread that read an older value, which C11 rules
        // out (see `tests/loom_map.rs`). It orders read-modify-writes as C11 does.
        #[cfg(loom)]
        self.0.swap(value, Release);
    }

    /// Leads to the entry at `location`, which is complete. The caller holds the shard's lock, as below.
    pub fn lead_to(&self, location: u64, hash: u64, worth: u64) {
        let version = (self.0.load(Relaxed) >> VERSION_SHIFT).wrapping_add(1) & VERSION;
        let lead = (location + 1) << LOCATION_SHIFT | tag(hash) << TAG_SHIFT | version << VERSION_SHIFT;
        self.change_to(lead | worth.min(WORTH));
    }

    /// Leads to the same entry at another place, with that worth.
    pub fn move_to(&self, location: u64, worth: u64) {
        let hash = ((self.0.load(Relaxed) >> TAG_SHIFT) & TAG) << 40;
        self.lead_to(location, hash, worth);
    }

    /// Leads nowhere any more.
    pub fn clear(&self) {
        self.change_to(self.emptied());
    }

    /// The value that leads to what `other` leads to, for this slot.
    pub fn instead_of(&self, other: Lead) -> u64 {
        let version = (self.0.load(Relaxed) >> VERSION_SHIFT).wrapping_add(1) & VERSION;
        other.0 & !(VERSION << VERSION_SHIFT) | version << VERSION_SHIFT
    }

    /// The value of this slot that leads nowhere any more.
    pub fn emptied(&self) -> u64 {
        ((self.0.load(Relaxed) >> VERSION_SHIFT).wrapping_add(1) & VERSION) << VERSION_SHIFT
    }

    /// The word itself, to be changed together with others.
    pub fn word(&self) -> &AtomicU64 {
        &self.0
    }

    /// A word of the entry has changed: what was read before is not what is there.
    pub fn step(&self) {
        let now = self.0.load(Relaxed);
        let version = (now >> VERSION_SHIFT).wrapping_add(1) & VERSION;
        self.change_to(now & !(VERSION << VERSION_SHIFT) | version << VERSION_SHIFT);
    }

    /// The entry that `lead` leads to was read.
    #[inline]
    pub fn appreciate(&self, lead: Lead) {
        if lead.worth() < WORTH {
            let _ = self.0.compare_exchange(lead.0, lead.0 + 1, Relaxed, Relaxed);
        }
    }
}

/// To be called by a writer before it writes to memory that an entry was in.
#[inline]
pub fn before_reuse() {
    fence(Release);
}

/// A cache line of slots, and where those are that did not fit.
#[repr(C)]
#[cfg_attr(not(loom), repr(align(64)))]
#[derive(Default)]
pub struct Bucket {
    pub slots: [Slot; Bucket::SLOTS],
    /// The number of the next bucket, which is in a block, or 0 if there is none. Above it, in 32 bits: in the first bucket
    /// of a chain the chain's version; in all others which bucket of the shard is their first.
    pub next: AtomicU64,
}

impl Bucket {
    pub const SLOTS: usize = 7;

    /// The number of the next bucket.
    #[inline]
    pub fn next(&self) -> u64 {
        self.next.load(Acquire) & NUMBER
    }

    /// Which bucket of the shard is the first one of the chain. Not for that one itself.
    pub fn home(&self) -> u32 {
        (self.next.load(Relaxed) >> VERSION_OF_CHAIN_SHIFT) as u32
    }

    /// Empties a bucket that nothing leads to, for the chain of the first bucket `home`.
    pub fn prepare(&self, home: u32) {
        before_reuse();
        self.slots.iter().for_each(|slot| slot.0.store(0, Relaxed));
        self.next.store(u64::from(home) << VERSION_OF_CHAIN_SHIFT, Relaxed);
    }

    /// Makes a bucket that nothing leads to the same as `other`.
    pub fn copy(&self, other: &Bucket) {
        before_reuse();
        for (to, from) in self.slots.iter().zip(&other.slots) {
            to.0.store(from.0.load(Relaxed), Relaxed);
        }
        self.next.store(other.next.load(Relaxed), Relaxed);
    }
}

const VERSION_OF_CHAIN_SHIFT: u32 = 32;
const NUMBER: u64 = (1 << VERSION_OF_CHAIN_SHIFT) - 1;

/// The `next` of a bucket with another number.
pub fn with_number(next: u64, number: u32) -> u64 {
    next & !NUMBER | u64::from(number)
}

/// The `next` of a first bucket with a new version of its chain.
pub fn with_new_version(next: u64) -> u64 {
    next.wrapping_add(1 << VERSION_OF_CHAIN_SHIFT)
}

/// A chain, as it was when a reader came to it.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'m> {
    next: &'m AtomicU64,
    seen: u64,
}

impl<'m> Chain<'m> {
    /// The chain that begins with `first`, before its slots are looked at.
    #[inline]
    pub fn of(first: &'m Bucket) -> Self {
        Chain { next: &first.next, seen: first.next.load(Acquire) }
    }

    /// Whether what was seen in its slots since `of` was there.
    #[inline]
    pub fn is_unchanged(self) -> bool {
        fence(Acquire);
        self.next.load(Relaxed) == self.seen
    }
}
