//! A counting semaphore, plain or robust.

use super::{SharedObject, WAITING, waiters_of};
use crate::arena::Slot;
use crate::deadline::Deadline;
use crate::error::Result;
use crate::file::File;
use crate::lock::Outcome;
use crate::participants::{Party, State, Ticket};
use crate::platform::{Thread, guardian};
use crate::robust_semaphore::{Memory, Refusal as RobustRefusal, Robust, RobustSemaphore};
use crate::semaphore::{Chance, Overflow, Semaphore as Permits};
use crate::spin::PAUSE;
use crate::turn::{self, IN_LINE, Place};
use std::cell::Cell;
use std::path::Path;
use std::ptr::NonNull;
use std::result::Result as StdResult;

/// A counting semaphore.
#[derive(Debug)]
pub struct Semaphore {
    slot: Slot,
    /// If it is robust: what is in the slot is a `RobustSemaphore` then.
    robust: Option<Box<Memory>>,
}

/// What kind of semaphore it is, and what it begins with.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// With so many permits, and at most `max`.
    Plain { value: u32, max: u32 },
    /// With so many permits, which belong to the processes that take them.
    Robust { limit: u32 },
}

/// Why a call has changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There would be more permits than there can be.
    Overflow,
    /// This process holds so many permits, which is fewer than it would give back.
    NotHeld(u32),
    /// A thread that does not run is in the middle of something with the semaphore. To be tried again.
    Busy,
    /// More processes hold permits than the system of the semaphore has room for.
    Full,
}

impl From<Overflow> for Refusal {
    fn from(_: Overflow) -> Self {
        Refusal::Overflow
    }
}

impl From<RobustRefusal> for Refusal {
    fn from(refusal: RobustRefusal) -> Self {
        match refusal {
            RobustRefusal::NotHeld(held) => Refusal::NotHeld(held),
            RobustRefusal::Busy => Refusal::Busy,
            RobustRefusal::Full => Refusal::Full,
        }
    }
}

/// When a thread came that waits for permits: see `Semaphore::acquire_since`.
#[derive(Debug, Default)]
pub struct Arrival(Cell<Option<u64>>);

/// What `Semaphore::wait_for_chance` hands to `settle_chance`.
#[must_use]
pub struct WaitedChance {
    chance: Chance,
    ticket: Option<Ticket>,
}

/// Holders of permits stand beside the other roles.
const HOLDS_PERMITS: u32 = 2;

/// Makes a thread that lives as long as this process a holder.
fn join(holders: Party<'_>, state: State) -> Option<Ticket> {
    guardian::act(|guardian| holders.join(guardian, state, 0))
}

fn start(slot: NonNull<u8>, kind: Kind) {
    // SAFETY: the slot of a semaphore, which is mapped as long as this runs.
    unsafe {
        match kind {
            Kind::Plain { value, .. } => slot.cast::<Permits>().as_ref().start(value),
            Kind::Robust { limit } => slot.cast::<RobustSemaphore>().as_ref().start(limit as i32),
        }
    }
}

fn recover(slot: NonNull<u8>, kind: Kind) {
    // SAFETY: as in `start`.
    unsafe {
        match kind {
            Kind::Plain { max, .. } => slot.cast::<Permits>().as_ref().recover(max),
            Kind::Robust { .. } => {
                let semaphore = slot.cast::<RobustSemaphore>().as_ref();
                semaphore.start(semaphore.limit());
            }
        }
    }
}

impl Semaphore {
    fn with(slot: Slot, kind: Kind) -> Self {
        Semaphore { slot, robust: matches!(kind, Kind::Robust { .. }).then(Box::default) }
    }

    /// A semaphore with `value` permits, which is not robust.
    ///
    /// # Errors
    /// `System` if there is no memory for it.
    pub fn new(value: u32) -> Result<Self> {
        Self::of_kind(Kind::Plain { value, max: crate::semaphore::MAX })
    }

