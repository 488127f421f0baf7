//! A spin lock around data that are private to a process and that a child inherits. A child finds out that the data are
//! still its parent's, also where no fork handler ran.

use super::fork_depth;
use std::cell::UnsafeCell;
use std::fmt;
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicU32, Ordering::*};

/// Twice the fork depth of the process that the data belong to, and one more while a thread of it is inside.
pub struct ForkLock(AtomicU32);

impl ForkLock {
    pub const fn new() -> Self {
        ForkLock(AtomicU32::new(0))
    }

    /// Keeps other threads out until `exit`. The first to come here in a child, or at all, is told so: true if the data
    /// are whole, false if a thread of the parent was in the middle of them when the child was made.
    pub fn enter(&self) -> Option<bool> {
        let depth = fork_depth();
        loop {
            let lock = self.0.load(Relaxed);
            let is_free = lock & 1 == 0;
            let is_inherited = lock >> 1 != depth;
            let may_enter = is_free || is_inherited;
            if may_enter && self.0.compare_exchange(lock, depth << 1 | 1, Acquire, Relaxed).is_ok() {
                return is_inherited.then_some(is_free);
            }
            std::thread::yield_now();
        }
    }

    /// Whether the data belong to this process.
    fn is_of_this_process(&self) -> bool {
        self.0.load(Relaxed) >> 1 == fork_depth()
    }

    pub fn exit(&self) {
        self.0.store(fork_depth() << 1, Release);
    }
}

/// A value that each process has for itself, behind a `ForkLock`. Every process starts with the default. (If another
/// thread of the parent held a `Mutex` of the standard library at the fork, the child's copy would stay locked for ever.)
pub struct ProcessLocal<T> {
    lock: ForkLock,
    value: UnsafeCell<ManuallyDrop<T>>,
}

// SAFETY: only `with` reaches the value, one thread at a time.
unsafe impl<T: Send> Sync for ProcessLocal<T> {}

impl<T: Default> ProcessLocal<T> {
    /// `default` must equal `T::default()`, which a constant cannot call.
    pub const fn new(default: T) -> Self {
        ProcessLocal { lock: ForkLock::new(), value: UnsafeCell::new(ManuallyDrop::new(default)) }
    }

    /// Calls `action`, which must not come back here nor panic, with the value.
    pub fn with<R>(&self, action: impl FnOnce(&mut T) -> R) -> R {
        let is_new = self.lock.enter().is_some();
        // SAFETY: the lock keeps all other threads out.
        let value = unsafe { &mut *self.value.get() };
        if is_new {
            *value = ManuallyDrop::default(); // what was there is the parent's, and may be torn
        }
        let result = action(value);
        self.lock.exit();
        result
    }
}

impl<T> Drop for ProcessLocal<T> {
    fn drop(&mut self) {
        if self.lock.is_of_this_process() {
            // SAFETY: the value is not used again.
            unsafe { ManuallyDrop::drop(self.value.get_mut()) };
        }
    }
}

impl<T: Default> Default for ProcessLocal<T> {
    fn default() -> Self {
        ProcessLocal::new(T::default())
    }
}

impl<T> fmt::Debug for ProcessLocal<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ProcessLocal").finish_non_exhaustive()
    }
}
