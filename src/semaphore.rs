//! A counting semaphore whose permits and wake-ups survive the death of any waiter or poster.
//!
//! The other half of the state holds a number of permits. The word says what the kernel needs, and, with CLAIMED in the
//! other half, what the number means:
//!
//! | word               | other half       | meaning                                                                |
//! |--------------------|------------------|------------------------------------------------------------------------|
//! | 0                  | 0                | no permit, nobody asleep                                               |
//! | AVAILABLE          | count            | permits, nobody asleep                                                 |
//! | WAITERS            | 0                | no permit, somebody may be asleep                                      |
//! | AVAILABLE, WAITERS | count            | permits, somebody may still be asleep                                  |
//! | 0                  | CLAIMED, debt    | fewer permits than none: so many posts give none yet; nobody asleep    |
//! | WAITERS            | CLAIMED, missing | the head of the line waits for so many more                            |
//! | AVAILABLE, WAITERS | CLAIMED, count   | the head of the line has all it wants, and so many are free besides    |
//!
//! Its owner bits are always 0: so when a thread dies that has the semaphore pending, the kernel wakes one waiter, which
//! finds a permit or sleeps again. Waiters, and posters that have to wake one, have it pending, so a permit is never
//! free while everybody sleeps.
//!
//! Invariant: if anybody sleeps, WAITERS is set, or a woken waiter is on its way that will set it. That waiter passes
//! the wake-up on when it leaves permits behind.
//!
//! `line` is about those who want several permits at once.
//!
//! Memory order: a permit taken (Acquire) sees what came before the post that gave it (Release).

mod line;

use crate::atomic::{AtomicU64, Ordering::*};
use crate::deadline::Deadline;
use crate::kernel::Kernel;
use crate::lock::{Lock, Outcome};
use crate::platform::Wake;
use crate::word::{OWNER_DIED, WAITERS, Word, aux, futex_word, pack};

const AVAILABLE: u32 = OWNER_DIED; // the kernel gives this bit no meaning in a word that names nobody
const CLAIMED: u32 = 1 << 31;

/// Classes of sleepers: those that take one permit, and the head of the line.
const SINGLES: u32 = 1;
const HEAD: u32 = 2;

/// The most permits a semaphore can have.
pub const MAX: u32 = i32::MAX as u32;

/// The most that can be taken at once, and the largest debt.
pub const MOST_AT_ONCE: u32 = MAX / 2;

/// A post would have gone over the maximum, or a reduction too far below 0; nothing was changed.
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
#[repr(C)]
pub struct Semaphore {
    word: Word,
    /// Held by the head of the line. Its spare word is how many permits the head has claimed.
    line: Lock,
}

/// As `participants::layout`.
#[cfg(test)]
pub fn layout() -> Vec<(&'static str, usize)> {
    use std::mem::offset_of;
    vec![
        ("word", offset_of!(Semaphore, word)),
        ("line", offset_of!(Semaphore, line)),
        ("available", AVAILABLE as usize),
        ("claimed", CLAIMED as usize),
    ]
}

const fn permits(count: u32, waiters: u32) -> u64 {
    pack(if count == 0 { waiters } else { waiters | AVAILABLE }, count)
}

/// What a state says of permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Permits {
    /// The head of the line has claimed some.
    claimed: bool,
    /// The permits that are free, less those that are claimed.
    balance: i64,
}

impl Permits {
    fn of(state: u64) -> Self {
        let number = i64::from(aux(state) & !CLAIMED);
        let is_short = aux(state) & CLAIMED != 0 && futex_word(state) & AVAILABLE == 0;
        Permits {
            claimed: aux(state) & CLAIMED != 0 && futex_word(state) & (AVAILABLE | WAITERS) != 0,
            balance: if is_short { -number } else { number },
        }
    }

    /// The state, with these `waiters`. Where permits are claimed the flag is always set, and with a debt never.
    fn state(self, waiters: u32) -> u64 {
        let number = self.balance.unsigned_abs() as u32 & !CLAIMED;
        match (self.claimed, self.balance < 0) {
            (true, true) => pack(WAITERS, CLAIMED | number),
            (true, false) => pack(WAITERS | AVAILABLE, CLAIMED | number),
            (false, true) => pack(0, CLAIMED | number),
            (false, false) => permits(number, waiters),
        }
    }

    fn plus(self, count: i64) -> Self {
        Permits { balance: self.balance + count, ..self }
    }
}

impl Semaphore {
    /// Sets the permits of a semaphore that nobody else knows yet.
    pub fn start(&self, value: u32) {
        self.word.state.store(permits(value, 0), Relaxed);
    }

    /// Puts the semaphore in order when no process uses it. It keeps its permits, of which it has at most `max`.
    pub fn recover(&self, max: u32) {
        let value = self.value().clamp(-i64::from(MOST_AT_ONCE), i64::from(max));
        self.word.recover(Permits { claimed: false, balance: value }.state(0));
        self.line.recover();
    }

