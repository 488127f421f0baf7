//! A rate limit for all processes, by the generic cell rate algorithm (ITU-T I.371): one word, the moment up to which
//! permits have been given away, in nanoseconds on the monotonic clock.
//!
//! | word, seen at `now`      | meaning                                                              |
//! |--------------------------|----------------------------------------------------------------------|
//! | up to `now`              | the whole burst is free                                              |
//! | up to `now + tolerance`  | the burst is free but for what `word - now` pays for                 |
//! | later                    | nothing is free, and threads wait for what they have reserved        |
//!
//! A permit costs the time in which the rate makes one, and the tolerance is the cost of a burst. A thread that takes
//! permits moves the word on by their cost, from now if the word is in the past, in one step. The permits are due when the
//! word is no later than `now + tolerance`; a thread that has to wait moves the word first, and sleeps until then. So
//! permits come in the order of the reservations, and nobody starves.
//!
//! Invariant: the costs of all permits, each ending where the word was moved to, do not overlap. So in any time there are
//! at most a burst and what the rate makes in that time. A death costs what the dead thread had taken or reserved.
//!
//! The clock stands still while the machine sleeps. With a clock that goes on, all waiters would come at once afterwards.

use crate::atomic::{AtomicU64, Ordering::*};
use crate::word::Word;
#[cfg(test)]
use std::mem::offset_of;

/// The longest tolerance: as many nanoseconds as an `f64` counts exactly, which is 104 days.
pub const MAX_TOLERANCE: f64 = (1_u64 << 53) as f64;

/// All zeroes is the limiter of no rate: `start` has to follow.
#[derive(Default)]
#[repr(C)]
pub struct Limiter {
    /// What threads sleep on that wait for their time: nobody changes or wakes it.
    pub sleep: Word,
    taken_until: AtomicU64,
    /// Nanoseconds for one permit, and for a burst; the bits of an `f64`.
    cost: AtomicU64,
    tolerance: AtomicU64,
}

/// As `participants::layout`.
#[cfg(test)]
pub fn layout() -> Vec<(&'static str, usize)> {
    vec![
        ("taken until", offset_of!(Limiter, taken_until)),
        ("cost", offset_of!(Limiter, cost)),
        ("tolerance", offset_of!(Limiter, tolerance)),
    ]
}

/// Permits that are due at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Nanoseconds on the monotonic clock.
    pub due: u64,
    until: u64,
    cost: u64,
}

impl Limiter {
    /// Sets the rate of a limiter that nobody else knows yet.
    pub fn start(&self, cost: f64, tolerance: f64) {
        self.cost.store(cost.to_bits(), Relaxed);
        self.tolerance.store(tolerance.to_bits(), Relaxed);
    }

    /// Puts the limiter of that rate in order when no process uses it. What nobody waits for any more is free again:
    /// permits that were due later than `now`.
    pub fn recover(&self, cost: f64, tolerance: f64, now: u64) {
        self.start(cost, tolerance);
        self.sleep.recover(0);
        let latest = now.saturating_add(tolerance as u64);
        self.taken_until.store(self.taken_until.load(Relaxed).min(latest), Relaxed);
    }

    fn tolerance(&self) -> u64 {
        f64::from_bits(self.tolerance.load(Relaxed)) as u64
    }

    /// Rounded up, so that the rate is never exceeded.
    fn cost(&self, permits: u64) -> u64 {
        (permits as f64 * f64::from_bits(self.cost.load(Relaxed))).ceil() as u64
    }

    /// The most permits that can be taken at once.
    pub fn burst(&self) -> f64 {
        f64::from_bits(self.tolerance.load(Relaxed)) / f64::from_bits(self.cost.load(Relaxed))
    }

    /// Takes permits that are due at `latest` or sooner. None, and nothing is changed, if they come later.
    #[inline]
    pub fn reserve(&self, permits: u64, now: u64, latest: u64) -> Option<Reservation> {
        let (cost, tolerance) = (self.cost(permits), self.tolerance());
        let mut taken = self.taken_until.load(Relaxed);
        loop {
            let until = taken.max(now).saturating_add(cost);
            let due = until.saturating_sub(tolerance).max(now);
            if due > latest {
                return None;
            }
            match self.taken_until.compare_exchange(taken, until, AcqRel, Relaxed) {
                Ok(_) => return Some(Reservation { due, until, cost }),
                Err(then) => taken = then,
            }
        }
    }

