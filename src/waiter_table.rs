//! Who waits for what: one entry for each waiting thread, in memory that all who share the object can see.
//!
//! A waiter holds its entry as a `Lock` for as long as it waits, so that the kernel tells of its death: an entry is
//! live while its lock names a living thread. Entries of the dead are taken over by the next that need one; there is
//! nothing to clean up and no count to get wrong.
//!
//! | call                | the entry's thread                                                                |
//! |---------------------|-----------------------------------------------------------------------------------|
//! | 0                   | none, or one that is coming or going                                              |
//! | ticket, WAITING     | waits                                                                             |
//! | ticket, GRANTED     | has been given a signal                                                           |
//! | ticket, PASSED      | has been given a signal that another left                                         |
//! | a ticket, MOVING    | is dead; the signal it left is on its way to the wait with that ticket            |
//! | ticket, SIGNALLING  | is about to give a signal                                                         |
//! | ticket, CALLED      | has been ended by a broadcast, and owes nobody anything                           |
//!
//! Each wait has a ticket, unlike any other of the table: tickets order the waiters of an object, and make sure that
//! a signal meant for one wait never reaches a later one that got the same entry. A signal is for the waits that were
//! there when it was given; the highest of their tickets is its limit, and goes with it when it is passed on.
//!
//! A broadcast is for all who wait, so when one of them dies there is nobody to pass it on to: `CALLED` is the end of a
//! wait, not a signal to take care of.
//!
//! A signal is given in one step, from WAITING to GRANTED or PASSED. Passing one on takes three, of which any can be
//! the last that a thread does: MOVING says where to go on.

use crate::atomic::{AtomicU32, AtomicU64, Ordering::*, fence};
use crate::kernel::Kernel;
use crate::lock::Lock;

/// How many threads can wait at one time for the objects of one arena page set.
pub const CAPACITY: usize = if cfg!(loom) { 3 } else { 4096 };

/// The state in the low bits of `call`; the ticket is above them.
const STATE: u64 = 0b111;
const SHIFT: u32 = STATE.trailing_ones();
const WAITING: u64 = 1;
const GRANTED: u64 = 2;
const PASSED: u64 = 3;
const MOVING: u64 = 4;
const SIGNALLING: u64 = 5;
const CALLED: u64 = 6;

/// One waiting thread.
#[derive(Default)]
#[repr(C)]
pub struct Waiter {
    lock: Lock,
    object: AtomicU32,
    mutex: AtomicU32,
    call: AtomicU64,
    /// The limit of the signal, if it was granted, and if it was passed on. They only grow during a wait, so a write
    /// that comes late, after the entry has changed hands, does nothing: the new wait's tickets are above it.
    limit: AtomicU64,
    passed_limit: AtomicU64,
}

/// All waiting threads. All zeroes is an empty table.
#[repr(C)]
pub struct WaiterTable {
    tickets: AtomicU64,
    used: AtomicU32, // entries from here on were never used
    _unused: u32,
    waiters: [Waiter; CAPACITY],
}

/// A wait's place in the table: the entry it holds, and its ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    index: usize,
    ticket: u64,
}

/// What is left to do for an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outstanding {
    Nothing,
    /// Somebody is about to give a signal.
    Signal,
    /// This is the first of those granted after the one that was asked about.
    Granted(Place),
    /// One that was granted is dead: `relay` is due.
    Orphan,
}

impl Place {
    pub fn ticket(self) -> u64 {
        self.ticket
    }

    /// The futex class of this wait: a wake for it passes by nearly all others of the object, and one for those that a
    /// broadcast called by all who wait since.
    pub fn class(self) -> u32 {
        class(self.ticket)
    }
}

const fn call(ticket: u64, state: u64) -> u64 {
    ticket << SHIFT | state
}

/// Tickets come in books, and each broadcast begins a new one.
const BOOK: u64 = 1024;

const fn class(ticket: u64) -> u32 {
    1 << (ticket / BOOK % 2 * 16 + ticket % 16)
}

/// The place this process had last, to be tried first: the search for a free one reads what others are writing.
#[cfg(not(loom))]
static LAST_PLACE: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);

impl Default for WaiterTable {
    fn default() -> Self {
        WaiterTable {
            tickets: AtomicU64::new(0),
            used: AtomicU32::new(0),
            _unused: 0,
            waiters: std::array::from_fn(|_| Waiter::default()),
        }
    }
}

