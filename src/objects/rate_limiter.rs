//! A limit on how often something is done, over all processes.

use super::{SharedObject, count, counted, waiters_of};
use crate::arena::Slot;
use crate::deadline::{Deadline, now};
use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::limiter::{Limiter, MAX_TOLERANCE, Reservation};
use crate::lock::Outcome;
use crate::participants::Party;
use crate::platform::{Thread, Wake};
use crate::word::ANY_CLASS;
use std::path::Path;
use std::ptr::NonNull;
use std::time::Duration;

/// A rate of permits.
#[derive(Debug)]
pub struct RateLimiter(Slot);

fn nanoseconds() -> u64 {
    u64::try_from(now().as_nanos()).unwrap_or(u64::MAX)
}

fn positive(value: f64, name: &str) -> Result<()> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(Error::Invalid(format!("{name} must be a positive number, not {value}")))
}

/// How many permits there are.
#[derive(Clone, Debug)]
pub struct Rate {
    /// Nanoseconds for one permit, and for a burst.
    cost: f64,
    tolerance: f64,
    /// In words: limiters of one rate have the same.
    words: String,
}

impl Rate {
    /// At most `rate` permits in `per` seconds, and `burst` of them at once.
    ///
    /// # Errors
    /// `Invalid` for numbers that are not positive, a burst below 1, one that takes longer than 104 days, and more than a
    /// permit in a nanosecond.
    pub fn new(rate: f64, per: f64, burst: f64) -> Result<Self> {
        positive(rate, "rate")?;
        positive(per, "per")?;
        positive(burst, "burst")?;
        if burst < 1.0 {
            return Err(Error::Invalid(format!("burst must be at least 1, not {burst}")));
        }
        let cost = per / rate * 1e9;
        let tolerance = (burst * cost).ceil();
        if cost < 1.0 {
            return Err(Error::Invalid(format!(
                "a rate of {rate} per {per} s is more than 1 per nanosecond"
            )));
        }
        if tolerance > MAX_TOLERANCE {
            return Err(Error::Invalid(format!(
                "{burst} at once, at a rate of {rate} per {per} s, take more than 104 days"
            )));
        }
        Ok(Rate { cost, tolerance, words: format!("{} in a second, burst {burst}", rate / per) })
    }
}

impl RateLimiter {
    /// A limiter from which nothing has been taken.
    ///
    /// # Errors
    /// `System` if there is no memory for it.
    pub fn new(rate: &Rate) -> Result<Self> {
        let limiter = RateLimiter(Slot::new()?);
        limiter.limiter().start(rate.cost, rate.tolerance);
        Ok(limiter)
    }

    /// The limiter of that rate in the file at `path`, of `class`: opened, or made with `mode`.
    ///
    /// # Errors
    /// As `Slot::in_file`.
    pub fn in_file(path: &Path, mode: u32, class: &str, rate: &Rate) -> Result<Self> {
        let &Rate { cost, tolerance, ref words } = rate;
        // SAFETY: the slot of a limiter, which is mapped as long as these run.
        let limiter = |slot: NonNull<u8>| unsafe { slot.cast::<Limiter>().as_ref() };
        let start = |slot| limiter(slot).start(cost, tolerance);
        let recover = |slot| limiter(slot).recover(cost, tolerance, nanoseconds());
        Slot::in_file(path, mode, class, words, start, recover).map(RateLimiter)
    }

    #[inline]
    fn limiter(&self) -> &Limiter {
        // SAFETY: this slot is a limiter's. All zeroes is one without a rate.
        unsafe { self.0.at(0) }
    }

    fn waiting(&self) -> Party<'_> {
        waiters_of(&self.0, self.limiter().sleep.spare())
    }

    /// The most permits that can be taken at once.
    pub fn burst(&self) -> f64 {
        self.limiter().burst()
    }

    /// Takes permits if they are due now.
    #[inline]
    pub fn try_acquire(&self, permits: u64) -> bool {
        let now = nanoseconds();
        self.limiter().reserve(permits, now, now).is_some()
    }

    /// Takes permits that are due before `deadline`; the caller has to wait until then. None if they are due later.
    pub fn reserve(&self, permits: u64, deadline: Option<Deadline>) -> Option<Reservation> {
        let now = nanoseconds();
        let left = deadline.and_then(|deadline| u64::try_from(deadline.remaining().as_nanos()).ok());
        self.limiter().reserve(permits, now, left.map_or(u64::MAX, |left| now.saturating_add(left)))
    }

    /// Gives back what was reserved, if nobody has reserved since.
    pub fn give_back(&self, reservation: Reservation) -> bool {
        self.limiter().give_back(reservation)
    }

    /// How long it takes until a permit can be had.
    pub fn retry_after(&self) -> Duration {
        Duration::from_nanos(self.limiter().retry_after(1, nanoseconds()))
    }

    /// Sleeps until `due`: `Acquired` then.
    pub fn rest(&self, thread: &Thread, due: Option<Deadline>) -> Outcome {
        let sleep = || loop {
            if due.is_some_and(Deadline::has_passed) {
                return Outcome::Acquired;
            }
            if thread.wait(&self.limiter().sleep, 0, due, ANY_CLASS) == Wake::Interrupted {
                return Outcome::Interrupted;
            }
        };
        counted(self.waiting(), thread, sleep)
    }

    /// How many threads wait for permits.
    pub fn waiters(&self) -> usize {
        count(self.waiting())
    }
}

impl SharedObject for RateLimiter {
    #[inline]
    fn is_accessible(&self) -> bool {
        self.0.is_accessible()
    }
}

impl Reservation {
    /// When the permits are due; None if that is beyond what the clock can show.
    pub fn deadline(&self) -> Option<Deadline> {
        Deadline::after(Duration::from_nanos(self.due.saturating_sub(nanoseconds())))
    }
}
