//! Several permits at once. Those who want them stand in line (`turn`), and so do those who want one while others stand
//! there. The first takes the lock of the line, is its head, and claims what it wants: from then on each permit that is
//! given counts for the head, until it has all. It takes them in one step, and nobody who wants fewer overtakes it.
//!
//! The state says how many permits the head still misses, the spare word of the line's lock how many it wants. Only the
//! holder of that lock makes a claim or ends one. A claim that its holder finds is that of a head that died, and is
//! ended: what it had collected is free again. If nobody stands in line then, the next who finds the claim does it.

use super::{AVAILABLE, HEAD, MOST_AT_ONCE, Overflow, Permits, SINGLES, Semaphore};
use crate::atomic::Ordering::*;
use crate::deadline::Deadline;
use crate::kernel::Kernel;
use crate::lock::Outcome;
use crate::platform::Wake;
use crate::turn::Place;
use crate::word::{ANY_CLASS, WAITERS, futex_word};

impl Semaphore {
    /// How many permits the head of the line has claimed, according to these.
    pub(super) fn claimed(&self, permits: Permits) -> i64 {
        if permits.claimed { self.line.spare().load(Relaxed) as u32 as i64 } else { 0 }
    }

    /// Changes the permits as `change` says, if it does. Returns them as they were and as they are.
    fn update(
        &self,
        mut change: impl FnMut(Permits) -> Option<Permits>,
    ) -> Result<(Permits, Permits), Permits> {
        let mut state = self.word.state.load(Acquire);
        loop {
            let before = Permits::of(state);
            let after = change(before).ok_or(before)?;
            let next = after.state(futex_word(state) & WAITERS);
            match self.word.state.compare_exchange(state, next, AcqRel, Acquire) {
                Ok(_) => return Ok((before, after)),
                Err(now) => state = now,
            }
        }
    }

    /// Takes `count` permits if so many are free, and no head of the line waits for them.
    pub fn try_acquire<K: Kernel>(&self, kernel: &K, count: u32) -> bool {
        let wanted = i64::from(count);
        let take = |now: Permits| (now.balance >= wanted).then(|| now.plus(-wanted));
        match self.update(take) {
            Ok(_) => true,
            Err(seen) => self.end_claim_of_dead(kernel, seen) && self.update(take).is_ok(),
        }
    }

    /// Takes all permits that are free, and returns how many; also ends a debt, which it returns as a negative number.
    pub fn drain<K: Kernel>(&self, kernel: &K) -> i64 {
        let drained = |now: Permits| match now {
            Permits { claimed: true, balance } if balance < 0 => None,
            _ => Some(Permits { balance: 0, ..now }),
        };
        let mut result = self.update(drained);
        if let Err(seen) = result
            && self.end_claim_of_dead(kernel, seen)
        {
            result = self.update(drained);
        }
        result.map_or(0, |(before, _)| before.balance)
    }

    /// Takes `count` permits that are free, or will be.
    ///
    /// # Errors
    /// `Overflow` if there would be fewer than `least` then.
    pub fn reduce<K: Kernel>(&self, kernel: &K, count: u32, least: i64) -> Result<(), Overflow> {
        kernel.set_pending(&self.word);
        let reduced = self.update(|now| {
            let after = now.plus(-i64::from(count));
            (after.balance + self.claimed(now) >= least.max(-i64::from(MOST_AT_ONCE))).then_some(after)
        });
        if let Ok((_, Permits { claimed: false, balance: ..0 })) = reduced {
            kernel.wake(&self.word, i32::MAX, ANY_CLASS); // nobody sleeps while there is a debt: they stand in line
        }
        kernel.clear_pending();
        reduced.map(|_| ()).map_err(|_| Overflow)
    }