    /// A semaphore of that kind.
    ///
    /// # Errors
    /// As `new`.
    pub fn of_kind(kind: Kind) -> Result<Self> {
        let slot = match kind {
            Kind::Plain { .. } => Slot::new(),
            Kind::Robust { .. } => Slot::whole(),
        }?;
        start(slot.address(), kind);
        Ok(Self::with(slot, kind))
    }

    /// The semaphore in the file at `path`, of `class`: opened, or made with `mode`. A plain one keeps its permits, but never
    /// more than `max`; a robust one has all permits back if nobody had it open.
    ///
    /// # Errors
    /// As `Slot::in_file`.
    pub fn in_file(path: &Path, mode: u32, class: &str, kind: Kind) -> Result<Self> {
        let details = if matches!(kind, Kind::Robust { .. }) { "robust" } else { "" };
        let (start, recover) = (|slot| start(slot, kind), |slot| recover(slot, kind));
        Slot::in_file(path, mode, class, details, start, recover).map(|slot| Self::with(slot, kind))
    }

    /// The file it is in.
    pub fn file(&self) -> Option<&File> {
        self.slot.file()
    }

    /// A plain one. For a robust one too where this does the right thing: there it finds no permit and somebody who waits.
    #[inline]
    fn permits(&self) -> &Permits {
        // SAFETY: this slot is a semaphore's. All zeroes is one without permits.
        unsafe { self.slot.at(0) }
    }

