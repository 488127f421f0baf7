//! Who takes part in what: one entry for each "thread T takes part in object O as X", in memory that all processes
//! which share the object can see. Waiters are participants, and so are readers, the parties of a barrier, the members of a
//! Presence, and the processes that hold permits of a robust semaphore.
//!
//! `entry` is one of them, `table` all of one home, `range` where those of one object are, `tally` how many of a table are
//! this process's.
//!
//! A participant holds its entry as a [`Lock`] while it takes part, so the kernel tells of its death: an entry is live
//! while its lock names a living thread. Nothing has to be counted, so no count can be wrong after a crash.
//!
//! | lock        | status             | the entry                                                             |
//! |-------------|--------------------|-----------------------------------------------------------------------|
//! | free        | 0                  | is free                                                               |
//! | held        | 0                  | belongs to a thread that is joining or leaving                        |
//! | held        | number, state      | belongs to a participant                                              |
//! | owner died  | anything else      | is free                                                               |
//! | owner died  | number, OWES state | was left by a participant that had something to hand on (an orphan)   |
//!
//! Each participation has a number, unlike any other of the table. Numbers give the order of arrival, and keep what is
//! meant for one participation from reaching a later one that got the same entry.
//!
//! # The range of an object
//! An object keeps the range of entries that its participants have used since the object was last found without any, so
//! that looking for them does not depend on how many others there are. It is `start`, `length` and a `version`, changed
//! together:
//! - a participant publishes its status, and then puts its entry into the range and steps the version, in one step;
//! - a thread that finds nobody in the range replaces the range it has seen by an empty one of the same version.
//!
//! If the participant comes first, the version has changed, and the range stays. If not, the participant finds the empty
//! range. A crash at any point leaves a range that is too large, or an entry outside whose thread had not joined yet.
//!
//! # Trust
//! The table may be in a file that anybody has written to. All numbers that are read from it are reduced to what they
//! index, and every loop ends whatever they are.

mod entry;
mod range;
mod table;
mod tally;

pub use entry::{OWES, Participant, Seen, State, Ticket, number_of, state_of, status};
#[cfg(test)]
pub use table::layout;
pub use table::{Header, Table};
pub use tally::Tally;

use crate::atomic::{AtomicU64, Ordering::*};
use crate::kernel::Kernel;
use range::{LENGTH, ONE_VERSION, Range, VERSION};
use std::sync::atomic;

/// For objects by their key: the entry that a participant of this process had last. Private to the process; a wrong one
/// costs a look.
static LAST_PLACES: [atomic::AtomicU32; 256] = [const { atomic::AtomicU32::new(0) }; 256];

fn last_place(key: u32) -> &'static atomic::AtomicU32 {
    &LAST_PLACES[key as usize % LAST_PLACES.len()]
}

/// The place of an object in a table: its participants are those whose entries have this key.
#[derive(Clone, Copy)]
pub struct Seat<'a> {
    pub table: Table<'a>,
    pub key: u32,
    /// For a table in a file.
    pub tally: Option<&'a Tally>,
}

/// The participants of one object.
#[derive(Clone, Copy)]
pub struct Party<'a> {
    seat: Seat<'a>,
    range: &'a AtomicU64,
}

impl<'a> Party<'a> {
    /// The participants of the object at `seat`, whose range is in `range`.
    pub fn new(seat: Seat<'a>, range: &'a AtomicU64) -> Self {
        Party { seat, range }
    }

