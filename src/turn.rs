//! Whose turn it is in a line: first come, first served.
//!
//! Those who stand in line are participants in the state `IN_LINE`, and their numbers are the order they came in. Each
//! of them sleeps on the entry of the participant right before it. The owner of that entry unlocks it when the owner has
//! what it came for, or gives up; the kernel marks the entry when its owner dies. So a death needs no repair, and nobody
//! who comes later is quicker.
//!
//! Where the kernel tells nobody of deaths, those in line take naps and look.
//!
//! A participant has its number a moment before others can see it, and may find that later ones have gone on. So the
//! first in line takes a lock too, which keeps two from being first at once. For the same reason two may sleep on one
//! entry: the thread that the kernel wakes there wakes the other.

use crate::atomic::{Ordering::SeqCst, fence};
use crate::deadline::Deadline;
use crate::kernel::{Kernel, LOOK};
use crate::lock::Outcome;
use crate::participants::{Party, Seen, State, Ticket, status};
use crate::platform::Wake;
use crate::word::ANY_CLASS;

/// The state of a participant that stands in line.
pub const IN_LINE: State = 2;

/// A thread's place in a line.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    waiters: Party<'a>,
    ticket: Option<Ticket>,
    arrival: u64,
}

impl<'a> Place<'a> {
    /// The place of the participant with this ticket. A thread without one, as the table is full, is behind all others.
    pub fn new(waiters: Party<'a>, ticket: Option<Ticket>) -> Self {
        Place { waiters, ticket, arrival: ticket.map_or(u64::MAX, Ticket::number) }
    }

    /// The place of a thread that had this number before it was interrupted: its new number gives way to the old one.
    pub fn since(self, arrival: Option<u64>) -> Self {
        Place { arrival: arrival.unwrap_or(self.arrival), ..self }
    }

    /// The number that says when this thread came, if it has one.
    pub fn arrival(self) -> Option<u64> {
        Some(self.arrival).filter(|number| *number != u64::MAX)
    }

    /// Stands in line, until all who came before have gone: from here to the end of the participation.
    #[cold]
    pub fn await_turn<K: Kernel>(self, kernel: &K, deadline: Option<Deadline>) -> Outcome {
        if let Some(ticket) = self.ticket {
            let entry = self.waiters.table().entry(ticket);
            entry.set_status(status(self.arrival, IN_LINE));
            fence(SeqCst); // of two who come at once, one sees the other
        }
        while let Some(before) = self.before() {
            match sleep_behind(before, kernel, deadline) {
                Wake::Woken => {}
                Wake::TimedOut => return Outcome::TimedOut,
                Wake::Interrupted => return Outcome::Interrupted,
            }
        }
        Outcome::Acquired
    }

    /// The participant right before this one.
    fn before(self) -> Option<Seen<'a>> {
        in_line(self.waiters).filter(|seen| seen.number() < self.arrival).max_by_key(Seen::number)
    }
}

/// Sleeps until the participant `before` may have gone.
fn sleep_behind<K: Kernel>(before: Seen<'_>, kernel: &K, deadline: Option<Deadline>) -> Wake {
    let lock = before.entry.lock();
    if !K::TELLS_OF_DEATHS {
        // No entry has a Mach semaphore to sleep on.
        lock.reap_if_owner_dead::<K>();
        let time = deadline.map_or(LOOK, |deadline| deadline.remaining().min(LOOK));
        return if time.is_zero() { Wake::TimedOut } else { kernel.nap(time) };
    }
    let Some(held) = lock.watch().filter(|_| before.is_live()) else { return Wake::Woken };
    kernel.set_pending(lock.word()); // a wake-up in our hands must not die with us
    let wake = kernel.wait_or_recheck(lock.word(), held, deadline, ANY_CLASS);
    if !before.is_live() {
        kernel.wake(lock.word(), i32::MAX, ANY_CLASS);
    }
    kernel.clear_pending();
    wake
}

fn in_line(waiters: Party<'_>) -> impl Iterator<Item = Seen<'_>> {
    waiters.iter().filter(|seen| seen.state() == IN_LINE && seen.is_live())
}

/// Whether anybody stands in line. Knows of deaths that the kernel did not tell of.
pub fn is_anybody_in_line<K: Kernel>(waiters: Party<'_>) -> bool {
    in_line(waiters).any(|seen| {
        seen.entry.lock().reap_if_owner_dead::<K>();
        seen.is_live()
    })
}