    #[inline]
    fn robust(&self) -> Option<Robust<'_>> {
        let memory = self.robust.as_deref()?;
        // SAFETY: this slot is a robust semaphore's, of which any bytes are one.
        let semaphore: &RobustSemaphore = unsafe { self.slot.at(0) };
        let holders = Party::new(self.slot.seat(HOLDS_PERMITS), semaphore.ranges()[0]);
        Some(Robust { semaphore, holders, memory })
    }

    pub fn is_robust(&self) -> bool {
        self.robust.is_some()
    }

    fn waiting(&self) -> Party<'_> {
        match self.robust() {
            Some(robust) => waiters_of(&self.slot, robust.semaphore.ranges()[1]),
            None => waiters_of(&self.slot, self.permits().spare()),
        }
    }

    /// Sees to it that this process can hold permits, if they have to be held. To be called before any is taken.
    ///
    /// # Errors
    /// `System` if the system has no thread left.
    pub fn prepare(&self) -> Result<()> {
        if self.is_robust() { guardian::prepare() } else { Ok(()) }
    }

    /// Takes a permit if there is one, nobody stands in line, and this process is prepared.
    #[inline]
    pub fn try_wait(&self) -> bool {
        self.permits().try_wait() || self.try_wait_robust()
    }

    #[inline(never)]
    fn try_wait_robust(&self) -> bool {
        let (Some(robust), Some(thread)) = (self.robust(), Thread::known()) else { return false };
        robust.take_kept(thread.pid())
            || robust.may_have(1) && robust.try_acquire(&thread, 1, join) == Ok(true)
    }

    /// Takes `count` permits at once if there are so many. Several only if nobody stands in line.
    ///
    /// # Errors
    /// `Busy` or `Full`.
    pub fn try_acquire(&self, thread: &Thread, count: u32) -> StdResult<bool, Refusal> {
        if self.has_to_stand_in_line(count) { Ok(false) } else { self.try_acquire_in_turn(thread, count) }
    }

    /// The same for a caller whose turn it was, by `wait_until_available`, although others stand in line by now.
    ///
    /// # Errors
    /// As `try_acquire`.
    pub fn try_acquire_in_turn(&self, thread: &Thread, count: u32) -> StdResult<bool, Refusal> {
        match self.robust() {
            Some(robust) => Ok(robust.try_acquire(thread, count, join)?),
            None => Ok(self.permits().try_acquire(thread, count)),
        }
    }

    /// Whether others who want several permits go first.
    fn has_to_stand_in_line(&self, count: u32) -> bool {
        count > 1 && turn::is_anybody_in_line::<Thread>(self.waiting())
    }

    /// Takes `count` permits if they come within a few microseconds.
    pub fn acquire_soon(&self, thread: &Thread, count: u32) -> bool {
        self.slot.spin.run(PAUSE, || match self.robust() {
            None if count == 1 => self.permits().try_wait(),
            Some(robust) if !robust.may_have(count) => false,
            _ => self.try_acquire(thread, count) == Ok(true),
        })
    }

    /// Has the calling thread be among those who wait while `wait` runs.
    fn in_place<T>(&self, thread: &Thread, arrival: &Arrival, wait: impl FnOnce(Place<'_>) -> T) -> T {
        let ticket = self.waiting().join(thread, WAITING, 0);
        let place = Place::new(self.waiting(), ticket).since(arrival.0.get());
        arrival.0.set(place.arrival());
        let outcome = wait(place);
        self.leave(thread, ticket);
        outcome
    }

    /// Takes a permit as soon as there is one. For a plain semaphore.
    pub fn wait(&self, thread: &Thread, deadline: Option<Deadline>) -> Outcome {
        self.in_place(thread, &Arrival::default(), |place| {
            self.permits().wait_for(thread, place, 1, deadline, true)
        })
    }

    /// Takes `count` permits, from 1 to `MOST_AT_ONCE`, in one step, as soon as there are so many.
    ///
    /// # Errors
    /// `Full`.
    pub fn acquire(
        &self,
        thread: &Thread,
        count: u32,
        deadline: Option<Deadline>,
    ) -> StdResult<Outcome, Refusal> {
        self.acquire_since(thread, &Arrival::default(), count, deadline)
    }

    /// The same for a caller that may be interrupted and call again: with the same `arrival` it keeps its place in the line.
    ///
    /// # Errors
    /// `Full`.
    pub fn acquire_since(
        &self,
        thread: &Thread,
        arrival: &Arrival,
        count: u32,
        deadline: Option<Deadline>,
    ) -> StdResult<Outcome, Refusal> {
        self.wait_for(thread, arrival, count, deadline, true)
    }

    /// Waits until there may be `count` permits, and leaves them to others: `Acquired` then.
    pub fn wait_until_available(&self, thread: &Thread, count: u32, deadline: Option<Deadline>) -> Outcome {
        self.wait_for(thread, &Arrival::default(), count, deadline, false).unwrap_or(Outcome::TimedOut)
    }

    fn wait_for(
        &self,
        thread: &Thread,
        arrival: &Arrival,
        count: u32,
        deadline: Option<Deadline>,
        take: bool,
    ) -> StdResult<Outcome, Refusal> {
        self.in_place(thread, arrival, |place| match self.robust() {
            Some(robust) => Ok(robust.acquire(thread, place, count, deadline, take, join)?),
            None => Ok(self.permits().wait_for(thread, place, count, deadline, take)),
        })
    }

    /// Takes all permits that are free, and returns how many. Less than 0: there was a debt, and it is ended.
    ///
    /// # Errors
    /// As `try_acquire`.
    pub fn drain(&self, thread: &Thread) -> StdResult<i64, Refusal> {
        match self.robust() {
            Some(robust) => Ok(robust.drain(thread, join)?.into()),
            None => Ok(self.permits().drain(thread)),
        }
    }

    /// Takes `count` permits that are free, or the next to be given. A robust semaphore's limit is lower by them.
    ///
    /// # Errors
    /// `Overflow` if there would be fewer than `least`, or than minus `MOST_AT_ONCE`; `Busy`.
    pub fn reduce(&self, thread: &Thread, count: u32, least: i64) -> StdResult<(), Refusal> {
        let Some(robust) = self.robust() else {
            return Ok(self.permits().reduce(thread, count, least)?);
        };
        let lower = |limit| {
            let limit = i64::from(limit) - i64::from(count);
            i32::try_from(limit).ok().filter(|_| limit >= least)
        };
        robust.resize(thread, lower)?.ok_or(Refusal::Overflow)
    }

    /// Makes `limit` the number of a robust semaphore's permits. Of those that are held, too many come back first.
    ///
    /// # Errors
    /// `Busy`.
    pub fn resize(&self, thread: &Thread, limit: u32) -> StdResult<(), Refusal> {
        let Some(robust) = self.robust() else { return Err(Refusal::Overflow) };
        robust.resize(thread, |_| i32::try_from(limit).ok())?.ok_or(Refusal::Overflow)
    }

    /// The processes that hold permits of a robust semaphore, and how many.
    ///
    /// # Errors
    /// `Busy`.
    pub fn holders(&self, thread: &Thread) -> StdResult<Vec<(u32, u32)>, Refusal> {
        let Some(robust) = self.robust() else { return Ok(Vec::new()) };
        Ok(robust.holders(thread)?)
    }

    /// Waits until there is a permit of a plain semaphore, without taking it. `settle_chance` has to follow, before this
    /// thread does anything else with an object of this crate.
    ///
    /// # Errors
    /// `TimedOut` or `Interrupted`.
    pub fn wait_for_chance(
        &self,
        thread: &Thread,
        deadline: Option<Deadline>,
    ) -> StdResult<WaitedChance, Outcome> {
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

    /// Gives a permit of a plain semaphore if nobody has to be woken for it, and there are fewer than `max`.
    #[inline]
    pub fn try_post(&self, max: u32) -> bool {
        self.permits().try_post(max)
    }

    /// Gives a permit.
    ///
    /// # Errors
    /// As `post_many`.
    #[inline]
    pub fn post(&self, thread: &Thread, max: u32) -> StdResult<(), Refusal> {
        if self.try_post(max) { Ok(()) } else { self.post_many(thread, 1, max) }
    }

    /// Gives `count` permits in one step.
    ///
    /// # Errors
    /// `Overflow` if there would be more than `max`. Of a robust semaphore: `NotHeld`, or `Busy`.
    #[inline(never)]
    pub fn post_many(&self, thread: &Thread, count: u32, max: u32) -> StdResult<(), Refusal> {
        match self.robust() {
            Some(robust) if count == 1 && robust.keep(thread.pid()) => Ok(()),
            Some(robust) => Ok(robust.release(thread, count)?),
            None => Ok(self.permits().post_many(thread, count, max)?),
        }
    }

    /// The permits that are free; less than 0 if the next ones are taken already.
    #[inline]
    pub fn value(&self) -> i64 {
        match (self.robust(), Thread::current()) {
            (None, _) => self.permits().value(),
            (Some(robust), Ok(thread)) => robust.value(&thread).into(),
            (Some(robust), Err(_)) => robust.last_value().into(),
        }
    }

    /// How many threads wait for a permit.
    pub fn waiters(&self) -> usize {
        self.waiting().count::<Thread>(&[WAITING, IN_LINE])
    }

    /// A name for `Condition::begin_wait`, as `Mutex::name`.
    pub fn name(&self) -> u32 {
        self.slot.name()
    }
}

impl SharedObject for Semaphore {
    #[inline]
    fn is_accessible(&self) -> bool {
        self.slot.is_accessible()
    }
}

impl Drop for Semaphore {
    /// What this process holds of a robust one comes back when its last handle goes.
    fn drop(&mut self) {
        if !self.is_accessible() || self.slot.has_others() {
            return;
        }
        if let Some(robust) = self.robust()
            && let Some(ticket) = robust.forget(std::process::id())
        {
            let holder = robust.holders.table().entry(ticket).lock().owner();
            guardian::act_as(holder, |guardian| robust.holders.leave(guardian, ticket));
        }
    }
}
