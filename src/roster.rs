//! Who waits for what: one entry for each waiting thread, in memory that all who share the object can see.
//!
//! A waiter holds its entry as a `Lock` for as long as it waits, so that the kernel tells of its death: an entry is
//! live while its lock names a thread. Entries of the dead are taken over by the next that need one; there is nothing
//! to clean up and no count to get wrong.
//!
//! Each wait has a ticket, unlike any other of the roster: tickets order the waiters of an object, and make sure that
//! a signal meant for one wait never reaches a later one that got the same entry.

use crate::atomic::{AtomicU32, AtomicU64, Ordering::*};
use crate::kernel::Kernel;
use crate::lock::Lock;

/// How many threads can wait at one time for the objects of one arena page set.
pub const CAPACITY: usize = if cfg!(loom) { 3 } else { 4096 };

/// The state in the low bits of `call`; the ticket is above them.
const STATE: u64 = 0b11;
const WAITING: u64 = 1;
const GRANTED: u64 = 2;

/// One waiting thread.
#[repr(C)]
pub struct Waiter {
    lock: Lock,
    object: AtomicU32,
    _unused: u32,
    call: AtomicU64,
    limit: AtomicU64,
}

/// All waiting threads. All zeroes is an empty roster.
#[repr(C)]
pub struct Roster {
    tickets: AtomicU64,
    used: AtomicU32, // entries from here on were never used
    _unused: u32,
    waiters: [Waiter; CAPACITY],
}

/// A wait's place in the roster: the entry it holds, and its ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub index: usize,
    pub ticket: u64,
}

/// The grants of an object that nobody has used yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outstanding {
    Nothing,
    /// This one, alive, is the oldest that was granted.
    Granted(Place),
    /// One that was granted is dead: `relay` is due.
    Orphan,
}

impl Place {
    /// The futex class of this entry: a wake for it passes by nearly all other waiters of the object.
    pub fn class(self) -> u32 {
        1 << (self.index % 32)
    }
}

impl Roster {
    /// Enters the calling thread as a waiter for `object`. `None` if `CAPACITY` threads are waiting.
    pub fn enter<K: Kernel>(&self, kernel: &K, object: u32) -> Option<Place> {
        let index = self.claim(kernel)?;
        let waiter = &self.waiters[index];
        waiter.call.store(0, SeqCst);
        waiter.object.store(object, Relaxed);
        waiter.limit.store(0, Relaxed);
        let ticket = self.tickets.fetch_add(1, SeqCst) + 1;
        waiter.call.store(ticket << 2 | WAITING, SeqCst);
        Some(Place { index, ticket })
    }

    fn claim<K: Kernel>(&self, kernel: &K) -> Option<usize> {
        (0..CAPACITY).find(|&index| {
            let waiter = &self.waiters[index];
            if index >= self.used.load(Relaxed) as usize {
                self.used.fetch_max(index as u32 + 1, SeqCst);
            }
            if waiter.is_orphan() || !waiter.lock.try_lock(kernel) {
                return false;
            }
            // It may have become one before it was ours.
            let orphan = waiter.lock.is_abandoned() && waiter.state() == GRANTED;
            if orphan {
                waiter.lock.abandon(kernel);
            }
            !orphan
        })
    }

    /// Strikes out the calling thread's wait.
    pub fn leave<K: Kernel>(&self, kernel: &K, place: Place) {
        let waiter = &self.waiters[place.index];
        waiter.call.store(0, SeqCst);
        waiter.lock.unlock(kernel);
    }

    /// The number of the newest ticket: a signal sent now is for waits up to this one.
    pub fn newest(&self) -> u64 {
        self.tickets.load(SeqCst)
    }

    /// How many living threads wait for `object`.
    pub fn count(&self, object: u32) -> usize {
        self.entries().filter(|waiter| waiter.waits_for(object)).count()
    }

