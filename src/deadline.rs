//! The moment at which a wait gives up, on the monotonic clock. It is computed once, so that signals and spurious
//! wake-ups do not stretch the wait.

use std::time::Duration;

/// A point of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Duration);

impl Deadline {
    /// `timeout` from now. `None`, which is never, if that is beyond what the clock can show.
    pub fn after(timeout: Duration) -> Option<Self> {
        let deadline = now().checked_add(timeout)?;
        i64::try_from(deadline.as_secs()).ok().map(|_| Deadline(deadline))
    }

    /// `timeout` from now, or `deadline` if that is sooner.
    pub fn soonest(deadline: Option<Self>, timeout: Duration) -> Option<Self> {
        let soon = Self::after(timeout);
        if deadline.is_none_or(|deadline| soon.is_some_and(|soon| soon < deadline)) { soon } else { deadline }
    }

    pub fn has_passed(self) -> bool {
        now() >= self.0
    }

    /// The time left; zero once it has passed.
    pub fn remaining(self) -> Duration {
        self.0.saturating_sub(now())
    }

    /// Seconds and nanoseconds on the monotonic clock.
    pub fn as_timespec(self) -> libc::timespec {
        libc::timespec { tv_sec: self.0.as_secs() as _, tv_nsec: i64::from(self.0.subsec_nanos()) }
    }
}

/// What the monotonic clock shows.
pub fn now() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec to write to; CLOCK_MONOTONIC exists on every supported system.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
