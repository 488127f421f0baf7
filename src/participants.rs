//! Who takes part in what: one entry for each "thread T takes part in object O as X", in memory that all processes
//! which share the object can see. Waiters are participants; readers, parties of a barrier and holders of permits are
//! meant to be.
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

mod range;

use crate::atomic::{AtomicU32, AtomicU64, Ordering::*};
use crate::kernel::Kernel;
use crate::lock::Lock;
use crate::word::{aux, futex_word, pack};
use range::{LENGTH, ONE_VERSION, Range, VERSION};
use std::ptr::NonNull;
use std::sync::atomic;

/// The state of an entry, in its status: 0 is none, the protocol of the object defines the others.
pub type State = u8;

/// In a state: if the participant dies, something remains to be handed on to another one of the object.
pub const OWES: State = 0x80;

/// The state is in the low bits of a status, the number above.
const NUMBER_SHIFT: u32 = State::BITS;

/// Entries that the first participants are spread over; twice as many, each time that these are too full.
const SPREAD: usize = 256;
/// Places to try before that.
const TRIES: usize = 8;
/// Free entries in a row that make a good place for the first participant of an object.
const ROOM: usize = if cfg!(loom) { 1 } else { 4 };

/// For objects by their key: the entry that a participant of this process had last. Private to the process; a wrong one
/// costs a look.
static LAST_PLACES: [atomic::AtomicU32; 256] = [const { atomic::AtomicU32::new(0) }; 256];

fn last_place(key: u32) -> &'static atomic::AtomicU32 {
    &LAST_PLACES[key as usize % LAST_PLACES.len()]
}

/// One participant.
#[derive(Default)]
#[repr(C)]
#[cfg_attr(not(loom), repr(align(64)))] // one cache line: neighbours do not slow each other down
pub struct Participant {
    lock: Lock,
    object: AtomicU32,
    /// For the protocol's own use, as `data` and the lock's spare word are.
    detail: AtomicU32,
    status: AtomicU64,
    data: AtomicU64,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Participant>() == 64);

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

/// What stands before the entries. All zeroes is an empty table.
#[derive(Default)]
#[repr(C)]
#[cfg_attr(not(loom), repr(align(64)))]
pub struct Header {
    /// The last number given.
    numbers: AtomicU64,
    /// Entries from here on were never used.
    used: AtomicU32,
}

/// A table: the entries of all participants in the objects of one home.
#[derive(Clone, Copy)]
pub struct Table<'a> {
    header: &'a Header,
    entries: &'a [Participant],
}

/// A participation: its number, and the entry it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    index: usize,
    number: u64,
}

/// The place of an object in a table: its participants are those whose entries have this key.
#[derive(Clone, Copy)]
pub struct Seat<'a> {
    pub table: Table<'a>,
    pub key: u32,
    /// For a table in a file.
    pub tally: Option<&'a Tally>,
}

/// How many entries of a table the threads of a process hold, with the process in the other half: a child holds none of
/// its parent's. Private memory, so it is right whatever others write into the file.
#[derive(Debug, Default)]
pub struct Tally(atomic::AtomicU64);

impl Tally {
    pub fn add(&self, pid: u32, change: i32) {
        let next = |now| Some(pack(pid, Self::of(now, pid).saturating_add_signed(change)));
        let _ = self.0.fetch_update(Relaxed, Relaxed, next);
    }

    pub fn count(&self, pid: u32) -> u32 {
        Self::of(self.0.load(Relaxed), pid)
    }

    fn of(tally: u64, pid: u32) -> u32 {
        if futex_word(tally) == pid { aux(tally) } else { 0 }
    }
}

/// The participants of one object.
#[derive(Clone, Copy)]
pub struct Party<'a> {
    seat: Seat<'a>,
    range: &'a AtomicU64,
}

/// An entry as it was when it was looked at.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    pub entry: &'a Participant,
    index: usize,
    status: u64,
}

pub const fn status(number: u64, state: State) -> u64 {
    number << NUMBER_SHIFT | state as u64
}

