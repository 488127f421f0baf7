//! Upgraders: a fiber with its turn to write, which reads meanwhile and becomes the writer without a gap.

use magnus::{Ruby, Value, prelude::*};
use process_shared_core::Thread;

use super::ReadWriteLockData;
use super::holding::{UPGRADE, add_level, hold, remove_level, with_room};
use crate::errors::{self, Error};
use crate::object::Object;
use crate::timeout::Timeout;
use crate::{fiber_scheduler, nogvl, thread, trap_context};

impl ReadWriteLockData {
    pub(super) fn acquire_turn(&self, ruby: &Ruby, object: Value) -> Result<(), Error> {
        loop {
            let (lock, thread) = (self.open(ruby)?, thread::current(ruby)?);
            if self.is_upgrader(lock, &thread) {
                return add_level(ruby, self.upgrader());
            }
            with_room(ruby, || lock.check_room(&thread))?;
            if !self.is_writer(lock, &thread) && !lock.try_take_turn(&thread) {
                self.refuse_own_thread(ruby, lock.is_turn_of(&thread))?;
                if self.reads(lock, &thread) > 0 {
                    return Err(errors::ownership(ruby, UPGRADE.to_owned()));
                }
                trap_context::refuse(ruby)?;
                if fiber_scheduler::is_non_blocking() {
                    ruby.module_kernel().funcall::<_, _, Value>("sleep", (0.001,))?;
                    continue;
                }
                let wait = |thread: &Thread| lock.take_turn(thread, None);
                let settle = |thread: &Thread, keep: bool| {
                    if !keep {
                        lock.end_turn(thread);
                    }
                    keep
                };
                nogvl::block(ruby, [Some(object), None], || self.check(ruby), wait, settle)?;
                let thread = thread::current(ruby)?;
                self.check(ruby).inspect_err(|_| lock.end_turn(&thread))?;
            }
            hold(self.upgrader(), object);
            if self.on_abandoned().is_some() && lock.is_abandoned() {
                let repaired =
                    self.acquire_write(ruby, object, Timeout::Never).and_then(|_| self.end_write(ruby));
                repaired.inspect_err(|_| drop(self.end_turn(ruby)))?;
            }
            return Ok(());
        }
    }

    pub(super) fn end_turn(&self, ruby: &Ruby) -> Result<(), Error> {
        let Some(lock) = self.shared.reached() else { return Ok(()) };
        let thread = thread::current(ruby)?;
        if self.is_upgrader(lock, &thread) && remove_level(self.upgrader()) && !self.is_writer(lock, &thread)
        {
            lock.end_turn(&thread);
        }
        Ok(())
    }
}