    /// Takes a permit if one is free.
    #[inline]
    pub fn try_wait(&self) -> bool {
        let mut state = self.word.state.load(Relaxed);
        loop {
            let count = aux(state);
            if count as i32 <= 0 {
                return false; // claimed permits and debts are negative
            }
            match self.word.state.compare_exchange(
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

    /// Sleeps until there is a permit. `None` where the waiter has to stand in line, because others do, or posts give no
    /// permits for a while.
    fn await_permit<K: Kernel>(&self, kernel: &K, deadline: Option<Deadline>, take: bool) -> Option<Outcome> {
        let mut flag = 0; // WAITERS once we slept: others may sleep too, and the flag may have been cleared for us
        kernel.set_pending(&self.word);
        let outcome = loop {
            let state = self.word.state.load(Relaxed);
            let (flags, count) = (futex_word(state), aux(state));
            if count & CLAIMED != 0 {
                if flag != 0 {
                    kernel.wake(&self.word, 1, HEAD); // the wake-up may have been meant for the head of the line
                }
                break None;
            }
            if count > 0 {
                let left = permits(count - u32::from(take), flags & WAITERS | flag);
                if self.word.state.compare_exchange(state, left, Acquire, Relaxed).is_err() {
                    continue;
                }
                if flag != 0 && aux(left) > 0 {
                    kernel.wake(&self.word, 1, SINGLES);
                }
                break Some(Outcome::Acquired);
            }
            if flags != WAITERS
                && self.word.state.compare_exchange(state, permits(0, WAITERS), Relaxed, Relaxed).is_err()
            {
                continue;
            }
            match kernel.wait_or_recheck(&self.word, WAITERS, deadline, SINGLES) {
                Wake::Woken => flag = WAITERS,
                Wake::TimedOut => break Some(Outcome::TimedOut),
                Wake::Interrupted => break Some(Outcome::Interrupted),
            }
        };
        kernel.clear_pending();
        outcome
    }

    /// Sleeps until there is a permit, and leaves it there: for a caller that cannot take it yet. The semaphore stays in the
    /// pending slot, so that a wake-up does not die with the caller: `settle_chance` has to follow. For a semaphore with at
    /// most one permit, which nobody claims.
    #[cold]
    pub fn wait_for_chance<K: Kernel>(
        &self,
        kernel: &K,
        deadline: Option<Deadline>,
    ) -> Result<Chance, Outcome> {
        let mut flag = 0; // as in `await_permit`
        kernel.set_pending(&self.word);
        let outcome = loop {
            let state = self.word.state.load(Relaxed);
            if Permits::of(state).balance > 0 {
                return Ok(Chance { flag });
            }
            if futex_word(state) != WAITERS
                && self.word.state.compare_exchange(state, permits(0, WAITERS), Relaxed, Relaxed).is_err()
            {
                continue;
            }
            match kernel.wait_or_recheck(&self.word, WAITERS, deadline, SINGLES) {
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
        let mut state = self.word.state.load(Relaxed);
        let (taken, left) = loop {
            let there = Permits::of(state);
            let taken = take && there.balance > 0;
            let left = there.plus(-i64::from(taken));
            let next = left.state(futex_word(state) & WAITERS | chance.flag);
            match self.word.state.compare_exchange(state, next, Acquire, Relaxed) {
                Ok(_) => break (taken, left),
                Err(now) => state = now,
            }
        };
        if left.balance > 0 && (chance.flag != 0 || !taken) {
            kernel.wake(&self.word, 1, SINGLES);
        }
        kernel.clear_pending();
        taken
    }

    /// Gives a permit if nobody has to be woken for it, and there are fewer than `max`.
    #[inline]
    pub fn try_post(&self, max: u32) -> bool {
        let state = self.word.state.load(Relaxed);
        let next = permits(aux(state).wrapping_add(1), 0);
        futex_word(state) & WAITERS == 0
            && aux(state) < max
            && self.word.state.compare_exchange(state, next, Release, Relaxed).is_ok()
    }

    /// Gives a permit, unless there are `max` already.
    #[inline]
    pub fn post<K: Kernel>(&self, kernel: &K, max: u32) -> Result<(), Overflow> {
        if self.try_post(max) { Ok(()) } else { self.post_many(kernel, 1, max) }
    }

    /// Gives `count` permits in one step, unless there would be more than `max`.
    #[cold]
    pub fn post_many<K: Kernel>(&self, kernel: &K, count: u32, max: u32) -> Result<(), Overflow> {
        kernel.set_pending(&self.word);
        let mut state = self.word.state.load(Relaxed);
        let posted = loop {
            let before = Permits::of(state);
            let after = before.plus(i64::from(count));
            if after.balance + self.claimed(before) > i64::from(max) {
                break Err(Overflow);
            }
            let next = after.state(futex_word(state) & WAITERS);
            match self.word.state.compare_exchange(state, next, Release, Relaxed) {
                Ok(_) => break Ok((before, after, next)),
                Err(now) => state = now,
            }
        };
        let posted = posted.map(|(before, after, next)| {
            let completes_claim = after.claimed && before.balance < 0 && after.balance >= 0;
            let has_sleepers = !after.claimed && after.balance > 0 && futex_word(next) & WAITERS != 0;
            if completes_claim {
                kernel.wake(&self.word, 1, HEAD);
            } else if has_sleepers && kernel.wake(&self.word, count.min(MAX) as i32, SINGLES) == 0 {
                // Nobody slept. A thread that sleeps since then is woken by a later post, and restores the flag.
                let _ = self.word.state.compare_exchange(next, after.state(0), Relaxed, Relaxed);
            }
        });
        kernel.clear_pending();
        posted
    }

    /// A word for the use of the semaphore's owner object.
    pub fn spare(&self) -> &AtomicU64 {
        &self.word.spare
    }

    /// The permits free at this moment; negative if posts give none for a while.
    #[inline]
    pub fn value(&self) -> i64 {
        loop {
            let state = self.word.state.load(Acquire);
            let permits = Permits::of(state);
            let value = permits.balance + self.claimed(permits);
            if !permits.claimed || self.word.state.load(Relaxed) == state {
                return value;
            }
        }
    }
}
