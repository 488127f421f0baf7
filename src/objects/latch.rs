//! A latch that is counted down once.

use super::{SharedObject, count, counted, waiters_of};
use crate::arena::Slot;
use crate::deadline::Deadline;
use crate::error::Result;
use crate::latch::Latch;
use crate::lock::Outcome;
use crate::participants::Party;
use crate::platform::Thread;
use crate::spin::PAUSE;
use std::path::Path;
use std::ptr::NonNull;

/// Threads wait until it has been counted down to 0.
#[derive(Debug)]
pub struct CountDownLatch(Slot);

impl CountDownLatch {
    /// A latch that `count` calls of `count_down` open.
    ///
    /// # Errors
    /// `System` if there is no memory for it.
    pub fn new(count: u32) -> Result<Self> {
        let latch = CountDownLatch(Slot::new()?);
        latch.latch().start(count);
        Ok(latch)
    }

    /// The latch in the file at `path`, of `class`: opened, with the count that it has, or made with `mode` and `count`.
    ///
    /// # Errors
    /// As `Slot::in_file`.
    pub fn in_file(path: &Path, mode: u32, class: &str, count: u32) -> Result<Self> {
        // SAFETY: the slot of a latch, which is mapped as long as these run.
        let latch = |slot: NonNull<u8>| unsafe { slot.cast::<Latch>().as_ref() };
        let (start, recover) = (|slot| latch(slot).start(count), |slot| latch(slot).recover());
        Slot::in_file(path, mode, class, "", start, recover).map(CountDownLatch)
    }

    #[inline]
    fn latch(&self) -> &Latch {
        // SAFETY: this slot is a latch's. All zeroes is one at 0.
        unsafe { self.0.at(0) }
    }

    fn waiting(&self) -> Party<'_> {
        waiters_of(&self.0, self.latch().spare())
    }

    /// How often it still has to be counted down.
    #[inline]
    pub fn count(&self) -> u32 {
        self.latch().count()
    }

    /// Makes the count one less, unless it is 0.
    pub fn count_down(&self, thread: &Thread) {
        self.latch().count_down(thread);
    }

    /// Whether the count comes to 0 within a few microseconds.
    pub fn wait_soon(&self) -> bool {
        self.0.spin.run(PAUSE, || self.count() == 0)
    }

    /// Waits until the count is 0: `Acquired` then.
    pub fn wait(&self, thread: &Thread, deadline: Option<Deadline>) -> Outcome {
        counted(self.waiting(), thread, || self.latch().wait(thread, deadline))
    }

    /// How many threads wait.
    pub fn waiters(&self) -> usize {
        count(self.waiting())
    }
}

impl SharedObject for CountDownLatch {
    #[inline]
    fn is_accessible(&self) -> bool {
        self.0.is_accessible()
    }
}
