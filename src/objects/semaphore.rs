//! A counting semaphore.

use super::{WAITING, count, counted, waiters_of};
use crate::arena::Slot;
use crate::deadline::Deadline;
use crate::error::Result;
use crate::file::File;
use crate::lock::Outcome;
use crate::participants::{Party, Ticket};
use crate::platform::Thread;
use crate::semaphore::{Chance, Overflow, Semaphore as Permits};
use crate::spin::PAUSE;
use std::path::Path;
use std::ptr::NonNull;

/// A counting semaphore.
#[derive(Debug)]
pub struct Semaphore(Slot);

/// What `Semaphore::wait_for_chance` hands to `settle_chance`.
#[must_use]
pub struct WaitedChance {
    chance: Chance,
    ticket: Option<Ticket>,
}

impl Semaphore {
    /// A semaphore with `value` permits.
    ///
    /// # Errors
    /// `System` if there is no memory for it.
    pub fn new(value: u32) -> Result<Self> {
        let semaphore = Semaphore(Slot::new()?);
        semaphore.permits().start(value);
        Ok(semaphore)
    }

    /// The semaphore in the file at `path`, of `class`: opened, with the permits that it has, or made with `mode` and `value`
    /// permits. Above `max` there are none.
    ///
    /// # Errors
    /// As `Slot::in_file`.
    pub fn in_file(path: &Path, mode: u32, class: &str, value: u32, max: u32) -> Result<Self> {
        // SAFETY: the slot of a semaphore, which is mapped as long as these run.
        let permits = |slot: NonNull<u8>| unsafe { slot.cast::<Permits>().as_ref() };
        let (start, recover) = (|slot| permits(slot).start(value), |slot| permits(slot).recover(max));
        Slot::in_file(path, mode, class, "", start, recover).map(Semaphore)
    }

    /// The file it is in.
    pub fn file(&self) -> Option<&File> {
        self.0.file()
    }

    #[inline]
    fn permits(&self) -> &Permits {
        // SAFETY: this slot is a semaphore's. All zeroes is one without permits.
        unsafe { self.0.at(0) }
    }

    fn waiting(&self) -> Party<'_> {
        waiters_of(&self.0, self.permits().spare())
    }

    /// As `Mutex::is_accessible`.
    #[inline]
    pub fn is_accessible(&self) -> bool {
        self.0.is_accessible()
    }

    /// Takes a permit if there is one.
    #[inline]
    pub fn try_wait(&self) -> bool {
        self.permits().try_wait()
    }

    /// Takes a permit if one comes within a few microseconds.
    pub fn wait_soon(&self) -> bool {
        self.0.spin.run(PAUSE, || self.permits().try_wait())
    }

    /// Takes a permit as soon as there is one.
    pub fn wait(&self, thread: &Thread, deadline: Option<Deadline>) -> Outcome {
        counted(self.waiting(), thread, || self.permits().wait(thread, deadline))
    }

    /// Waits until there is a permit, without taking it. `settle_chance` has to follow, before this thread does anything
    /// else with an object of this crate.
    ///
    /// # Errors
    /// `TimedOut` or `Interrupted`.
    pub fn wait_for_chance(
        &self,
        thread: &Thread,
        deadline: Option<Deadline>,
    ) -> std::result::Result<WaitedChance, Outcome> {
        let ticket = self.waiting().join(thread, WAITING, 0);
        match self.permits().wait_for_chance(thread, deadline) {
            Ok(chance) => Ok(WaitedChance { chance, ticket }),
            Err(outcome) => {
                self.leave(thread, ticket);
                Err(outcome)
            }
        }
    }

    /// Ends `wait_for_chance`: takes the permit if `take`, else leaves it to the next waiter. Returns whether it was taken;
    /// another thread may have been faster.
    pub fn settle_chance(&self, thread: &Thread, waited: WaitedChance, take: bool) -> bool {
        let taken = self.permits().settle_chance(thread, waited.chance, take);
        self.leave(thread, waited.ticket);
        taken
    }

    fn leave(&self, thread: &Thread, ticket: Option<Ticket>) {
        if let Some(ticket) = ticket {
            self.waiting().leave(thread, ticket);
        }
    }

    /// Waits until there may be a permit, and leaves it to others: `Acquired` then.
    pub fn wait_until_available(&self, thread: &Thread, deadline: Option<Deadline>) -> Outcome {
        counted(self.waiting(), thread, || self.permits().wait_until_available(thread, deadline))
    }

    /// Gives a permit.
    ///
    /// # Errors
    /// `Overflow` if there are `max` already.
    #[inline]
    pub fn post(&self, thread: &Thread, max: u32) -> std::result::Result<(), Overflow> {
        self.permits().post(thread, max)
    }

    /// The permits that are free.
    #[inline]
    pub fn value(&self) -> u32 {
        self.permits().value()
    }

    /// How many threads wait for a permit.
    pub fn waiters(&self) -> usize {
        count(self.waiting())
    }

    /// A name for `Condition::begin_wait`, as `Mutex::name`.
    pub fn name(&self) -> u32 {
        self.0.name()
    }
}
