//! A queue in memory of its own.

use super::{SharedObject, count, counted, waiters_of};
use crate::arena::Slot;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::lock::Outcome;
use crate::participants::Party;
use crate::platform::{Thread, map, unmap};
use crate::queue::{Participant, Queue as Items, Refusal, Taken};
use crate::word::Word;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering::*};
use std::time::Duration;

/// How long a finalizer waits for the lock of a queue before it leaves the memory mapped.
const PATIENCE: Duration = Duration::from_millis(100);

/// A queue of items of bytes. Its slot counts those that wait. Its memory has neither a descriptor nor a name, or is that of
/// a file, beside the slot.
#[derive(Debug)]
pub struct Queue {
    slot: Slot,
    items: Items,
    /// The memory, if it is not the slot's.
    memory: Option<NonNull<u8>>,
    length: usize,
    /// This process's membership, or that of the process it was forked from, or null.
    membership: AtomicPtr<Participant>,
}

// SAFETY: the memory is that of `items`, which may be used by all threads, until the drop.
unsafe impl Send for Queue {}
// SAFETY: as above; the membership is changed by a compare-and-swap, and freed by the drop only.
unsafe impl Sync for Queue {}

fn cannot_be(bytes: u64) -> Error {
    Error::Invalid(format!("a queue cannot have {bytes} bytes"))
}

impl Queue {
    /// A queue for `bytes`, with at most `max` items if that is not 0.
    ///
    /// # Errors
    /// `Invalid` if there can be no queue of that size, `System` if there is no memory for it.
    pub fn new(bytes: u64, max: u64) -> Result<Self> {
        let length = Items::memory_for(bytes).ok_or_else(|| cannot_be(bytes))?;
        let slot = Slot::whole()?;
        let memory = map(length)?;
        // SAFETY: fresh zeroes, which stay mapped until the drop.
        match unsafe { Items::create(memory, length, bytes, max, true) } {
            Ok(items) => {
                let membership = AtomicPtr::new(ptr::null_mut());
                Ok(Queue { slot, items, memory: Some(memory), length, membership })
            }
            Err(_) => {
                // SAFETY: nobody has used it.
                unsafe { unmap(memory, length) };
                Err(cannot_be(bytes))
            }
        }
    }

    /// The queue in the file at `path`, of `class`: opened, with what is in it, or made with `mode`, with at most `max` items if
    /// that is not 0, and with the items `first`, of which each has a tag. All of its memory is taken then.
    ///
    /// # Errors
    /// As `new` and `Slot::in_file`; `Invalid` if there is no room for `first`, `Incompatible` if the file has been overwritten.
    pub fn in_file(
        path: &Path,
        mode: u32,
        class: &str,
        bytes: u64,
        max: u64,
        first: &[(u32, &[u8])],
    ) -> Result<Self> {
        let length = Items::memory_for(bytes).ok_or_else(|| cannot_be(bytes))?;
        let thread = Thread::current()?;
        let start = |memory| {
            // SAFETY: zeroes of a file, which stay mapped until the drop, or the end of this.
            let items = unsafe { Items::create(memory, length, bytes, max, false) };
            let items = items.map_err(|_| cannot_be(bytes))?;
            let at_once = || Deadline::after(Duration::ZERO);
            let pushed = first.iter().try_for_each(|(tag, item)| items.push(&thread, *tag, item, at_once()));
            pushed.map_err(|_| Error::Invalid(format!("{} items do not fit in the queue", first.len())))
        };
        let overwritten = |_| {
            let path = path.display();
            Error::Incompatible(format!(
                "the queue in {path} has been overwritten: delete the file when nobody uses it"
            ))
        };
        // SAFETY: the memory of a file of this shape, mapped as long as it runs.
        let recover = |memory| unsafe { Items::recover(memory, length, bytes) }.map_err(overwritten);
        let details = format!("{bytes} bytes");
        let slot = Slot::in_file_with(path, mode, (class, &details), length, start, recover)?;
        let memory = slot.beside().ok_or_else(|| overwritten(Refusal::Corrupt))?;
        // SAFETY: mapped as long as the slot.
        let items = unsafe { Items::attach(memory, length, false) }.map_err(overwritten)?;
        if items.bytes() != bytes {
            return Err(overwritten(Refusal::Corrupt));
        }
        // If the lock is held, the next to enter sees to it.
        if let Some(critical) = items.try_enter(&thread) {
            critical.reap().map_err(overwritten)?;
        }
        Ok(Queue { slot, items, memory: None, length, membership: AtomicPtr::new(ptr::null_mut()) })
    }

