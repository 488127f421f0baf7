//! The objects processes share: a slot of the arena with a protocol in it.
//!
//! Each is a handle of this process. What was made before a fork is the same object in the child. All methods take
//! the calling thread, and can be called from any.

use crate::arena::{self, Slot};
use crate::condition::{Condition, Wait};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::lock::{Lock, Outcome};
use crate::platform::{MAX_HELD, Thread, process_of};
use crate::semaphore::{Chance, Overflow, Semaphore as Permits};
use crate::spin::{LONG_PAUSE, PAUSE};
use crate::waiter_table::Place;
use crate::word::Word;
use std::mem::ManuallyDrop;

/// A lock with an owner, handed on when the owner dies, and a condition to sleep on while holding it.
#[derive(Debug)]
pub struct Mutex(ManuallyDrop<Slot>);

/// A counting semaphore.
#[derive(Debug)]
pub struct Semaphore(Slot);

/// A condition to wait for.
#[derive(Debug)]
pub struct ConditionVariable(Slot);

/// What `Semaphore::wait_for_chance` hands to `settle_chance`.
#[must_use]
pub struct WaitedChance {
    chance: Chance,
    place: Option<Place>,
}

/// Where waiters for a slot's lock or permits, and those for its condition, stand in the table.
const FOR_LOCK: u32 = 0;
const FOR_CONDITION: u32 = 1;

/// How often to look for a holder while the mutex goes from one to the other. Nobody may be found at all: a thread that C
/// code has replaced by another program is gone, and the word still names it.
const LOOKS: u32 = 1000;

fn roster_key(slot: &Slot, what: u32) -> u32 {
    slot.index() * 2 + what
}

/// How many living threads wait.
fn waiters(slot: &Slot, what: u32) -> usize {
    slot.table().reap_if_owner_dead::<Thread>(roster_key(slot, what));
    slot.table().count(roster_key(slot, what))
}

/// Counts the calling thread as a waiter while `wait` runs. A full roster only makes the count too low.
fn waiting(slot: &Slot, thread: &Thread, wait: impl FnOnce() -> Outcome) -> Outcome {
    let place = slot.table().enter(thread, roster_key(slot, FOR_LOCK), 0);
    let outcome = wait();
    if let Some(place) = place {
        slot.table().leave(thread, place);
    }
    outcome
}

#[cold]
fn make_room(thread: &Thread) -> Result<()> {
    release_dropped(thread);
    if thread.may_hold_more() {
        return Ok(());
    }
    let text = format!("this thread holds {MAX_HELD} locks: unlock some, more would not survive its death");
    Err(Error::Ownership(text))
}

impl Mutex {
    /// A free mutex.
    ///
    /// # Errors
    /// `System` if there is no memory for it.
    pub fn new() -> Result<Self> {
        Slot::new().map(|slot| Mutex(ManuallyDrop::new(slot)))
    }

    #[inline]
    fn inner(&self) -> &Lock {
        lock_of(&self.0)
    }

    /// The same, with what there is to know of its holder's death.
    #[inline]
    fn looked_after(&self) -> &Lock {
        self.inner().reap_if_owner_dead::<Thread>();
        self.inner()
    }

    /// Whether this process can use the mutex. Not so on macOS in a child whose fork Ruby did not make.
    #[inline]
    pub fn is_accessible(&self) -> bool {
        self.0.is_accessible()
    }

    /// Takes the mutex if it is free.
    ///
    /// # Errors
    /// `Ownership` if the calling thread holds as many as the kernel can hand on when it dies.
    #[inline]
    pub fn try_lock(&self, thread: &Thread) -> Result<bool> {
        if !thread.may_hold_more() {
            make_room(thread)?;
        }
        let taken =
            self.inner().try_lock(thread) || !Thread::TELLS_OF_DEATHS && self.looked_after().try_lock(thread);
        if taken {
            self.inner().record_owner(thread, thread.pid());
        }
        Ok(taken)
    }

