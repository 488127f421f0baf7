//! Which fiber of a thread writes or has its turn, and how often.

use magnus::rb_sys::AsRawValue;
use magnus::{Ruby, Value};
use process_shared_core::arena::{Holder, Holding};
use process_shared_core::{ReadWriteLock, Thread};
use rb_sys::{VALUE, rb_gc_writebarrier};
use std::sync::atomic::Ordering::Relaxed;

use super::ReadWriteLockData;
use crate::errors::{self, Error};
use crate::fiber_scheduler;
use crate::thread::current_fiber;

const DEADLOCK: &str = "deadlock; another fiber of this thread holds the lock";

pub(super) const UPGRADE: &str =
    "deadlock; this fiber reads, and another writes or may: to become the writer, read with_upgradable_lock";

/// A thread that holds too many locks may hold some only because they are garbage.
pub(super) fn with_room<T>(
    ruby: &Ruby,
    attempt: impl Fn() -> process_shared_core::Result<T>,
) -> Result<T, Error> {
    let collected = |_| {
        ruby.gc_start();
        attempt()
    };
    attempt().or_else(collected).map_err(|error| errors::to_ruby(ruby, error))
}

/// Makes the calling fiber the holder, once.
pub(super) fn hold(holding: &Holding, object: Value) {
    let fiber = current_fiber();
    holding.fiber.store(fiber, Relaxed);
    holding.levels.store(1, Relaxed);
    // SAFETY: `object` now refers to `fiber`, both alive; or `owner::holders` does, which the collector always looks at.
    unsafe { rb_gc_writebarrier(object.as_raw(), fiber as VALUE) };
}

pub(super) fn clear(holding: &Holding) {
    holding.levels.store(0, Relaxed);
    holding.fiber.store(0, Relaxed);
}

pub(super) fn is_current(holding: &Holding) -> bool {
    holding.levels.load(Relaxed) > 0 && holding.fiber.load(Relaxed) == current_fiber()
}

pub(super) fn add_level(ruby: &Ruby, holding: &Holding) -> Result<(), Error> {
    let levels = holding.levels.load(Relaxed);
    if levels == u32::MAX {
        return Err(errors::ownership(ruby, format!("this fiber has taken the lock {levels} times")));
    }
    holding.levels.store(levels + 1, Relaxed);
    Ok(())
}

/// True for the last one.
pub(super) fn remove_level(holding: &Holding) -> bool {
    let levels = holding.levels.load(Relaxed).saturating_sub(1);
    holding.levels.store(levels, Relaxed);
    if levels == 0 {
        clear(holding);
    }
    levels == 0
}

impl ReadWriteLockData {
    pub(super) fn holder(&self) -> &Holder {
        self.shared.get().and_then(ReadWriteLock::holder).unwrap_or(&self.own_holder)
    }

    pub(super) fn writer(&self) -> &Holding {
        &self.holder().binding
    }

    pub(super) fn upgrader(&self) -> &Holding {
        &self.holder().upgrader
    }

    /// Whether the calling fiber, of `thread`, is the writer.
    pub(super) fn is_writer(&self, lock: &ReadWriteLock, thread: &Thread) -> bool {
        lock.is_gate_held_by(thread) && is_current(self.writer())
    }

    pub(super) fn is_upgrader(&self, lock: &ReadWriteLock, thread: &Thread) -> bool {
        lock.is_turn_of(thread) && is_current(self.upgrader())
    }

    pub(super) fn refuse_own_thread(&self, ruby: &Ruby, held: bool) -> Result<(), Error> {
        if held && !fiber_scheduler::is_non_blocking() {
            return Err(errors::ownership(ruby, DEADLOCK.to_owned()));
        }
        Ok(())
    }
}