impl WaiterTable {
    /// Enters the calling thread as a waiter for `object`, which will want `mutex` then. `None` if `CAPACITY` threads
    /// are waiting.
    pub fn enter<K: Kernel>(&self, kernel: &K, object: u32, mutex: u32) -> Option<Place> {
        self.enter_as(kernel, object, mutex, WAITING)
    }

    /// Enters the calling thread as one about to give a signal for `object`.
    pub fn announce_signal<K: Kernel>(&self, kernel: &K, object: u32) -> Option<Place> {
        self.enter_as(kernel, object, 0, SIGNALLING)
    }

    fn enter_as<K: Kernel>(&self, kernel: &K, object: u32, mutex: u32, state: u64) -> Option<Place> {
        #[cfg(not(loom))] // the model has to do the same each time
        let last = LAST_PLACE.load(Relaxed) as usize;
        #[cfg(loom)]
        let last = 0;
        let again = (last < self.used.load(Relaxed) as usize).then_some(last);
        let claim = || again.into_iter().chain(0..CAPACITY).find(|&index| self.claim(kernel, index));
        let index = match claim() {
            None if !K::TELLS_OF_DEATHS => {
                self.entries().for_each(|waiter| waiter.lock.reap_if_owner_dead::<K>());
                claim()?
            }
            index => index?,
        };
        #[cfg(not(loom))]
        LAST_PLACE.store(index as u32, Relaxed);
        let waiter = &self.waiters[index];
        waiter.object.store(object, Relaxed);
        waiter.mutex.store(mutex, Relaxed);
        waiter.limit.store(0, Relaxed);
        waiter.passed_limit.store(0, Relaxed);
        let ticket = self.tickets.fetch_add(1, AcqRel) + 1;
        waiter.call.store(call(ticket, state), Release);
        Some(Place { index, ticket })
    }

    fn claim<K: Kernel>(&self, kernel: &K, index: usize) -> bool {
        if index >= self.used.load(Relaxed) as usize {
            self.used.fetch_max(index as u32 + 1, Relaxed);
        }
        let waiter = &self.waiters[index];
        if waiter.is_orphan(waiter.call()) || !waiter.lock.try_lock(kernel) {
            return false;
        }
        if waiter.lock.is_abandoned() {
            // It may have become one meanwhile, and still does if a signal's giver saw the dead one alive.
            let now = waiter.call();
            if waiter.is_orphan(now) || waiter.call.compare_exchange(now, 0, AcqRel, Relaxed).is_err() {
                waiter.lock.release_as_dead(kernel);
                return false;
            }
            waiter.lock.make_consistent(kernel); // from here on the entry is live, and the dead one's wait is off it
        }
        true
    }

    /// Strikes out the calling thread's wait.
    pub fn leave<K: Kernel>(&self, kernel: &K, place: Place) {
        self.retire(place);
        self.waiters[place.index].lock.unlock(kernel);
    }

    /// Makes the calling thread's entry mean nothing, until it `leave`s.
    pub fn retire(&self, place: Place) {
        self.waiters[place.index].call.store(0, Release);
    }

    /// Leaves the calling thread's entry, which was granted, as a dead one's: the signal is for others.
    pub fn forsake<K: Kernel>(&self, kernel: &K, place: Place) {
        self.waiters[place.index].lock.release_as_dead(kernel);
    }

    /// Has the entries of the dead known as such, where the system does not see to that.
    pub fn reap_if_owner_dead<K: Kernel>(&self, object: u32) {
        if K::TELLS_OF_DEATHS {
            return;
        }
        for waiter in self.entries() {
            if waiter.object.load(Relaxed) == object && waiter.call() != 0 {
                waiter.lock.reap_if_owner_dead::<K>();
            }
        }
    }

    /// How many living threads wait for `object`.
    pub fn count(&self, object: u32) -> usize {
        let waits = |waiter: &&Waiter| waiter.is(object, waiter.call(), &[WAITING, GRANTED, PASSED, CALLED]);
        self.entries().filter(waits).count()
    }

    /// How many signals for `object` are on their way: granted, and not used up.
    pub fn granted_count(&self, object: u32) -> usize {
        let granted = |waiter: &&Waiter| {
            matches!(waiter.call() & STATE, GRANTED | PASSED | MOVING)
                && waiter.object.load(Relaxed) == object
        };
        self.entries().filter(granted).count()
    }