    /// Takes the mutex if that becomes possible within a few microseconds. To be called after `try_lock` said no; needs no
    /// other thread of this process to go on meanwhile.
    pub fn try_lock_soon(&self, thread: &Thread) -> bool {
        let lock = self.inner();
        let held_here = lock.pid(lock.owner()) == thread.pid();
        let taken = !held_here && self.0.spin.run(LONG_PAUSE, || lock.try_lock(thread));
        if taken {
            lock.record_owner(thread, thread.pid());
        }
        taken
    }

    /// Takes the mutex as soon as it is free. To be called after `try_lock` said no.
    pub fn lock(&self, thread: &Thread, deadline: Option<Deadline>) -> Outcome {
        let outcome = waiting(&self.0, thread, || self.inner().lock(thread, deadline));
        if outcome == Outcome::Acquired {
            self.inner().record_owner(thread, thread.pid());
        }
        outcome
    }

    /// Waits until the mutex may be free, and leaves it to others: `Acquired` then.
    pub fn watch(&self, thread: &Thread, deadline: Option<Deadline>) -> Outcome {
        waiting(&self.0, thread, || self.inner().watch(thread, deadline))
    }

    /// Gives back the mutex, which the calling thread holds.
    #[inline]
    pub fn unlock(&self, thread: &Thread) {
        self.inner().unlock(thread);
    }

    /// Gives it back as if this thread had died holding it.
    pub fn release_as_dead(&self, thread: &Thread) {
        self.inner().release_as_dead(thread);
    }

    #[inline]
    pub fn is_locked(&self) -> bool {
        self.looked_after().is_locked()
    }

    /// Whether the calling thread holds it.
    #[inline]
    pub fn is_held_by(&self, thread: &Thread) -> bool {
        self.inner().owner() == thread.id()
    }

    /// Whether its last holder died, and nobody has unlocked it since.
    #[inline]
    pub fn is_abandoned(&self) -> bool {
        self.looked_after().is_abandoned()
    }

    /// The process of its holder, if there is one.
    pub fn owner_pid(&self) -> Option<u32> {
        for _ in 0..LOOKS {
            let owner = self.looked_after().owner();
            if owner == 0 {
                break;
            }
            // The holder signs right after it takes the lock; until then the system knows.
            let pid = Some(self.inner().pid(owner)).filter(|&pid| pid != 0).or_else(|| process_of(owner));
            if pid.is_some() && self.inner().owner() == owner {
                return pid;
            }
        }
        None
    }

    /// How many threads wait to take it.
    pub fn waiters(&self) -> usize {
        waiters(&self.0, FOR_LOCK)
    }

    /// A name for `ConditionVariable::enter`.
    pub fn name(&self) -> u32 {
        self.0.name()
    }

    /// The condition that comes with the mutex.
    pub fn condition(&self) -> ConditionRef<'_> {
        // SAFETY: this slot is a mutex's: its condition follows the lock. All zeroes is a condition nobody waits for.
        ConditionRef { slot: &self.0, condition: unsafe { self.0.at(size_of::<Lock>()) } }
    }
}

/// Gives up all mutexes that the calling thread holds, as if it had died. For a thread that ends while its native
/// thread lives on.
pub fn release_held_as_dead(thread: &Thread) {
    release_dropped(thread);
    for entry in thread.held() {
        if arena::contains(entry.addr().get()) {
            // SAFETY: an entry in the arena that a thread has on its list is the end of a `Lock` it holds.
            unsafe { entry.byte_sub(Word::ENTRY).cast::<Lock>().as_ref() }.release_as_dead(thread);
        }
    }
}

/// Makes `heir` the holder of all mutexes that the calling thread, `holder`, holds. `heir` belongs to a `StandIn` of this
/// process, or is the calling thread where `holder` does.
pub fn transfer_held(holder: &Thread, heir: &Thread) {
    release_dropped(holder);
    for entry in holder.held().into_iter().rev() {
        if arena::contains(entry.addr().get()) {
            // SAFETY: as in `release_held_as_dead`.
            unsafe { entry.byte_sub(Word::ENTRY).cast::<Lock>().as_ref() }.transfer(holder, heir);
        }
    }
}

