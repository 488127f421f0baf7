//! An event to wait for.

use super::{SharedObject, count, counted, waiters_of};
use crate::arena::Slot;
use crate::deadline::Deadline;
use crate::error::Result;
use crate::event::{Epoch, Event as Flag};
use crate::lock::Outcome;
use crate::participants::Party;
use crate::platform::Thread;
use crate::spin::PAUSE;
use std::path::Path;
use std::ptr::NonNull;

/// Threads wait until it is set.
#[derive(Debug)]
pub struct Event(Slot);

impl Event {
    /// An event that is not set.
    ///
    /// # Errors
    /// `System` if there is no memory for it.
    pub fn new() -> Result<Self> {
        Slot::new().map(Event)
    }

    /// The event in the file at `path`, of `class`: opened, set or not as it is, or made with `mode`.
    ///
    /// # Errors
    /// As `Slot::in_file`.
    pub fn in_file(path: &Path, mode: u32, class: &str) -> Result<Self> {
        // SAFETY: the slot of an event, which is mapped as long as this runs.
        let recover = |slot: NonNull<u8>| unsafe { slot.cast::<Flag>().as_ref() }.recover();
        Slot::in_file(path, mode, class, "", |_| {}, recover).map(Event)
    }

    #[inline]
    fn flag(&self) -> &Flag {
        // SAFETY: this slot is an event's. All zeroes is one that is not set.
        unsafe { self.0.at(0) }
    }

    fn waiting(&self) -> Party<'_> {
        waiters_of(&self.0, self.flag().spare())
    }

    #[inline]
    pub fn is_set(&self) -> bool {
        self.flag().is_set()
    }

    /// Sets it and wakes all who wait. False if it was set already.
    pub fn set(&self, thread: &Thread) -> bool {
        self.flag().set(thread)
    }

    /// Ends that it is set.
    pub fn reset(&self, thread: &Thread) {
        self.flag().reset(thread);
    }

    /// What a wait begins with: None if it is set.
    #[inline]
    pub fn begin(&self) -> Option<Epoch> {
        self.flag().begin()
    }

    /// Whether it has been set since `begin`.
    pub fn is_over(&self, epoch: Epoch) -> bool {
        self.flag().is_over(epoch)
    }

    /// Whether it is set within a few microseconds.
    pub fn wait_soon(&self, epoch: Epoch) -> bool {
        self.0.spin.run(PAUSE, || self.is_over(epoch))
    }

    /// Waits until it has been set since `begin`: `Acquired` then.
    pub fn wait(&self, thread: &Thread, epoch: Epoch, deadline: Option<Deadline>) -> Outcome {
        counted(self.waiting(), thread, || self.flag().wait(thread, epoch, deadline))
    }

    /// How many threads wait for it.
    pub fn waiters(&self) -> usize {
        count(self.waiting())
    }
}

impl SharedObject for Event {
    #[inline]
    fn is_accessible(&self) -> bool {
        self.0.is_accessible()
    }
}