    pub fn table(self) -> Table<'a> {
        self.seat.table
    }

    /// Makes the calling thread a participant. `None` if the table is full.
    pub fn join<K: Kernel>(self, kernel: &K, state: State, detail: u32) -> Option<Ticket> {
        let index = match self.claim(kernel) {
            Some(index) => index,
            None => {
                self.table().reclaim::<K>();
                self.claim(kernel)?
            }
        };
        self.tally(kernel, 1);
        let entry = &self.table().entries[index];
        entry.object.store(self.seat.key, Relaxed);
        entry.detail.store(detail, Relaxed);
        entry.data.store(0, Relaxed);
        entry.more_data().store(0, Relaxed);
        let number = self.table().header.numbers.fetch_add(1, AcqRel).wrapping_add(1);
        entry.status.store(status(number, state), Release);
        self.include(index);
        Some(Ticket { index, number: number_of(status(number, 0)) })
    }

    fn claim<K: Kernel>(self, kernel: &K) -> Option<usize> {
        let (table, size) = (self.table(), self.table().capacity());
        let range = Range::of(self.range.load(Relaxed), size);
        // The search for a free entry reads what other processes write. (The model has to do the same each time.)
        let last = last_place(self.seat.key).load(Relaxed) as usize;
        let place = match range.length {
            0 => table.claim_a_place(kernel, self.seat.key),
            _ if cfg!(loom) || !range.has(last, size) => None,
            _ => table.claim_at(kernel, last).then_some(last),
        };
        let mut places = (range.start..size).chain(0..range.start);
        let index = place.or_else(|| places.find(|&index| table.claim_at(kernel, index)))?;
        last_place(self.seat.key).store(index as u32, Relaxed);
        Some(index)
    }

    /// Makes the entry mean nothing, while the calling thread keeps it until it `leave`s.
    pub fn retire(self, ticket: Ticket) {
        self.table().entry(ticket).status.store(0, Release);
    }

    /// Ends the calling thread's participation.
    pub fn leave<K: Kernel>(self, kernel: &K, ticket: Ticket) {
        self.retire(ticket);
        self.table().entry(ticket).lock.unlock(kernel);
        self.tally(kernel, -1);
    }

    /// Leaves the calling thread's entry as a dead thread's.
    pub fn release_as_dead<K: Kernel>(self, kernel: &K, ticket: Ticket) {
        self.table().entry(ticket).lock.release_as_dead(kernel);
        self.tally(kernel, -1);
    }

    fn tally<K: Kernel>(self, kernel: &K, change: i32) {
        if let Some(tally) = self.seat.tally {
            tally.add(kernel.pid(), change);
        }
    }

    /// Whether the range is empty, so that nobody takes part: one load.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.range.load(Acquire) & LENGTH == 0
    }

    /// The participants, dead ones among them, in no order.
    pub fn iter(self) -> impl Iterator<Item = Seen<'a>> {
        self.within(self.range.load(Acquire))
    }

    fn within(self, range: u64) -> impl Iterator<Item = Seen<'a>> {
        Range::of(range, self.table().capacity()).entries(self.table().entries).filter_map(
            move |(index, entry)| {
                let status = entry.status();
                let concerned = state_of(status) != 0 && entry.object.load(Relaxed) == self.seat.key;
                concerned.then_some(Seen { entry, index, status })
            },
        )
    }

    /// The participants that are threads of the process `pid`.
    pub fn of_process(self, pid: u32) -> impl Iterator<Item = Seen<'a>> {
        self.iter().filter(move |seen| {
            let owner = seen.entry.lock.owner();
            owner != 0 && seen.entry.lock.pid(owner) == pid
        })
    }

    /// How many living participants there are. Knows of deaths that the kernel did not tell of.
    pub fn count<K: Kernel>(self, states: &[State]) -> usize {
        let count = self
            .iter()
            .filter(|seen| states.contains(&seen.state()))
            .filter(|seen| {
                seen.entry.lock.reap_if_owner_dead::<K>();
                seen.is_live()
            })
            .count();
        if count == 0 {
            self.forget_range();
        }
        count
    }

    /// Empties the range if nobody is in it.
    pub fn forget_range(self) {
        let range = self.range.load(Acquire);
        if range & LENGTH == 0 {
            return;
        }
        let matters = |seen: Seen| seen.is_live() || seen.entry.is_orphan(seen.status);
        if !self.within(range).any(matters) {
            let _ = self.range.compare_exchange(range, range & VERSION, AcqRel, Relaxed);
        }
    }

    /// Puts a published entry into the range.
    fn include(self, index: usize) {
        let mut now = self.range.load(Relaxed);
        loop {
            let next = Range::of(now, self.table().capacity()).with(index, self.table().capacity());
            let next = (now & VERSION).wrapping_add(ONE_VERSION) | next;
            match self.range.compare_exchange(now, next, AcqRel, Relaxed) {
                Ok(_) => return,
                Err(then) => now = then,
            }
        }
    }

    /// Steps the version of the range and returns it: a number that is unlike the object's last ones.
    pub fn next_version(self) -> u32 {
        (self.range.fetch_add(ONE_VERSION, AcqRel).wrapping_add(ONE_VERSION) >> 32) as u32
    }
}