    /// Gives back what was reserved, unless others have reserved since: they sleep until a time of their own, and the
    /// permits are lost. Returns whether it did.
    pub fn give_back(&self, reservation: Reservation) -> bool {
        let Reservation { until, cost, .. } = reservation;
        self.taken_until.compare_exchange(until, until.saturating_sub(cost), AcqRel, Relaxed).is_ok()
    }

    /// Nanoseconds until as many permits are due.
    pub fn retry_after(&self, permits: u64, now: u64) -> u64 {
        let until = self.taken_until.load(Acquire).max(now).saturating_add(self.cost(permits));
        until.saturating_sub(self.tolerance()).saturating_sub(now)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Ten a second, three at once.
    fn limiter() -> Limiter {
        let limiter = Limiter::default();
        limiter.start(1e8, 3e8);
        limiter
    }

    fn takes(limiter: &Limiter, permits: u64, now: u64) -> bool {
        limiter.reserve(permits, now, now).is_some()
    }

    #[test]
    fn a_burst_and_then_the_rate() {
        let limiter = limiter();
        let given = (0..5 * SECOND).step_by(1_000_000).filter(|now| takes(&limiter, 1, SECOND + now)).count();
        assert_eq!(given, 3 + 49);
    }

    #[test]
    fn a_rest_gives_no_more_than_a_burst() {
        let limiter = limiter();
        assert!(takes(&limiter, 3, SECOND) && !takes(&limiter, 1, SECOND));
        assert!(takes(&limiter, 3, 100 * SECOND) && !takes(&limiter, 1, 100 * SECOND));
    }

    #[test]
    fn several_are_taken_at_once_or_not_at_all() {
        let limiter = limiter();
        assert!(takes(&limiter, 2, SECOND) && !takes(&limiter, 2, SECOND) && takes(&limiter, 1, SECOND));
        assert_eq!(limiter.retry_after(2, SECOND), 200_000_000);
    }

    #[test]
    fn reservations_are_due_one_after_the_other() {
        let limiter = limiter();
        assert!(takes(&limiter, 3, SECOND));
        let due = |latest| limiter.reserve(1, SECOND, latest).map(|it| it.due - SECOND);
        assert_eq!([due(u64::MAX), due(u64::MAX)], [Some(100_000_000), Some(200_000_000)]);
        assert_eq!(due(SECOND + 299_999_999), None);
        assert!(!takes(&limiter, 1, SECOND + 200_000_000) && takes(&limiter, 1, SECOND + 300_000_000));
    }

    #[test]
    fn the_last_reservation_can_be_given_back() {
        let limiter = limiter();
        assert!(takes(&limiter, 3, SECOND));
        let [first, second] = [(); 2].map(|()| limiter.reserve(1, SECOND, u64::MAX).unwrap());
        assert!(!limiter.give_back(first));
        assert!(limiter.give_back(second) && limiter.give_back(first));
        assert_eq!(limiter.retry_after(1, SECOND), 100_000_000);
    }

    #[test]
    fn what_the_dead_had_reserved_is_free_again_and_what_they_took_is_not() {
        let limiter = limiter();
        assert!(takes(&limiter, 3, SECOND));
        (0..9).for_each(|_| assert!(limiter.reserve(1, SECOND, u64::MAX).is_some()));
        limiter.recover(1e8, 3e8, SECOND + 50_000_000);
        assert_eq!(limiter.retry_after(1, SECOND + 50_000_000), 100_000_000);
        let partly = self::limiter();
        assert!(takes(&partly, 2, SECOND));
        partly.recover(1e8, 3e8, SECOND);
        assert!(takes(&partly, 1, SECOND) && !takes(&partly, 1, SECOND));
    }

    #[test]
    fn a_fraction_of_a_nanosecond_is_not_given_away() {
        let limiter = Limiter::default();
        limiter.start(1e9 / 3.0, 1e9);
        let given = (0..10 * SECOND).step_by(100_000).filter(|now| takes(&limiter, 1, SECOND + now)).count();
        assert_eq!(given, 3 + 29);
    }
}
