//! The waits for one condition, as entries of the table of participants.
//!
//! | status              | the entry's thread                                                                |
//! |---------------------|-----------------------------------------------------------------------------------|
//! | number, WAITING     | waits                                                                             |
//! | number, GRANTED     | has been given a signal                                                           |
//! | number, PASSED      | has been given a signal that another waiter left                                  |
//! | a number, MOVING    | is dead; the signal it left is on its way to the wait with that number            |
//! | number, SIGNALLING  | is about to give a signal                                                         |
//! | number, BROADCAST   | has been woken by a broadcast                                                     |
//!
//! A signal is for the waits that were there when it was given. The highest of their numbers is its limit, and goes with
//! it when it is passed on: so it never reaches a later wait.
//!
//! A broadcast is for all who wait, so when one of them dies there is nobody to pass it on to.
//!
//! A signal is given in one step, from WAITING to GRANTED or PASSED. Passing one on takes three, of which any can be
//! the last that a thread does: MOVING says where to go on.
//!
//! An entry's data is the limit of the signal that was granted, and `more_data` the limit of the one that was passed on.
//! They only grow during a wait, so a write that comes late, after the entry has changed hands, does nothing: the new
//! wait's number is above it.

use crate::atomic::{Ordering::*, fence};
use crate::kernel::Kernel;
use crate::participants::{OWES, Party, Seen, State, Ticket, number_of, state_of, status};

pub const WAITING: State = 1;
pub const GRANTED: State = 2 | OWES;
pub const PASSED: State = 3 | OWES;
const MOVING: State = 4 | OWES;
const SIGNALLING: State = 5;
pub const BROADCAST: State = 6;

/// What is left to do for a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outstanding {
    Nothing,
    /// Somebody is about to give a signal.
    Signal,
    /// This is the first of the granted waits after the one that was asked about.
    Granted(Ticket),
    /// A waiter that was granted is dead: `relay` is due.
    Orphan,
}

/// Each broadcast begins a new epoch of wait numbers.
const NUMBERS_PER_EPOCH: u64 = 1024;

/// The futex class of a wait: a wake for it passes by nearly all other waits of the condition, and one for those that a
/// broadcast has woken passes by all later waits.
pub const fn class(number: u64) -> u32 {
    1 << (number / NUMBERS_PER_EPOCH % 2 * 16 + number % 16)
}

/// The waits for one condition.
#[derive(Clone, Copy)]
pub struct Waits<'a>(pub Party<'a>);

impl<'a> Waits<'a> {
    /// Makes the calling thread a waiter that will want `mutex`. `None` if the table is full.
    pub fn join<K: Kernel>(self, kernel: &K, mutex: u32) -> Option<Ticket> {
        self.0.join(kernel, WAITING, mutex)
    }

    /// Says that the calling thread is about to give a signal. `None` if the table is full.
    pub fn announce_signal<K: Kernel>(self, kernel: &K) -> Option<Ticket> {
        self.0.join(kernel, SIGNALLING, 0)
    }

    fn status_at(self, ticket: Ticket) -> u64 {
        self.0.table().entry(ticket).status()
    }

