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

    /// Takes `count` permits at once if there are so many, and nobody stands in line for them.
    pub fn try_acquire(&self, thread: &Thread, count: u32) -> bool {
        self.permits().try_acquire(thread, count)
    }

    /// Takes `count` permits if they come within a few microseconds.
    pub fn acquire_soon(&self, thread: &Thread, count: u32) -> bool {
        if count == 1 { self.wait_soon() } else { self.0.spin.run(PAUSE, || self.try_acquire(thread, count)) }
    }

    /// Takes a permit as soon as there is one.
    pub fn wait(&self, thread: &Thread, deadline: Option<Deadline>) -> Outcome {
        self.acquire(thread, 1, deadline)
    }

    /// Takes `count` permits, from 1 to `MOST_AT_ONCE`, in one step, as soon as there are so many.
    pub fn acquire(&self, thread: &Thread, count: u32, deadline: Option<Deadline>) -> Outcome {
        counted(self.waiting(), thread, || self.permits().wait_for(thread, count, deadline, true))
    }

    /// Takes all permits that are free, and returns how many. Less than 0: there was a debt, and it is ended.
    pub fn drain(&self, thread: &Thread) -> i64 {
        self.permits().drain(thread)
    }

    /// Takes `count` permits that are free, or the next to be given.
    ///
    /// # Errors
    /// `Overflow` if there would be fewer than `least`, or than minus `MOST_AT_ONCE`.
    pub fn reduce(&self, thread: &Thread, count: u32, least: i64) -> std::result::Result<(), Overflow> {
        self.permits().reduce(thread, count, least)
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

    /// Waits until there may be `count` permits, and leaves them to others: `Acquired` then.
    pub fn wait_until_available(&self, thread: &Thread, count: u32, deadline: Option<Deadline>) -> Outcome {
        counted(self.waiting(), thread, || self.permits().wait_for(thread, count, deadline, false))
    }

    /// Gives a permit.
    ///
    /// # Errors
    /// `Overflow` if there are `max` already.
    #[inline]
    pub fn post(&self, thread: &Thread, max: u32) -> std::result::Result<(), Overflow> {
        self.permits().post(thread, max)
    }

    /// Gives `count` permits in one step.
    ///
    /// # Errors
    /// As `post`.
    pub fn post_many(&self, thread: &Thread, count: u32, max: u32) -> std::result::Result<(), Overflow> {
        self.permits().post_many(thread, count, max)
    }

    /// The permits that are free; less than 0 if the next ones are taken already.
    #[inline]
    pub fn value(&self) -> i64 {
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
