//! The calling thread, remembered: the system is asked once per thread and process, and a forked child anew.

use super::Thread;
use crate::error::Result;
use std::cell::Cell;

thread_local! {
    pub(super) static CURRENT: Cell<Option<Thread>> = const { Cell::new(None) };
}

impl Thread {
    /// The calling thread. Takes a few system calls once per thread and process; after that a thread-local read.
    ///
    /// # Errors
    /// `System` where the system cannot tell of this thread's death, or too many threads take part already.
    #[inline]
    pub fn current() -> Result<Self> {
        match CURRENT.get() {
            Some(thread) => Ok(thread),
            None => Self::remembered(),
        }
    }

    #[cold]
    fn remembered() -> Result<Self> {
        let thread = Self::introduce()?;
        CURRENT.set(Some(thread));
        Ok(thread)
    }

    /// The calling thread, if it has been here before.
    #[inline]
    pub fn known() -> Option<Self> {
        CURRENT.get()
    }

    /// Has the next call of `current` start afresh: the native thread is about to serve another purpose.
    pub fn forget() {
        CURRENT.set(None);
    }

    /// Where the calling native thread remembers this, for `forget_at`.
    pub fn memory() -> usize {
        CURRENT.with(|current| std::ptr::from_ref(current).expose_provenance())
    }

    /// Does `forget` for another native thread, and tells what that was.
    ///
    /// # Safety
    /// `memory` is what `memory` said there. That thread is alive, and waits for this one meanwhile.
    pub unsafe fn forget_at(memory: usize) -> Option<Thread> {
        // SAFETY: the caller's promise.
        unsafe { &*std::ptr::with_exposed_provenance::<Cell<Option<Thread>>>(memory) }.take()
    }

    /// Has `current` say this: the calling native thread itself, or the `StandIn` that owns locks for it.
    pub fn go_by(thread: Thread) {
        CURRENT.set(Some(thread));
    }
}
