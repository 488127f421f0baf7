//! Which fiber holds a Mutex or Monitor, and how often.
//!
//! The core knows which native thread holds the lock. The fiber of that thread and the levels of a Monitor are private to
//! the process, and mean something only while the core says that the calling thread holds the lock: so they need no reset
//! in a forked child, whose threads have other numbers.
//!
//! The collector: while a fiber holds the lock, `mark` keeps it alive. `own` skips the write barrier where it stores the
//! fiber that is there already, which the collector therefore knows: `mark` clears a fiber that no longer holds the lock.

use magnus::{Ruby, Value, rb_sys::AsRawValue};
use process_shared_core::{Mutex, Thread};
use rb_sys::{VALUE, rb_fiber_current, rb_gc_writebarrier};
use std::sync::atomic::Ordering::Relaxed;

use crate::errors::{self, Error};
use crate::mutex::MutexData;
use crate::object::Object;
use crate::thread;

fn current_fiber() -> usize {
    // SAFETY: called on a Ruby thread with the GVL.
    unsafe { rb_fiber_current() as usize }
}

impl MutexData {
    /// Records that the calling fiber holds the lock, once.
    #[inline]
    pub fn own(&self, object: VALUE) {
        let fiber = current_fiber();
        self.levels.store(1, Relaxed);
        if self.fiber.load(Relaxed) != fiber {
            self.fiber.store(fiber, Relaxed);
            // SAFETY: `object` now refers to `fiber`, both alive.
            unsafe { rb_gc_writebarrier(object, fiber as VALUE) };
        }
    }

    /// Records that the calling fiber holds the lock, `levels` times.
    pub fn own_levels(&self, object: Value, levels: u32) {
        self.own(object.as_raw());
        self.levels.store(levels, Relaxed);
    }

    /// The fiber that holds the lock, if a thread of this process does.
    #[inline]
    pub fn fiber(&self) -> usize {
        self.fiber.load(Relaxed)
    }

    /// Whether the calling fiber, of thread `thread`, holds the lock.
    #[inline]
    pub fn is_owned(&self, mutex: &Mutex, thread: &Thread) -> bool {
        self.is_owned_by(mutex, thread, current_fiber())
    }

    /// Whether `fiber` of the calling thread, `thread`, holds the lock.
    #[inline]
    pub fn is_owned_by(&self, mutex: &Mutex, thread: &Thread, fiber: usize) -> bool {
        mutex.is_held_by(thread) && self.fiber() == fiber
    }

    pub fn owned(&self, ruby: &Ruby) -> Result<bool, Error> {
        let (mutex, thread) = (self.open(ruby)?, thread::current(ruby)?);
        Ok(self.is_owned(mutex, &thread))
    }

    /// Refuses a caller that does not hold the lock.
    pub fn assert_owned(&self, ruby: &Ruby) -> Result<Thread, Error> {
        let (mutex, thread) = (self.open(ruby)?, thread::current(ruby)?);
        if self.is_owned(mutex, &thread) {
            return Ok(thread);
        }
        Err(errors::ownership(
            ruby,
            if mutex.is_held_by(&thread) {
                "the lock is held by another fiber of this thread".to_owned()
            } else {
                match mutex.owner_pid() {
                    None => "the lock is not held: lock it before this call".to_owned(),
                    Some(pid) if pid == thread.pid() => {
                        format!("the lock is held by another thread of this process (pid {pid})")
                    }
                    Some(pid) => {
                        format!("the lock is held by process {pid}, not by this one ({})", thread.pid())
                    }
                }
            },
        ))
    }

    /// Releases one level, and with the last one the lock. The calling fiber holds it.
    #[inline]
    pub fn release_level(&self, mutex: &Mutex, thread: &Thread) {
        match self.levels.load(Relaxed) {
            1 => self.unlock(mutex, thread),
            levels => self.levels.store(levels - 1, Relaxed),
        }
    }

    /// One level more, if the calling fiber holds the lock.
    #[inline]
    pub fn add_level(&self) -> bool {
        let (Some(mutex), Some(thread)) = (self.shared.usable(), thread::known()) else { return false };
        let levels = self.levels.load(Relaxed);
        let deeper = self.is_owned(mutex, &thread) && levels < u32::MAX;
        if deeper {
            self.levels.store(levels + 1, Relaxed);
        }
        deeper
    }

    /// Marks the fiber that holds the lock; forgets one that does not.
    pub fn mark_owner(&self) {
        if !self.shared.get().is_some_and(Mutex::is_locked) {
            self.fiber.store(0, Relaxed);
        }
        // Ractor.make_shareable asks for references too, and must not be told of the holder.
        // SAFETY: asks where it is called.
        let collecting = unsafe { rb_sys::rb_during_gc() } != 0;
        let fiber = self.fiber.load(Relaxed);
        if collecting && fiber != 0 {
            // SAFETY: called by the collector; the fiber was alive when it was stored, and has been marked since.
            unsafe { rb_sys::rb_gc_mark(fiber as VALUE) };
        }
    }
}