pub const fn number_of(status: u64) -> u64 {
    status >> NUMBER_SHIFT
}

pub const fn state_of(status: u64) -> State {
    status as State
}

impl Ticket {
    /// The participation that `Seen::ticket` told of.
    pub fn at(index: usize, number: u64) -> Self {
        Ticket { index, number }
    }

    pub fn number(self) -> u64 {
        self.number
    }

    /// The place of the entry in its table.
    pub fn index(self) -> usize {
        self.index
    }
}

impl Participant {
    pub fn lock(&self) -> &Lock {
        &self.lock
    }

    pub fn status(&self) -> u64 {
        self.status.load(Acquire)
    }

    /// Sets the status: for the participant itself, where nobody else changes it.
    #[inline]
    pub fn set_status(&self, status: u64) {
        self.status.store(status, Release);
    }

    /// Changes the status if it is `from`.
    pub fn change(&self, from: u64, to: u64) -> Result<u64, u64> {
        self.status.compare_exchange(from, to, AcqRel, Acquire)
    }

    /// Whether it is one of the participants at `seat`, if it is anybody's.
    #[inline]
    pub fn is_for(&self, seat: Seat<'_>) -> bool {
        self.object.load(Relaxed) == seat.key
    }

    pub fn detail(&self) -> u32 {
        self.detail.load(Relaxed)
    }

    /// A word for the protocol's own use, 0 when the participant joins.
    pub fn data(&self) -> &AtomicU64 {
        &self.data
    }

    /// Another one.
    pub fn more_data(&self) -> &AtomicU64 {
        self.lock.spare()
    }

    /// Whether it was left by a dead participant that had something to hand on.
    fn is_orphan(&self, status: u64) -> bool {
        state_of(status) & OWES != 0 && self.lock.is_abandoned()
    }

    /// Makes the calling thread the owner of the entry, if the entry is free. Its status is 0 then.
    fn claim<K: Kernel>(&self, kernel: &K) -> bool {
        if self.lock.is_locked() || self.is_orphan(self.status()) || !self.lock.try_lock(kernel) {
            return false;
        }
        if kernel.pid() != 0 {
            self.lock.record_owner(kernel);
        }
        if self.lock.is_abandoned() {
            // The entry may have become an orphan between the two looks, if somebody still saw its thread alive.
            let now = self.status();
            if self.is_orphan(now) || self.change(now, 0).is_err() {
                self.lock.release_as_dead(kernel);
                return false;
            }
            self.lock.make_consistent(); // only now: the entry is live from here on
        }
        true
    }
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

    fn used(self) -> &'a [Participant] {
        let used = self.header.used.load(Acquire) as usize;
        &self.entries[..used.min(self.entries.len())]
    }

    fn claim_at<K: Kernel>(self, kernel: &K, index: usize) -> bool {
        let claimed = self.entries[index].claim(kernel);
        if claimed && index >= self.header.used.load(Relaxed) as usize {
            self.header.used.fetch_max(index as u32 + 1, Release);
        }
        claimed
    }

    /// An entry with some free ones behind it, for the first participant of an object.
    fn claim_a_place<K: Kernel>(self, kernel: &K, key: u32) -> Option<usize> {
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
    fn reclaim<K: Kernel>(self) {
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

impl Seen<'_> {
    pub fn number(&self) -> u64 {
        number_of(self.status)
    }

    pub fn state(&self) -> State {
        state_of(self.status)
    }

    pub fn status(&self) -> u64 {
        self.status
    }

    pub fn ticket(&self) -> Ticket {
        Ticket { index: self.index, number: self.number() }
    }

    /// Whether the participant is alive, and takes part still. In this order: whoever makes a dead one's entry live again has
    /// changed its status before.
    pub fn is_live(&self) -> bool {
        self.entry.lock.is_live() && number_of(self.entry.status()) == self.number()
    }

    pub fn is_orphan(&self) -> bool {
        self.entry.is_orphan(self.status)
    }
}