    /// How many living threads have been called for `object` and have not left.
    pub fn called_count(&self, object: u32) -> usize {
        self.entries().filter(|waiter| waiter.is(object, waiter.call(), &[CALLED])).count()
    }

    /// Whether a living thread waits for `object` and has not been granted.
    pub fn has_waiting(&self, object: u32) -> bool {
        self.entries().any(|waiter| waiter.is(object, waiter.call(), &[WAITING]))
    }

    /// Whether the wait at `place`, the caller's own, has been granted.
    pub fn is_granted(&self, place: Place) -> bool {
        let now = self.waiters[place.index].call();
        now == call(place.ticket, GRANTED) || now == call(place.ticket, PASSED)
    }

    /// The ticket of the oldest living wait for `object` that was granted.
    pub fn first_granted(&self, object: u32) -> Option<u64> {
        self.oldest(object, &[GRANTED, PASSED], 0, u64::MAX).map(|place| place.ticket)
    }

    /// Whether the wait at `place`, the caller's own, has been ended by a broadcast.
    pub fn is_called(&self, place: Place) -> bool {
        self.waiters[place.index].call() == call(place.ticket, CALLED)
    }

    /// Withdraws the wait at `place` if it has not been granted or called. False if it has.
    pub fn withdraw(&self, place: Place) -> bool {
        let waiter = &self.waiters[place.index];
        waiter.call.compare_exchange(call(place.ticket, WAITING), 0, AcqRel, Relaxed).is_ok()
    }

    /// Grants the oldest living wait for `object`, if there is one that is not granted yet.
    pub fn grant_oldest(&self, object: u32) {
        loop {
            // Read before each try: if another was quicker, this signal counts as given after that one.
            let limit = self.tickets.load(Acquire);
            match self.oldest(object, &[WAITING], 0, limit) {
                Some(place) if !self.waiters[place.index].grant(place.ticket, limit) => {}
                _ => return,
            }
        }
    }

    /// Calls every living wait for `object`.
    pub fn call_all(&self, object: u32) {
        let limit = self.tickets.load(Acquire);
        self.tickets.fetch_max(limit | (BOOK - 1), AcqRel);
        for waiter in self.entries() {
            let now = waiter.call();
            if now >> SHIFT <= limit && waiter.is(object, now, &[WAITING]) {
                // Fails where a signal came first.
                let _ = waiter.call.compare_exchange(now, call(now >> SHIFT, CALLED), AcqRel, Relaxed);
            }
        }
    }

    /// The classes of the waits for `object` that have been called and may be asleep still. Sees all that were called
    /// before the caller's last write, and whoever misses it sees that write.
    pub fn called(&self, object: u32) -> u32 {
        fence(SeqCst);
        let calls = self.entries().map(|waiter| (waiter, waiter.call()));
        let called = calls.filter(|(waiter, now)| waiter.is(object, *now, &[CALLED]));
        called.fold(0, |classes, (_, now)| classes | class(now >> SHIFT))
    }

    /// The living wait for `object` with the lowest ticket above `after`, up to `limit`, in one of `states`.
    fn oldest(&self, object: u32, states: &[u64], after: u64, limit: u64) -> Option<Place> {
        let places = self.entries().enumerate().filter_map(|(index, waiter)| {
            let now = waiter.call();
            let ticket = now >> SHIFT;
            let matches = after < ticket && ticket <= limit && waiter.is(object, now, states);
            matches.then_some(Place { index, ticket })
        });
        places.min_by_key(|place| place.ticket)
    }

    /// Hands the signals that dead threads left to the oldest waits they were meant for. Without such a wait the
    /// signal is forgotten. One thread at a time does this for an object.
    pub fn relay(&self, object: u32) {
        // One that the last to do this had begun comes first: another could be moving on from where that one went.
        for state in [MOVING, GRANTED] {
            for waiter in self.entries() {
                let now = waiter.call();
                if waiter.is_orphan(now)
                    && waiter.object.load(Relaxed) == object
                    && (state == GRANTED || now & STATE == MOVING)
                {
                    self.move_on(waiter, now, object);
                }
            }
        }
    }