    fn live_in(self, states: &[State]) -> impl Iterator<Item = Seen<'a>> {
        self.0.iter().filter(|seen| states.contains(&seen.state()) && seen.is_live())
    }

    /// How many living threads wait.
    pub fn count<K: Kernel>(self) -> usize {
        self.0.count::<K>(&[WAITING, GRANTED, PASSED, BROADCAST])
    }

    /// How many signals are on their way: granted, and not used up.
    pub fn granted_count(self) -> usize {
        self.0.iter().filter(|seen| seen.state() & OWES != 0).count()
    }

    /// How many living threads have been woken by a broadcast and have not left.
    pub fn broadcast_count(self) -> usize {
        self.live_in(&[BROADCAST]).count()
    }

    /// Whether a living thread waits and has not been granted.
    pub fn any_waiting(self) -> bool {
        self.live_in(&[WAITING]).next().is_some()
    }

    /// Whether the wait, the caller's own, has been granted.
    pub fn is_granted(self, ticket: Ticket) -> bool {
        let now = self.status_at(ticket);
        now == status(ticket.number(), GRANTED) || now == status(ticket.number(), PASSED)
    }

    /// Whether the wait, the caller's own, has been ended by a broadcast.
    pub fn is_broadcast(self, ticket: Ticket) -> bool {
        self.status_at(ticket) == status(ticket.number(), BROADCAST)
    }

    /// The number of the oldest living wait that was granted.
    pub fn first_granted(self) -> Option<u64> {
        self.live_in(&[GRANTED, PASSED]).map(|seen| seen.number()).min()
    }

    /// Ends the wait if it has not been granted or broadcast to. False if it has.
    pub fn withdraw(self, ticket: Ticket) -> bool {
        let waiting = status(ticket.number(), WAITING);
        self.0.table().entry(ticket).change(waiting, 0).is_ok()
    }

    /// Grants the oldest living wait, if there is one that is not granted yet.
    pub fn grant_oldest<K: Kernel>(self) {
        loop {
            // Read before each try: if another signal was quicker, this one counts as given after it.
            let limit = self.0.table().newest();
            let Some(oldest) = self.oldest_waiting(limit) else { return };
            oldest.entry.lock().reap_if_owner_dead::<K>();
            // A thread that fails here raises the limit too: rightly so, since the signal that succeeds does so after it
            // was read.
            oldest.entry.data().fetch_max(limit, AcqRel);
            let granted = status(oldest.number(), GRANTED);
            if oldest.is_live() && oldest.entry.change(oldest.status(), granted).is_ok() {
                return;
            }
        }
    }

    /// Ends every living wait.
    pub fn broadcast(self) {
        let limit = self.0.table().skip_to_multiple(NUMBERS_PER_EPOCH);
        for seen in self.live_in(&[WAITING]).filter(|seen| seen.number() <= limit) {
            // Fails where a signal came first.
            let _ = seen.entry.change(seen.status(), status(seen.number(), BROADCAST));
        }
    }

    /// The classes of the waits that a broadcast has ended and that may be asleep still, and whether somebody is about to
    /// give a signal. Sees all that was done before the caller's last write, and whoever misses it sees that write.
    pub fn broadcast_classes(self) -> (u32, bool) {
        fence(SeqCst);
        self.live_in(&[BROADCAST, SIGNALLING]).fold((0, false), |(classes, signal), seen| {
            match seen.state() {
                BROADCAST => (classes | class(seen.number()), signal),
                _ => (classes, true),
            }
        })
    }

    /// The classes of the granted waits whose mutex is one that `matches`.
    pub fn granted_classes(self, matches: impl Fn(u32) -> bool) -> u32 {
        fence(SeqCst);
        let granted = self.live_in(&[GRANTED, PASSED]).filter(|seen| matches(seen.entry.detail()));
        granted.fold(0, |classes, seen| classes | class(seen.number()))
    }

    fn oldest_waiting(self, limit: u64) -> Option<Seen<'a>> {
        self.live_in(&[WAITING]).filter(|seen| seen.number() <= limit).min_by_key(Seen::number)
    }

    /// Has deaths known that the kernel did not tell of, in all waits or in those where a death concerns others.
    pub fn reap<K: Kernel>(self, all: bool) {
        for seen in self.0.iter().filter(|seen| all || seen.state() != WAITING) {
            seen.entry.lock().reap_if_owner_dead::<K>();
        }
    }

    /// Hands the signals that dead threads left to the oldest waits they were meant for. Without such a wait the
    /// signal is forgotten. One thread at a time does this for a condition.
    pub fn relay(self) {
        // Transfers that a dead relayer left half done come first: the wait they go to may have died since, and been
        // relayed itself.
        let mut any = false;
        for seen in self.orphans() {
            any = true;
            if seen.state() == MOVING {
                self.pass_on(seen);
            }
        }
        if any {
            self.orphans().for_each(|seen| self.pass_on(seen));
        }
    }

    fn orphans(self) -> impl Iterator<Item = Seen<'a>> {
        self.0.iter().filter(Seen::is_orphan)
    }

    fn pass_on(self, orphan: Seen<'_>) {
        let (entry, mut now) = (orphan.entry, orphan.status());
        let limit = match state_of(now) {
            GRANTED => entry.data().load(Acquire),
            _ => entry.more_data().load(Acquire),
        };
        entry.more_data().fetch_max(limit, AcqRel);
        // Each round but the first follows a death or the end of a wait, of which there are not more than entries.
        for _ in 0..=self.0.table().capacity() {
            if state_of(now) == MOVING && self.pass_to(number_of(now), limit) {
                break;
            }
            let next = self.oldest_waiting(limit).map(|seen| status(seen.number(), MOVING));
            if entry.change(now, next.unwrap_or(0)).is_err() {
                return; // it was no orphan: its thread left, and another had the entry and died
            }
            match next {
                Some(next) => now = next,
                None => return,
            }
        }
        let _ = entry.change(now, 0);
    }

    /// Gives the wait with this number a signal that was passed on. True if it has it, also from an earlier try.
    fn pass_to(self, number: u64, limit: u64) -> bool {
        let target = self.0.iter().find(|seen| seen.number() == number && seen.state() != MOVING);
        let Some(Seen { entry, .. }) = target else { return false };
        entry.more_data().fetch_max(limit, AcqRel);
        match entry.change(status(number, WAITING), status(number, PASSED)) {
            Ok(_) => true,
            Err(now) => now == status(number, PASSED),
        }
    }

    /// What is left to do; of the granted, it tells of the first with a number above `after`. `signal` says what
    /// `broadcast_classes` has found before: a thread that is not about to give a signal any more has given it.
    pub fn outstanding(self, signal: bool, after: u64) -> Outstanding {
        let mut granted: Option<Ticket> = None;
        for seen in self.0.iter().filter(|seen| seen.state() & OWES != 0) {
            // Looked at once: it may die at any moment, and must be found alive or dead.
            if seen.is_orphan() {
                return Outstanding::Orphan;
            }
            if after < seen.number() && granted.is_none_or(|first| seen.number() < first.number()) {
                granted = Some(seen.ticket());
            }
        }
        match granted {
            Some(ticket) => Outstanding::Granted(ticket),
            None if signal => Outstanding::Signal,
            None => Outstanding::Nothing,
        }
    }

    /// The entries that belong to the thread with this number.
    pub fn of_thread(self, id: u32) -> impl Iterator<Item = Seen<'a>> {
        self.0.iter().filter(move |seen| seen.entry.lock().owner() == id)
    }

    /// Whether a thread of the process `pid` has an entry, other than the thread `except`.
    pub fn any_of_process(self, pid: u32, except: u32) -> bool {
        self.0.iter().any(|seen| {
            let owner = seen.entry.lock().owner();
            owner != 0 && owner != except && seen.entry.lock().pid(owner) == pid
        })
    }
}
