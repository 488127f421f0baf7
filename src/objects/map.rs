//! A map in memory of its own, or of a file.

use super::{SharedObject, count, waiters_of};
use crate::arena::{Slot, random};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::lock::Outcome;
use crate::map::{Map as Entries, Refusal};
use crate::participants::Party;
use crate::platform::{Thread, map, unmap};
use crate::word::Word;
use std::path::Path;
use std::ptr::NonNull;

/// Keys and values. Its slot counts those that wait. Its memory has neither a descriptor nor a name, or is that of a file,
/// beside the slot.
#[derive(Debug)]
pub struct Map {
    slot: Slot,
    entries: Entries,
    /// The memory, if it is not the slot's.
    memory: Option<NonNull<u8>>,
    length: usize,
}

// SAFETY: the memory is that of `entries`, which may be used by all threads, until the drop.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

fn cannot_be(bytes: u64) -> Error {
    Error::Invalid(format!("a map cannot have {bytes} bytes"))
}

impl Map {
    /// A map with room for `bytes` of entries. If it `evicts`, it drops entries when there is no more room.
    ///
    /// # Errors
    /// `Invalid` if there can be no map of that size, `System` if there is no memory for it.
    pub fn new(bytes: u64, evicts: bool) -> Result<Self> {
        let length = Entries::memory_for(bytes, evicts).ok_or_else(|| cannot_be(bytes))?;
        let (slot, seed) = (Slot::whole()?, random()?);
        let memory = map(length)?;
        // SAFETY: fresh zeroes, which stay mapped until the drop.
        match unsafe { Entries::create(memory, length, bytes, evicts, seed) } {
            Ok(entries) => Ok(Map { slot, entries, memory: Some(memory), length }),
            Err(_) => {
                // SAFETY: nobody has used it.
                unsafe { unmap(memory, length) };
                Err(cannot_be(bytes))
            }
        }
    }

    /// The map in the file at `path`, of `class`: opened, with what is in it, or made with `mode`. All of its memory is taken
    /// then.
    ///
    /// # Errors
    /// As `new` and `Slot::in_file`; `Incompatible` if the file has been overwritten.
    pub fn in_file(path: &Path, mode: u32, class: &str, bytes: u64, evicts: bool) -> Result<Self> {
        let length = Entries::memory_for(bytes, evicts).ok_or_else(|| cannot_be(bytes))?;
        let seed = random()?;
        // SAFETY: zeroes of a file, which stay mapped as long as it runs.
        let start = |memory| match unsafe { Entries::create(memory, length, bytes, evicts, seed) } {
            Ok(_) => Ok(()),
            Err(_) => Err(cannot_be(bytes)),
        };
        let overwritten = |_| {
            let path = path.display();
            Error::Incompatible(format!(
                "the map in {path} has been overwritten: delete the file when nobody uses it"
            ))
        };
        // SAFETY: the memory of a file of this shape, mapped as long as it runs.
        let recover =
            |memory| unsafe { Entries::recover(memory, length, bytes, evicts) }.map_err(overwritten);
        let details = format!("{bytes} bytes");
        let slot = Slot::in_file_with(path, mode, (class, &details), length, start, recover)?;
        let memory = slot.beside().ok_or_else(|| overwritten(Refusal::Corrupt))?;
        // SAFETY: mapped as long as the slot.
        let entries = unsafe { Entries::attach(memory, length) }.map_err(overwritten)?;
        if (entries.bytes(), entries.evicts()) != (bytes, evicts) {
            return Err(overwritten(Refusal::Corrupt));
        }
        Ok(Map { slot, entries, memory: None, length })
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
        if self.is_accessible() && !self.slot.has_others() {
            if let Some(thread) = Thread::known() {
                self.entries.release_lost(&thread);
            }
            if self.entries.is_computing(std::process::id()) {
                self.slot.keep_for_good();
                return;
            }
        }
        if let Some(memory) = self.memory {
            // SAFETY: mapped by `new`; nobody uses it any more.
            unsafe { unmap(memory, self.length) };
        }
    }
}