    /// Sleeps until `count` permits are there, and takes them; unless `take`, leaves them to others instead. `place` is the
    /// thread's, among those who wait for permits.
    #[cold]
    pub fn wait_for<K: Kernel>(
        &self,
        kernel: &K,
        place: Place<'_>,
        count: u32,
        deadline: Option<Deadline>,
        take: bool,
    ) -> Outcome {
        if count == 1
            && let Some(outcome) = self.await_permit(kernel, deadline, take)
        {
            return outcome;
        }
        match place.await_turn(kernel, deadline) {
            Outcome::Acquired => {}
            outcome => return outcome,
        }
        if !self.line.try_lock(kernel) {
            match self.line.lock(kernel, deadline) {
                Outcome::Acquired => {}
                outcome => return outcome,
            }
        }
        kernel.set_pending(&self.word);
        self.put_line_in_order(kernel);
        let outcome = self.lead(kernel, count, deadline, take);
        kernel.clear_pending();
        self.line.unlock(kernel);
        outcome
    }

    /// At the head of the line, with the semaphore pending.
    fn lead<K: Kernel>(&self, kernel: &K, count: u32, deadline: Option<Deadline>, take: bool) -> Outcome {
        let wanted = i64::from(count);
        self.line.spare().store(count.into(), Relaxed);
        let claim = |now: Permits| Some(Permits { claimed: true, balance: now.balance - wanted });
        if let Ok((_, Permits { balance: ..0, .. })) = self.update(claim) {
            kernel.wake(&self.word, i32::MAX, SINGLES); // they stand in line from now on
        }
        let outcome = loop {
            let state = self.word.state.load(Acquire);
            if futex_word(state) & AVAILABLE != 0 {
                let granted = |now: Permits| {
                    let left = if take { now.balance } else { now.balance + wanted };
                    (now.balance >= 0).then_some(Permits { claimed: false, balance: left })
                };
                if let Ok((_, left)) = self.update(granted) {
                    self.pass_on(kernel, left);
                    return Outcome::Acquired;
                }
                continue; // others have reduced the permits
            }
            match kernel.wait_or_recheck(&self.word, WAITERS, deadline, HEAD) {
                Wake::Woken => {}
                Wake::TimedOut => break Outcome::TimedOut,
                Wake::Interrupted => break Outcome::Interrupted,
            }
        };
        self.end_claim(kernel);
        outcome
    }

    /// Called by the holder of the line, with the semaphore pending: gives back what a claim has collected.
    fn end_claim<K: Kernel>(&self, kernel: &K) {
        let end = |now: Permits| {
            now.claimed.then(|| Permits { claimed: false, balance: now.balance + self.claimed(now) })
        };
        if let Ok((_, left)) = self.update(end) {
            self.pass_on(kernel, left);
        }
    }

    /// A claim has ended: lets the others go on that may have fallen asleep meanwhile.
    fn pass_on<K: Kernel>(&self, kernel: &K, left: Permits) {
        match left.balance {
            0 => {}
            1.. => drop(kernel.wake(&self.word, 1, SINGLES)),
            // Nobody sleeps while there is a debt: they stand in line.
            _ => drop(kernel.wake(&self.word, i32::MAX, SINGLES)),
        }
    }

    /// Called by a thread that has just taken the line, with the semaphore pending.
    fn put_line_in_order<K: Kernel>(&self, kernel: &K) {
        self.end_claim(kernel);
        if self.line.is_abandoned() {
            self.line.make_consistent();
        }
    }

    /// Ends a claim that was `seen`, if the head of the line is dead. Whether there was one to end.
    #[cold]
    fn end_claim_of_dead<K: Kernel>(&self, kernel: &K, seen: Permits) -> bool {
        self.line.reap_if_owner_dead::<K>();
        if !seen.claimed || !self.line.try_lock(kernel) {
            return false;
        }
        kernel.set_pending(&self.word);
        self.put_line_in_order(kernel);
        kernel.clear_pending();
        self.line.unlock(kernel);
        true
    }
}
