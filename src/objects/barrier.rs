//! A barrier where threads wait for each other.

use super::{SharedObject, WAITS_FOR_OBJECT, drop_when_due, is_me, release_dropped};
use crate::arena::Slot;
use crate::barrier::{AWAY, Arrival, Barrier, WAITING};
use crate::deadline::Deadline;
use crate::error::Result;
use crate::lock::Outcome;
use crate::participants::{Party, Ticket};
use crate::platform::Thread;
use crate::spin::PAUSE;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::ptr::NonNull;

/// So many threads wait for each other, again and again.
#[derive(Debug)]
pub struct CyclicBarrier(ManuallyDrop<Slot>);

impl CyclicBarrier {
    /// A barrier for `parties` threads, from 1 to `barrier::MAX`.
    ///
    /// # Errors
    /// `System` if there is no memory for it.
    pub fn new(parties: u32) -> Result<Self> {
        let barrier = CyclicBarrier(ManuallyDrop::new(Slot::new()?));
        barrier.barrier().start(parties, barrier.party().table().newest());
        Ok(barrier)
    }

    /// The barrier for `parties` threads in the file at `path`, of `class`: opened, or made with `mode`. If nobody had it open, it
    /// is as a new one.
    ///
    /// # Errors
    /// As `Slot::in_file`.
    pub fn in_file(path: &Path, mode: u32, class: &str, parties: u32) -> Result<Self> {
        if let Some(thread) = Thread::known() {
            release_dropped(&thread); // this very barrier may be among them
        }
        // SAFETY: the slot of a barrier, which is mapped as long as these run.
        let barrier = |slot: NonNull<u8>| unsafe { slot.cast::<Barrier>().as_ref() };
        let start = |slot| barrier(slot).start(parties, 0);
        let recover = |slot| {
            barrier(slot).recover();
            start(slot);
        };
        let details = format!("{parties} parties");
        let slot = Slot::in_file(path, mode, class, &details, start, recover)?;
        Ok(CyclicBarrier(ManuallyDrop::new(slot)))
    }

    #[inline]
    fn barrier(&self) -> &Barrier {
        barrier_of(&self.0)
    }

    fn party(&self) -> Party<'_> {
        party_of(&self.0)
    }

    pub fn parties(&self) -> u32 {
        self.barrier().parties()
    }

    /// See `Barrier::arrive`.
    pub fn arrive(&self, thread: &Thread, has_action: bool) -> Arrival {
        self.barrier().arrive(thread, self.party(), has_action)
    }

    /// Whether the epoch of the calling party is over within a few microseconds.
    pub fn wait_soon(&self, ticket: Ticket) -> bool {
        self.0.spin.run(PAUSE, || self.is_over(ticket))
    }

    /// Whether the epoch of the calling party is over.
    pub fn is_over(&self, ticket: Ticket) -> bool {
        self.barrier().verdict(self.party(), ticket).is_some()
    }

    /// See `Barrier::wait`.
    pub fn wait(&self, thread: &Thread, ticket: Ticket, deadline: Option<Deadline>) -> Outcome {
        self.barrier().wait(thread, self.party(), ticket, deadline)
    }

    /// See `Barrier::wait_elsewhere`.
    pub fn wait_elsewhere(&self, thread: &Thread, ticket: Ticket) {
        self.barrier().wait_elsewhere(thread, self.party(), ticket);
    }

    /// See `Barrier::busy_epoch`.
    pub fn busy_epoch(&self) -> Option<u32> {
        self.barrier().busy_epoch()
    }

    /// See `Barrier::is_past`.
    pub fn is_past(&self, epoch: u32) -> bool {
        self.barrier().is_past(epoch)
    }

    /// The same for all handles of this process.
    pub fn address(&self) -> usize {
        self.0.address().addr().get()
    }

    /// The epoch of the calling party.
    pub fn epoch_of(&self, ticket: Ticket) -> u32 {
        self.party().table().entry(ticket).detail()
    }

    /// See `Barrier::watch`.
    pub fn watch(&self, thread: &Thread, epoch: u32, deadline: Option<Deadline>) -> Outcome {
        self.barrier().watch(thread, self.party(), epoch, deadline)
    }

    /// See `Barrier::pass`.
    pub fn pass(&self, thread: &Thread, ticket: Ticket) -> bool {
        self.barrier().pass(thread, self.party(), ticket)
    }

    /// See `Barrier::give_up`.
    pub fn give_up(&self, thread: &Thread, ticket: Ticket) -> bool {
        self.barrier().give_up(thread, self.party(), ticket)
    }

    /// See `Barrier::leave`.
    pub fn leave(&self, thread: &Thread, ticket: Ticket) -> bool {
        self.barrier().leave(thread, self.party(), ticket)
    }

    pub fn reset(&self, thread: &Thread) {
        self.barrier().reset(thread, self.party());
    }

    pub fn is_broken(&self, thread: &Thread) -> bool {
        self.barrier().is_broken(thread, self.party())
    }

    pub fn number_waiting(&self, thread: &Thread) -> u32 {
        self.barrier().number_waiting(thread, self.party())
    }

    /// Whether the next thread that arrives may have to wait.
    pub fn awaits_more(&self) -> bool {
        self.barrier().arrived().is_none_or(|arrived| arrived + 1 < self.parties())
    }

    /// How many threads wait.
    pub fn waiters(&self) -> usize {
        self.party().count::<Thread>(&[WAITING, AWAY])
    }
}

impl SharedObject for CyclicBarrier {
    #[inline]
    fn is_accessible(&self) -> bool {
        self.0.is_accessible()
    }
}

#[inline]
fn barrier_of(slot: &Slot) -> &Barrier {
    // SAFETY: the caller's slot is a barrier's; all zeroes is one that has not been started.
    unsafe { slot.at(0) }
}

fn party_of(slot: &Slot) -> Party<'_> {
    Party::new(slot.seat(WAITS_FOR_OBJECT), barrier_of(slot).spare())
}

/// A fiber that is collected in the middle of its wait leaves an entry that only its thread can give back. The slot stays
/// until then. What the dead have left is cleared away, so that the next object in the slot does not find it.
impl Drop for CyclicBarrier {
    fn drop(&mut self) {
        // SAFETY: the field is not used again.
        let slot = unsafe { ManuallyDrop::take(&mut self.0) };
        let Some(slot) = slot.give_back_if_not_last() else { return };
        if !slot.is_accessible() {
            return;
        }
        if let Some(thread) = Thread::known() {
            barrier_of(&slot).is_broken(&thread, party_of(&slot));
        }
        if party_of(&slot).of_process(std::process::id()).next().is_some() {
            drop_when_due(slot, is_due, release);
        }
    }
}

/// Nobody has an entry, or the calling thread can give one back.
fn is_due(slot: &Slot, thread: &Thread) -> bool {
    let mut members = party_of(slot).of_process(std::process::id()).peekable();
    !slot.is_accessible()
        || members.peek().is_none()
        || members.any(|seen| is_me(thread, seen.entry.lock().owner()))
}

/// A barrier in a file that has been opened again since goes on: a new handle is there for it.
fn release(slot: &Slot, thread: &Thread) {
    if !slot.is_accessible() || slot.has_others() {
        return;
    }
    let party = party_of(slot);
    for seen in party.of_process(std::process::id()).filter(|seen| is_me(thread, seen.entry.lock().owner())) {
        barrier_of(slot).give_up(thread, party, seen.ticket());
    }
}
