//! A counting semaphore whose permits and wake-ups survive the death of any waiter or poster.
//!
//! The other half of the state is the number of free permits. The word says what the kernel needs:
//!
//! | word                    | meaning                                          |
//! |-------------------------|--------------------------------------------------|
//! | 0                       | no permit, nobody asleep                         |
//! | AVAILABLE               | permits, nobody asleep                           |
//! | WAITERS                 | no permit, somebody may be asleep                |
//! | AVAILABLE, WAITERS      | permits, somebody may still be asleep            |
//!
//! Its owner bits are always 0: so when a thread dies that has the semaphore pending, the kernel wakes one waiter, which
//! finds a permit or sleeps again. Waiters, and posters that have to wake one, have it pending, so a permit is never
//! free while everybody sleeps.
//!
//! Invariant: if anybody sleeps, WAITERS is set, or a woken waiter is on its way that will set it. That waiter passes
//! the wake-up on when it leaves permits behind.
//!
//! Memory order: a permit taken (Acquire) sees what came before the post that gave it (Release).

use crate::atomic::{AtomicU64, Ordering::*};
use crate::deadline::Deadline;
use crate::kernel::Kernel;
use crate::lock::Outcome;
use crate::platform::Wake;
use crate::word::{ANY_CLASS, OWNER_DIED, WAITERS, Word, aux, futex_word, pack};

const AVAILABLE: u32 = OWNER_DIED; // the kernel gives this bit no meaning in a word that names nobody

/// The most permits a semaphore can have.
pub const MAX: u32 = i32::MAX as u32;

/// A post would have gone over the maximum; nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overflow;

/// What `wait_for_chance` hands to `settle_chance`.
#[must_use]
pub struct Chance {
    /// WAITERS once the waiter slept: others may sleep too, and the flag may have been cleared for the waiter.
    flag: u32,
}

/// All zeroes is a semaphore without permits.
#[derive(Default)]
#[repr(transparent)]
pub struct Semaphore(Word);

const fn permits(count: u32, waiters: u32) -> u64 {
    pack(if count == 0 { waiters } else { waiters | AVAILABLE }, count)
}

impl Semaphore {
    /// Sets the permits of a semaphore that nobody else knows yet.
    pub fn start(&self, value: u32) {
        self.0.state.store(permits(value, 0), Relaxed);
    }

    /// Puts the semaphore in order when no process uses it. It keeps its permits, of which it has at most `max`.
    pub fn recover(&self, max: u32) {
        self.0.recover(permits(self.value().min(max), 0));
    }

