//! The table: the entries of all participants in the objects of one home, and how a free one is found.

use super::entry::{Participant, Ticket, number_of, state_of, status};
use crate::atomic::{AtomicU32, AtomicU64, Ordering::*};
use crate::kernel::Kernel;
use std::ptr::NonNull;

/// Entries that the first participants are spread over; twice as many, each time that these are too full.
const SPREAD: usize = 256;

/// Places to try before that.
const TRIES: usize = 8;

/// Free entries in a row that make a good place for the first participant of an object.
const ROOM: usize = if cfg!(loom) { 1 } else { 4 };

/// What stands before the entries. All zeroes is an empty table.
#[derive(Default)]
#[repr(C)]
#[cfg_attr(not(loom), repr(align(64)))]
pub struct Header {
    /// The last number given.
    pub(super) numbers: AtomicU64,
    /// Entries from here on were never used.
    pub(super) used: AtomicU32,
}

/// A table: the entries of all participants in the objects of one home.
#[derive(Clone, Copy)]
pub struct Table<'a> {
    pub(super) header: &'a Header,
    pub(super) entries: &'a [Participant],
}

/// Where things are, for the version of the layout of files.
#[cfg(test)]
pub fn layout() -> Vec<(&'static str, usize)> {
    use std::mem::offset_of;
    vec![
        ("lock", offset_of!(Participant, lock)),
        ("object", offset_of!(Participant, object)),
        ("detail", offset_of!(Participant, detail)),
        ("status", offset_of!(Participant, status)),
        ("data", offset_of!(Participant, data)),
        ("numbers", offset_of!(Header, numbers)),
        ("used", offset_of!(Header, used)),
        ("table", Table::bytes(1)),
    ]
}

impl<'a> Table<'a> {
    /// The size of a table in memory.
    pub const fn bytes(entries: usize) -> usize {
        size_of::<Header>() + entries * size_of::<Participant>()
    }

    /// The table at an address.
    ///
    /// # Safety
    /// `bytes(entries)` from there are mapped as long as `'a`, aligned to 64, and used as a table of that size alone.
    /// There is at least one entry.
    pub unsafe fn at(address: NonNull<u8>, entries: usize) -> Self {
        // SAFETY: the caller's promise; whatever the bytes are, they are valid atomics.
        unsafe {
            let first = address.add(size_of::<Header>()).cast();
            Table {
                header: address.cast().as_ref(),
                entries: NonNull::slice_from_raw_parts(first, entries).as_ref(),
            }
        }
    }

    /// A table of parts that are not in one piece.
    pub fn of(header: &'a Header, entries: &'a [Participant]) -> Self {
        Table { header, entries }
    }

    pub fn capacity(self) -> usize {
        self.entries.len()
    }

    /// The last number that was given.
    pub fn newest(self) -> u64 {
        number_of(status(self.header.numbers.load(Acquire), 0))
    }

    /// Gives no numbers below the next multiple of `step` any more. Returns the last one that was given.
    pub fn skip_to_multiple(self, step: u64) -> u64 {
        let newest = self.newest();
        self.header.numbers.fetch_max(newest | (step - 1), AcqRel);
        newest
    }

    pub fn entry(self, ticket: Ticket) -> &'a Participant {
        &self.entries[ticket.index]
    }

    pub(super) fn used(self) -> &'a [Participant] {
        let used = self.header.used.load(Acquire) as usize;
        &self.entries[..used.min(self.entries.len())]
    }

    pub(super) fn claim_at<K: Kernel>(self, kernel: &K, index: usize) -> bool {
        let claimed = self.entries[index].claim(kernel);
        if claimed && index >= self.header.used.load(Relaxed) as usize {
            self.header.used.fetch_max(index as u32 + 1, Release);
        }
        claimed
    }

    /// An entry with some free ones behind it, for the first participant of an object.
    pub(super) fn claim_a_place<K: Kernel>(self, kernel: &K, key: u32) -> Option<usize> {
        let size = self.entries.len();
        let mut spread =
            (self.header.used.load(Relaxed) as usize).clamp(1, size).next_power_of_two().max(SPREAD);
        for attempt in 0..2 * TRIES {
            if attempt == TRIES {
                spread *= 2;
            }
            let hash =
                (key.wrapping_add((attempt as u32).wrapping_mul(0x85eb_ca6b))).wrapping_mul(0x9e37_79b1);
            let index = hash.rotate_left(16) as usize % spread.min(size);
            let is_good = |offset: usize| !self.entries[(index + offset) % size].lock.is_locked();
            if (0..ROOM).all(is_good) && self.claim_at(kernel, index) {
                return Some(index);
            }
        }
        None
    }

    /// Frees what the dead have left, so that it can be used again: has deaths known that the kernel did not tell of, and
    /// forgets what orphans owe to participants that are no more.
    #[cold]
    pub(super) fn reclaim<K: Kernel>(self) {
        for entry in self.used() {
            entry.lock.reap_if_owner_dead::<K>();
        }
        let newest = self.newest(); // first: a debt to these is a debt to those that are seen next, or to nobody
        let mut living: Vec<(u32, u64)> = self
            .used()
            .iter()
            .map(|entry| (entry, entry.status()))
            .filter(|(entry, status)| state_of(*status) != 0 && entry.lock.is_live())
            .map(|(entry, status)| (entry.object.load(Relaxed), number_of(status)))
            .collect();
        living.sort_unstable();
        for entry in self.used() {
            let (now, object) = (entry.status(), entry.object.load(Relaxed));
            let limit = entry.data.load(Acquire).max(entry.more_data().load(Acquire));
            let oldest = living.get(living.partition_point(|one| *one < (object, 0)));
            let owed = oldest.is_some_and(|&(other, number)| other == object && number <= limit);
            if entry.is_orphan(now) && limit <= newest && !owed {
                let _ = entry.change(now, 0); // fails if it was handed on meanwhile
            }
        }
    }
}