/// A mutex that is dropped while a thread of this process holds it is given up for that thread, which alone can take it
/// off its list: at once if that is the calling thread, else by `release_dropped`. Its memory stays until then.
impl Drop for Mutex {
    fn drop(&mut self) {
        let here = self.is_accessible() && self.owner_pid().is_some_and(|pid| pid == std::process::id());
        // SAFETY: the field is not used again.
        let slot = unsafe { ManuallyDrop::take(&mut self.0) };
        if here {
            arena::keep(slot);
            if let Some(thread) = Thread::known() {
                release_dropped(&thread);
            }
        }
    }
}

/// Gives up the dropped mutexes that the calling thread holds, and frees those that no thread of this process does.
fn release_dropped(thread: &Thread) {
    let pid = std::process::id();
    let due = arena::take_deferred(|slot| {
        let lock = lock_of(slot);
        let owner = lock.owner();
        !slot.is_accessible() || owner == thread.id() || owner == 0 || lock.pid(owner) != pid
    });
    for slot in due {
        if slot.is_accessible() && lock_of(&slot).owner() == thread.id() {
            lock_of(&slot).release_as_dead(thread);
        }
    }
}

/// The lock in a mutex's slot.
#[inline]
fn lock_of(slot: &Slot) -> &Lock {
    // SAFETY: the caller's slot is a mutex's: the lock is at 0. All zeroes is a free lock.
    unsafe { slot.at(0) }
}

impl Semaphore {
    /// A semaphore with `value` permits.
    ///
    /// # Errors
    /// `System` if there is no memory for it.
    pub fn new(value: u32) -> Result<Self> {
        let semaphore = Semaphore(Slot::new()?);
        semaphore.inner().start(value);
        Ok(semaphore)
    }

    #[inline]
    fn inner(&self) -> &Permits {
        // SAFETY: this slot is a semaphore's. All zeroes is one without permits.
        unsafe { self.0.at(0) }
    }

    /// As `Mutex::is_accessible`.
    #[inline]
    pub fn is_accessible(&self) -> bool {
        self.0.is_accessible()
    }

    /// Takes a permit if there is one.
    #[inline]
    pub fn try_wait(&self) -> bool {
        self.inner().try_wait()
    }

    /// Takes a permit if one comes within a few microseconds.
    pub fn wait_soon(&self) -> bool {
        self.0.spin.run(PAUSE, || self.inner().try_wait())
    }

    /// Takes a permit as soon as there is one.
    pub fn wait(&self, thread: &Thread, deadline: Option<Deadline>) -> Outcome {
        waiting(&self.0, thread, || self.inner().wait(thread, deadline))
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
        let place = self.0.table().enter(thread, roster_key(&self.0, FOR_LOCK), 0);
        let chance = self.inner().wait_for_chance(thread, deadline);
        match (chance, place) {
            (Ok(chance), place) => Ok(WaitedChance { chance, place }),
            (Err(outcome), place) => {
                if let Some(place) = place {
                    self.0.table().leave(thread, place);
                }
                Err(outcome)
            }
        }
    }

    /// Ends `wait_for_chance`: takes the permit if `take`, else leaves it to the next waiter. Returns whether it was taken;
    /// another thread may have been faster.
    pub fn settle_chance(&self, thread: &Thread, waited: WaitedChance, take: bool) -> bool {
        let taken = self.inner().settle_chance(thread, waited.chance, take);
        if let Some(place) = waited.place {
            self.0.table().leave(thread, place);
        }
        taken
    }

    /// Waits until there may be a permit, and leaves it to others: `Acquired` then.
    pub fn watch(&self, thread: &Thread, deadline: Option<Deadline>) -> Outcome {
        waiting(&self.0, thread, || self.inner().watch(thread, deadline))
    }

