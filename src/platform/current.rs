//! The calling thread, remembered: the system is asked once per thread and process.

use super::{Memo, Thread};
use crate::error::Result;
use std::cell::Cell;

thread_local! {
    pub(super) static CURRENT: Cell<Memo> = const { Cell::new(Thread::NOBODY) };
}

impl Thread {
    /// The calling thread. Takes a few system calls once per thread and process; after that a thread-local read.
    ///
    /// # Errors
    /// `System` where the system cannot tell of this thread's death, or too many threads use locks already.
    #[inline]
    pub fn current() -> Result<Self> {
        match Self::known() {
            Some(thread) => Ok(thread),
            None => Self::introduce_and_remember(),
        }
    }

    #[cold]
    fn introduce_and_remember() -> Result<Self> {
        let thread = Self::introduce()?;
        CURRENT.set(thread.memo());
        Ok(thread)
    }

    /// The calling thread, if `current` has been called by it in this process.
    #[inline]
    pub fn known() -> Option<Self> {
        Self::recall(CURRENT.get())
    }

    /// Has the next call of `current` start afresh: the native thread is about to serve another purpose.
    pub fn forget() {
        CURRENT.set(Self::NOBODY);
    }

    /// Where the calling native thread remembers itself, for `forget_at`.
    pub fn memory() -> usize {
        CURRENT.with(|current| std::ptr::from_ref(current).expose_provenance())
    }

    /// Does `forget` for another native thread, and returns what it remembered.
    ///
    /// # Safety
    /// `memory` is what `memory` returned there. That thread is alive, and waits for this one meanwhile.
    pub unsafe fn forget_at(memory: usize) -> Option<Thread> {
        // SAFETY: the caller's promise.
        let current = unsafe { &*std::ptr::with_exposed_provenance::<Cell<Memo>>(memory) };
        Self::recall(current.replace(Self::NOBODY))
    }

    /// Has `current` return this thread: the calling native thread itself, or the `StandIn` that owns locks for it.
    pub fn go_by(thread: Thread) {
        CURRENT.set(thread.memo());
    }
}
