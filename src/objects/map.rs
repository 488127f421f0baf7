//! A map in memory of its own.

use super::{SharedObject, count, waiters_of};
use crate::arena::{Slot, random};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::lock::Outcome;
use crate::map::Map as Entries;
use crate::participants::Party;
use crate::platform::{Thread, map, unmap};
use crate::word::Word;
use std::ptr::NonNull;

/// Keys and values. Its slot counts those that wait; its memory has neither a descriptor nor a name.
#[derive(Debug)]
pub struct Map {
    slot: Slot,
    entries: Entries,
    memory: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory is that of `entries`, which may be used by all threads, until the drop.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

impl Map {
    /// A map with room for `bytes` of entries. If it `evicts`, it drops entries when there is no more room.
    ///
    /// # Errors
    /// `Invalid` if there can be no map of that size, `System` if there is no memory for it.
    pub fn new(bytes: u64, evicts: bool) -> Result<Self> {
        let invalid = || Error::Invalid(format!("a map cannot have {bytes} bytes"));
        let length = Entries::memory_for(bytes, evicts).ok_or_else(invalid)?;
        let (slot, seed) = (Slot::new()?, random()?);
        let memory = map(length)?;
        // SAFETY: fresh zeroes, which stay mapped until the drop.
        match unsafe { Entries::create(memory, length, bytes, evicts, seed) } {
            Ok(entries) => Ok(Map { slot, entries, memory, length }),
            Err(_) => {
                // SAFETY: nobody has used it.
                unsafe { unmap(memory, length) };
                Err(invalid())
            }
        }
    }

    /// What can be done with it at once.
    #[inline]
    pub fn entries(&self) -> &Entries {
        &self.entries
    }

    /// How much memory it takes when it is full.
    pub fn length(&self) -> usize {
        self.length
    }

    fn waiting(&self) -> Party<'_> {
        // SAFETY: this slot is a map's, whose only word counts those that wait.
        waiters_of(&self.slot, unsafe { self.slot.at::<Word>(0) }.spare())
    }

    /// How many threads wait for a value that another one computes.
    pub fn waiters(&self) -> usize {
        count(self.waiting())
    }

    /// Sleeps until nobody computes by that mark.
    pub fn await_release(&self, thread: &Thread, mark: usize, deadline: Option<Deadline>) -> Outcome {
        super::counted(self.waiting(), thread, || self.entries.await_release(thread, mark, deadline))
    }
}

impl SharedObject for Map {
    #[inline]
    fn is_accessible(&self) -> bool {
        self.slot.is_accessible()
    }
}

/// A fiber may have been given up while it computed a value. Its mark is on the list of its thread, which alone can take it
/// off: where that is not the calling thread, the memory stays.
impl Drop for Map {
    fn drop(&mut self) {
        if self.is_accessible() {
            if let Some(thread) = Thread::known() {
                self.entries.release_lost(&thread);
            }
            if self.entries.is_computing(std::process::id()) {
                self.slot.keep_for_good();
                return;
            }
        }
        // SAFETY: mapped by `new`; nobody uses it any more.
        unsafe { unmap(self.memory, self.length) };
    }
}