    /// Gives a permit.
    ///
    /// # Errors
    /// `Overflow` if there are `max` already.
    #[inline]
    pub fn post(&self, thread: &Thread, max: u32) -> std::result::Result<(), Overflow> {
        self.inner().post(thread, max)
    }

    /// The permits that are free.
    #[inline]
    pub fn value(&self) -> u32 {
        self.inner().value()
    }

    /// How many threads wait for a permit.
    pub fn waiters(&self) -> usize {
        waiters(&self.0, FOR_LOCK)
    }

    /// A name for `ConditionVariable::enter`.
    pub fn name(&self) -> u32 {
        self.0.name()
    }
}

impl ConditionVariable {
    /// A condition variable.
    ///
    /// # Errors
    /// `System` if there is no memory for it.
    pub fn new() -> Result<Self> {
        Slot::new().map(ConditionVariable)
    }

    /// As `Mutex::is_accessible`.
    #[inline]
    pub fn is_accessible(&self) -> bool {
        self.0.is_accessible()
    }

    /// The condition in it.
    pub fn condition(&self) -> ConditionRef<'_> {
        // SAFETY: this slot is a condition variable's.
        ConditionRef { slot: &self.0, condition: unsafe { self.0.at(0) } }
    }
}

/// A condition, its own or a mutex's, with the roster its waiters stand in.
#[derive(Clone, Copy)]
pub struct ConditionRef<'a> {
    slot: &'a Slot,
    condition: &'a Condition,
}

impl ConditionRef<'_> {
    fn key(self) -> u32 {
        roster_key(self.slot, FOR_CONDITION)
    }

    /// Begins a wait; see `Condition::enter`.
    ///
    /// # Errors
    /// `Invalid` if as many threads as the roster has room for are waiting.
    pub fn enter(self, thread: &Thread, mutex: u32) -> Result<Wait> {
        self.condition.enter(thread, self.slot.table(), self.key(), mutex).ok_or_else(|| {
            let capacity = crate::waiter_table::CAPACITY;
            Error::Ownership(format!("{capacity} threads are waiting already, more cannot be kept track of"))
        })
    }

    /// See `Condition::sleep`.
    pub fn sleep(self, thread: &Thread, wait: &mut Wait, deadline: Option<Deadline>) -> Outcome {
        self.condition.sleep(thread, self.slot.table(), wait, deadline)
    }

    /// See `Condition::rest`.
    pub fn rest(self, thread: &Thread, wait: &mut Wait) {
        self.condition.rest(thread, self.slot.table(), wait);
    }

    /// See `Condition::finish`.
    pub fn finish(self, thread: &Thread, wait: Wait) {
        self.condition.finish(thread, self.slot.table(), wait);
    }

    /// See `Condition::expire`.
    pub fn expire(self, thread: &Thread, wait: Wait) -> Option<Wait> {
        self.condition.expire(thread, self.slot.table(), wait)
    }

    /// See `Condition::leave`.
    pub fn leave(self, thread: &Thread, wait: Wait) {
        self.condition.leave(thread, self.slot.table(), wait);
    }

    /// Wakes the oldest wait.
    pub fn signal(self, thread: &Thread) {
        self.condition.signal(thread, self.slot.table(), self.key());
    }

    /// Wakes all waits.
    pub fn broadcast(self, thread: &Thread) {
        self.condition.broadcast(thread, self.slot.table(), self.key());
    }

    /// How many threads wait.
    pub fn waiters(self) -> usize {
        waiters(self.slot, FOR_CONDITION)
    }

    /// How many signals are on their way to a thread that has not ended its wait yet.
    pub fn granted(self) -> usize {
        self.slot.table().granted_count(self.key())
    }

    /// How many waits a broadcast has ended whose threads have not woken up yet.
    pub fn called(self) -> usize {
        self.slot.table().called_count(self.key())
    }
}
