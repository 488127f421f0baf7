//! A condition variable: a slot with a condition in it, whose waits are in the table of the slot's home.

use super::{SharedObject, WAITS_FOR_CONDITION, drop_when_due};
use crate::arena::Slot;
use crate::condition::{Baton, Condition};
use crate::error::Result;
use crate::file::File;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::ptr::NonNull;

/// A condition to wait for.
#[derive(Debug)]
pub struct ConditionVariable(ManuallyDrop<Slot>);

impl ConditionVariable {
    /// A condition variable.
    ///
    /// # Errors
    /// `System` if there is no memory for it.
    pub fn new() -> Result<Self> {
        Slot::new().map(|slot| ConditionVariable(ManuallyDrop::new(slot)))
    }

    /// The condition variable in the file at `path`; opened, or made with `mode`.
    ///
    /// # Errors
    /// As `Slot::in_file`.
    pub fn in_file(path: &Path, mode: u32, class: &str) -> Result<Self> {
        let recover = |slot: NonNull<u8>| {
            // SAFETY: the slot of a condition variable, which is mapped.
            unsafe { slot.cast::<Baton>().as_ref() }.recover();
        };
        let slot = Slot::in_file(path, mode, class, "", |_| {}, recover)?;
        Ok(ConditionVariable(ManuallyDrop::new(slot)))
    }

    /// The file it is in.
    pub fn file(&self) -> Option<&File> {
        self.0.file()
    }

    /// The condition in it.
    pub fn condition(&self) -> Condition<'_> {
        condition_at(&self.0, 0)
    }
}

impl SharedObject for ConditionVariable {
    #[inline]
    fn is_accessible(&self) -> bool {
        self.0.is_accessible()
    }
}

/// The condition `offset` bytes into a slot.
pub(super) fn condition_at(slot: &Slot, offset: usize) -> Condition<'_> {
    // SAFETY: the callers' slots have a condition there. All zeroes is a condition nobody waits for.
    unsafe { slot.at::<Baton>(offset) }.at(slot.seat(WAITS_FOR_CONDITION))
}

/// A wait may have been left in the middle for good, with the fiber that it belonged to. Its entry is on the list of a
/// thread, which alone can take it off. So the slot stays until that thread has cancelled the wait.
impl Drop for ConditionVariable {
    fn drop(&mut self) {
        // SAFETY: the field is not used again.
        let slot = unsafe { ManuallyDrop::take(&mut self.0) };
        let Some(slot) = slot.give_back_if_not_last() else { return };
        if slot.is_accessible() && condition_at(&slot, 0).has_waits_of(std::process::id) {
            drop_when_due(
                slot,
                |slot, thread| !slot.is_accessible() || !condition_at(slot, 0).has_waits_of_others(thread),
                |slot, thread| {
                    if slot.is_accessible() && !slot.has_others() {
                        condition_at(slot, 0).cancel_lost_waits(thread);
                    }
                },
            );
        }
    }
}