    /// Takes a permit if one is free.
    #[inline]
    pub fn try_wait(&self) -> bool {
        let mut state = self.0.state.load(Relaxed);
        loop {
            let count = aux(state);
            if count == 0 {
                return false;
            }
            match self.0.state.compare_exchange(
                state,
                permits(count - 1, futex_word(state) & WAITERS),
                Acquire,
                Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
    }

    /// Takes a permit as soon as there is one; sleeps until then.
    #[cold]
    pub fn wait<K: Kernel>(&self, kernel: &K, deadline: Option<Deadline>) -> Outcome {
        self.await_permit(kernel, deadline, true)
    }

    /// Sleeps until there is a permit, and wakes the next waiter instead of taking it: `Acquired` then.
    #[cold]
    pub fn wait_until_available<K: Kernel>(&self, kernel: &K, deadline: Option<Deadline>) -> Outcome {
        self.await_permit(kernel, deadline, false)
    }

    fn await_permit<K: Kernel>(&self, kernel: &K, deadline: Option<Deadline>, take: bool) -> Outcome {
        let mut flag = 0; // WAITERS once we slept: others may sleep too, and the flag may have been cleared for us
        kernel.set_pending(&self.0);
        let outcome = loop {
            let state = self.0.state.load(Relaxed);
            let (flags, count) = (futex_word(state), aux(state));
            if count > 0 {
                let left = permits(count - u32::from(take), flags & WAITERS | flag);
                if self.0.state.compare_exchange(state, left, Acquire, Relaxed).is_err() {
                    continue;
                }
                if flag != 0 && aux(left) > 0 {
                    kernel.wake(&self.0, 1, ANY_CLASS);
                }
                break Outcome::Acquired;
            }
            if flags != WAITERS
                && self.0.state.compare_exchange(state, permits(0, WAITERS), Relaxed, Relaxed).is_err()
            {
                continue;
            }
            match kernel.wait_or_recheck(&self.0, WAITERS, deadline, ANY_CLASS) {
                Wake::Woken => flag = WAITERS,
                Wake::TimedOut => break Outcome::TimedOut,
                Wake::Interrupted => break Outcome::Interrupted,
            }
        };
        kernel.clear_pending();
        outcome
    }

    /// Sleeps until there is a permit, and leaves it there: for a caller that cannot take it yet. The semaphore stays in the
    /// pending slot, so that a wake-up does not die with the caller: `settle_chance` has to follow.
    #[cold]
    pub fn wait_for_chance<K: Kernel>(
        &self,
        kernel: &K,
        deadline: Option<Deadline>,
    ) -> Result<Chance, Outcome> {
        let mut flag = 0; // as in `await_permit`
        kernel.set_pending(&self.0);
        let outcome = loop {
            let state = self.0.state.load(Relaxed);
            let (flags, count) = (futex_word(state), aux(state));
            if count > 0 {
                return Ok(Chance { flag });
            }
            if flags != WAITERS
                && self.0.state.compare_exchange(state, permits(0, WAITERS), Relaxed, Relaxed).is_err()
            {
                continue;
            }
            match kernel.wait_or_recheck(&self.0, WAITERS, deadline, ANY_CLASS) {
                Wake::Woken => flag = WAITERS,
                Wake::TimedOut => break Outcome::TimedOut,
                Wake::Interrupted => break Outcome::Interrupted,
            }
        };
        kernel.clear_pending();
        Err(outcome)
    }

    /// Ends `wait_for_chance`: takes a permit if `take` and there still is one, and tells whether it did. A permit that is
    /// left wakes the next waiter.
    #[cold]
    pub fn settle_chance<K: Kernel>(&self, kernel: &K, chance: Chance, take: bool) -> bool {
        let mut state = self.0.state.load(Relaxed);
        let (taken, left) = loop {
            let taken = take && aux(state) > 0;
            let left = permits(aux(state) - u32::from(taken), futex_word(state) & WAITERS | chance.flag);
            match self.0.state.compare_exchange(state, left, Acquire, Relaxed) {
                Ok(_) => break (taken, aux(left)),
                Err(now) => state = now,
            }
        };
        if left > 0 && (chance.flag != 0 || !taken) {
            kernel.wake(&self.0, 1, ANY_CLASS);
        }
        kernel.clear_pending();
        taken
    }

    /// Gives a permit, unless there are `max` already.
    #[inline]
    pub fn post<K: Kernel>(&self, kernel: &K, max: u32) -> Result<(), Overflow> {
        let state = self.0.state.load(Relaxed);
        if futex_word(state) & WAITERS == 0 && aux(state) < max {
            let next = permits(aux(state) + 1, 0);
            if self.0.state.compare_exchange(state, next, Release, Relaxed).is_ok() {
                return Ok(());
            }
        }
        self.post_and_wake(kernel, max)
    }

    #[cold]
    fn post_and_wake<K: Kernel>(&self, kernel: &K, max: u32) -> Result<(), Overflow> {
        kernel.set_pending(&self.0);
        let mut state = self.0.state.load(Relaxed);
        let posted = loop {
            if aux(state) >= max {
                break Err(Overflow);
            }
            let next = permits(aux(state) + 1, futex_word(state) & WAITERS);
            match self.0.state.compare_exchange(state, next, Release, Relaxed) {
                Ok(_) => break Ok(next),
                Err(now) => state = now,
            }
        };
        let posted = posted.map(|next| {
            if futex_word(next) & WAITERS != 0 && kernel.wake(&self.0, 1, ANY_CLASS) == 0 {
                // Nobody slept. A thread that sleeps since then is woken by a later post, and restores the flag.
                let _ = self.0.state.compare_exchange(next, permits(aux(next), 0), Relaxed, Relaxed);
            }
        });
        kernel.clear_pending();
        posted
    }

    /// A word for the use of the semaphore's owner object.
    pub fn spare(&self) -> &AtomicU64 {
        &self.0.spare
    }

    /// The permits free at this moment.
    #[inline]
    pub fn value(&self) -> u32 {
        aux(self.0.state.load(Relaxed))
    }
}