    fn move_on(&self, orphan: &Waiter, mut now: u64, object: u32) {
        let limit = match now & STATE {
            GRANTED => orphan.limit.load(Acquire),
            _ => orphan.passed_limit.load(Acquire),
        };
        orphan.passed_limit.fetch_max(limit, AcqRel);
        while now & STATE != MOVING || !self.pass(now >> SHIFT, limit) {
            let next = self.oldest(object, &[WAITING], 0, limit).map(|place| call(place.ticket, MOVING));
            if orphan.call.compare_exchange(now, next.unwrap_or(0), AcqRel, Relaxed).is_err() {
                return; // it was no orphan: its thread left, and another had the entry and died
            }
            match next {
                Some(next) => now = next,
                None => return,
            }
        }
        let _ = orphan.call.compare_exchange(now, 0, AcqRel, Relaxed);
    }

    /// Gives the wait with this ticket a signal that was passed on. True if it has it, also from an earlier try.
    fn pass(&self, ticket: u64, limit: u64) -> bool {
        let Some(waiter) = self.entries().find(|waiter| {
            let now = waiter.call();
            now >> SHIFT == ticket && now & STATE != MOVING
        }) else {
            return false;
        };
        waiter.passed_limit.fetch_max(limit, AcqRel);
        match waiter.call.compare_exchange(call(ticket, WAITING), call(ticket, PASSED), AcqRel, Acquire) {
            Ok(_) => true,
            Err(now) => now == call(ticket, PASSED),
        }
    }

    /// What is left to do for `object`; of those granted, it tells of the first with a ticket above `after`. Sees all
    /// that was given before the caller's last write, and whoever misses it sees that write.
    pub fn outstanding(&self, object: u32, after: u64) -> Outstanding {
        fence(SeqCst);
        // In this order: one that is not about to give a signal any more has given it.
        let signal = self.entries().any(|waiter| waiter.is(object, waiter.call(), &[SIGNALLING]));
        let mut granted: Option<Place> = None;
        for (index, waiter) in self.entries().enumerate() {
            let now = waiter.call();
            if !matches!(now & STATE, GRANTED | PASSED | MOVING) || waiter.object.load(Relaxed) != object {
                continue;
            }
            // Looked at once: it may die at any moment, and must be found alive or dead.
            if waiter.is_orphan(now) {
                return Outstanding::Orphan;
            }
            let ticket = now >> SHIFT;
            if after < ticket && granted.is_none_or(|first| ticket < first.ticket) {
                granted = Some(Place { index, ticket });
            }
        }
        match granted {
            Some(place) => Outstanding::Granted(place),
            None if signal => Outstanding::Signal,
            None => Outstanding::Nothing,
        }
    }

    /// The classes of the granted waits for `object` whose mutex is one that `matches`.
    pub fn granted(&self, object: u32, matches: impl Fn(u32) -> bool) -> u32 {
        fence(SeqCst);
        let mut classes = 0;
        for waiter in self.entries() {
            let now = waiter.call();
            if waiter.is(object, now, &[GRANTED, PASSED]) && matches(waiter.mutex.load(Relaxed)) {
                classes |= class(now >> SHIFT);
            }
        }
        classes
    }

    fn entries(&self) -> impl Iterator<Item = &Waiter> {
        self.waiters.iter().take(self.used.load(Acquire) as usize)
    }
}

impl Waiter {
    fn call(&self) -> u64 {
        self.call.load(Acquire)
    }

    fn grant(&self, ticket: u64, limit: u64) -> bool {
        // Whoever fails raises it too: rightly so, since the one that succeeds does so after this limit was read.
        self.limit.fetch_max(limit, AcqRel);
        self.call.compare_exchange(call(ticket, WAITING), call(ticket, GRANTED), AcqRel, Relaxed).is_ok()
    }

    /// Whether `now`, its call, is that of a living thread in one of `states` for `object`.
    fn is(&self, object: u32, now: u64, states: &[u64]) -> bool {
        states.contains(&(now & STATE)) && self.object.load(Relaxed) == object && self.lock.is_live()
    }

    /// Whether `now`, its call, is that of a thread that died with a signal it could not use.
    fn is_orphan(&self, now: u64) -> bool {
        matches!(now & STATE, GRANTED | PASSED | MOVING) && self.lock.is_abandoned()
    }
}