    /// Whether the wait at `place`, the caller's own, has been granted.
    pub fn is_granted(&self, place: Place) -> bool {
        self.waiters[place.index].call.load(SeqCst) == place.ticket << 2 | GRANTED
    }

    /// Withdraws the wait at `place` if it has not been granted. False if it has.
    pub fn withdraw(&self, place: Place) -> bool {
        let waiting = place.ticket << 2 | WAITING;
        self.waiters[place.index].call.compare_exchange(waiting, 0, SeqCst, SeqCst).is_ok()
    }

    /// Grants the oldest living wait for `object` that is not granted yet, among those with tickets up to `limit`.
    pub fn grant_oldest(&self, object: u32, limit: u64) -> bool {
        while let Some(waiter) = self.oldest(object, WAITING, limit) {
            let call = self.waiters[waiter.index].call.load(SeqCst);
            if call == waiter.ticket << 2 | WAITING && self.grant(waiter, limit) {
                return true;
            }
        }
        false
    }

    fn grant(&self, place: Place, limit: u64) -> bool {
        let waiter = &self.waiters[place.index];
        waiter.limit.fetch_max(limit, SeqCst);
        let (waiting, granted) = (place.ticket << 2 | WAITING, place.ticket << 2 | GRANTED);
        waiter.call.compare_exchange(waiting, granted, SeqCst, SeqCst).is_ok()
    }

    /// Grants every living wait for `object` with a ticket up to `limit`.
    pub fn grant_all(&self, object: u32, limit: u64) {
        while self.grant_oldest(object, limit) {}
    }

    fn oldest(&self, object: u32, state: u64, limit: u64) -> Option<Place> {
        let places = self.entries().enumerate().filter_map(|(index, waiter)| {
            let call = waiter.call.load(SeqCst);
            let matches = call & STATE == state && call >> 2 <= limit && waiter.waits_for(object);
            matches.then_some(Place { index, ticket: call >> 2 })
        });
        places.min_by_key(|place| place.ticket)
    }

    /// Hands the grants that dead threads left to the oldest waits their signals were meant for. Without such a wait
    /// the signal is forgotten. One thread at a time does this for an object.
    pub fn relay(&self, object: u32) {
        for waiter in self.entries() {
            if waiter.is_orphan() && waiter.object.load(Relaxed) == object {
                self.grant_oldest(object, waiter.limit.load(SeqCst));
                waiter.call.store(0, SeqCst); // nobody claims the entry before this
            }
        }
    }

    /// What is left to do for `object`.
    pub fn outstanding(&self, object: u32) -> Outstanding {
        if self.entries().any(|waiter| waiter.is_orphan() && waiter.object.load(Relaxed) == object) {
            return Outstanding::Orphan;
        }
        self.oldest(object, GRANTED, u64::MAX).map_or(Outstanding::Nothing, Outstanding::Granted)
    }

    /// Passes on the grant of the wait at `place`, the caller's own, as `relay` does for the dead.
    pub fn pass_on(&self, place: Place, object: u32) {
        let waiter = &self.waiters[place.index];
        self.grant_oldest(object, waiter.limit.load(SeqCst));
        waiter.call.store(0, SeqCst);
    }

    fn entries(&self) -> impl Iterator<Item = &Waiter> {
        self.waiters.iter().take(self.used.load(SeqCst) as usize)
    }

    /// Whether the thread that waits at `place` is alive.
    pub fn is_live(&self, place: Place) -> bool {
        let waiter = &self.waiters[place.index];
        waiter.call.load(SeqCst) >> 2 == place.ticket && waiter.lock.is_locked()
    }
}

impl Waiter {
    fn state(&self) -> u64 {
        self.call.load(SeqCst) & STATE
    }

    fn waits_for(&self, object: u32) -> bool {
        self.object.load(Relaxed) == object && self.state() != 0 && self.lock.is_locked()
    }

    /// Granted, but dead before it could use it.
    fn is_orphan(&self) -> bool {
        !self.lock.is_locked() && self.lock.is_abandoned() && self.state() == GRANTED
    }
}