    /// What can be done with it at once.
    #[inline]
    pub fn items(&self) -> &Items {
        &self.items
    }

    /// How much memory it takes when it is full.
    pub fn length(&self) -> usize {
        self.length
    }

    fn waiting(&self) -> Party<'_> {
        // SAFETY: this slot is a queue's, whose only word counts those that wait.
        waiters_of(&self.slot, unsafe { self.slot.at::<Word>(0) }.spare())
    }

    /// How many threads wait, for an item or for room.
    pub fn waiters(&self) -> usize {
        count(self.waiting())
    }

    /// Which member this process is, if it is one.
    #[inline]
    pub fn known_member(&self) -> Option<u32> {
        // SAFETY: what was stored there lives until the drop.
        let known = unsafe { self.membership.load(Acquire).as_ref() };
        known.filter(|known| known.is_here()).map(Participant::member)
    }

    /// Which member this process is. It becomes one if it is none.
    ///
    /// # Errors
    /// `System` if there is no thread to be had; inside, `TooMany` if no more processes can take part.
    pub fn member(&self, thread: &Thread) -> Result<std::result::Result<u32, Refusal>> {
        loop {
            let known = self.membership.load(Acquire);
            if let Some(member) = self.known_member() {
                return Ok(Ok(member));
            }
            let joined = match Participant::join(&self.items, thread)? {
                Ok(joined) => Box::into_raw(Box::new(joined)),
                Err(refusal) => return Ok(Err(refusal)),
            };
            // What a forked child finds there is left alone: another thread may have been looking at it.
            if self.membership.compare_exchange(known, joined, AcqRel, Acquire).is_err() {
                // SAFETY: made above, and nobody else's.
                let _ = unsafe { Box::from_raw(joined) }.leave(&self.items, None);
            }
        }
    }

    /// Adds an item as soon as there is room.
    ///
    /// # Errors
    /// As `queue::Queue::push`.
    pub fn push(
        &self,
        thread: &Thread,
        tag: u32,
        bytes: &[u8],
        deadline: Option<Deadline>,
    ) -> std::result::Result<(), std::result::Result<Refusal, Outcome>> {
        self.wait(thread, || self.items.push(thread, tag, bytes, deadline))
    }

    /// Takes the first item for a time, as soon as there is one. The bytes of a large one are to be read.
    ///
    /// # Errors
    /// As `queue::Queue::take`; `System` as `member`.
    pub fn take(
        &self,
        thread: &Thread,
        buffer: &mut Vec<u8>,
        deadline: Option<Deadline>,
    ) -> Result<std::result::Result<Taken, std::result::Result<Refusal, Outcome>>> {
        Ok(match self.member(thread)? {
            Ok(member) => self.wait(thread, || self.items.take_unread(thread, member, buffer, deadline)),
            Err(refusal) => Err(Ok(refusal)),
        })
    }

    /// Waits until there is an item, and leaves it to others.
    ///
    /// # Errors
    /// As `queue::Queue::pop`.
    pub fn watch(
        &self,
        thread: &Thread,
        deadline: Option<Deadline>,
    ) -> std::result::Result<(), std::result::Result<Refusal, Outcome>> {
        self.wait(thread, || self.items.await_item(thread, deadline, |critical| critical.has_item()))
    }

    fn wait<T>(&self, thread: &Thread, wait: impl FnOnce() -> T) -> T {
        counted(self.waiting(), thread, wait)
    }
}

impl SharedObject for Queue {
    #[inline]
    fn is_accessible(&self) -> bool {
        self.slot.is_accessible()
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let membership = *self.membership.get_mut();
        if !membership.is_null() {
            // SAFETY: put there by `member`, and nobody looks at it any more.
            let membership = unsafe { Box::from_raw(membership) };
            let is_here = membership.is_here();
            let left = membership.leave(&self.items, Deadline::after(PATIENCE));
            if is_here && left.is_err() {
                // The kernel will look for the member's word when the thread that holds it ends.
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
