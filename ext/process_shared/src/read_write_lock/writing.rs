//! Writers, and what `on_abandoned` repairs in them.

use magnus::{Ruby, Value, prelude::*};
use process_shared_core::{ReadWriteLock, Thread};
use std::cell::Cell;
use std::sync::atomic::Ordering::Relaxed;

use super::holding::{UPGRADE, add_level, clear, hold, remove_level, with_room};
use super::{ReadWriteLockData, WRITE};
use crate::errors::{self, Error};
use crate::object::Object;
use crate::timeout::Timeout;
use crate::{fiber_scheduler, interrupts, nogvl, thread, trap_context};

impl ReadWriteLockData {
    /// Becomes the writer, waiting for it if need be: true, or false if `timeout` passed.
    pub(super) fn acquire_write(&self, ruby: &Ruby, object: Value, timeout: Timeout) -> Result<bool, Error> {
        loop {
            let (lock, thread) = (self.open(ruby)?, thread::current(ruby)?);
            if self.is_writer(lock, &thread) {
                add_level(ruby, self.writer())?;
                return Ok(true);
            }
            with_room(ruby, || lock.check_room(&thread))?;
            let is_upgrader = self.is_upgrader(lock, &thread);
            let reads = self.reads(lock, &thread);
            let others_read = lock.reader(&thread).is_some_and(|reader| reader.levels() > reads);
            let others_hold = lock.is_gate_held_by(&thread) || !is_upgrader && lock.is_turn_of(&thread);
            self.refuse_own_thread(ruby, others_read || others_hold)?;
            if others_read || others_hold || !lock.try_write(&thread, !is_upgrader) {
                if timeout.has_passed() {
                    return Ok(false);
                }
                trap_context::refuse(ruby)?;
                if fiber_scheduler::is_non_blocking() {
                    // Nobody can wait in place of a fiber whose own reading stands in the way.
                    if is_upgrader || reads > 0 || others_read {
                        ruby.module_kernel().funcall::<_, _, Value>("sleep", (0.001,))?;
                        continue;
                    }
                    let attempt = || {
                        self.check(ruby)?;
                        Ok(lock.try_write(&thread::current(ruby)?, true))
                    };
                    if !fiber_scheduler::wait_until_past(ruby, object, timeout, WRITE, attempt)? {
                        return Ok(false);
                    }
                    hold(self.writer(), object);
                    if self.repair(ruby, object)? {
                        return Ok(true);
                    }
                    continue;
                }
                // A reader does not wait for its turn, whose holder may wait for the reader.
                let has_turn = reads > 0 && !is_upgrader;
                if has_turn && !lock.try_take_turn(&thread) {
                    return Err(errors::ownership(ruby, UPGRADE.to_owned()));
                }
                if !self.await_write(ruby, object, lock, !is_upgrader, has_turn, timeout)? {
                    return Ok(false);
                }
            }
            hold(self.writer(), object);
            if self.repair(ruby, object)? {
                return Ok(true);
            }
        }
    }

    fn await_write(
        &self,
        ruby: &Ruby,
        object: Value,
        lock: &ReadWriteLock,
        ends_turn: bool,
        has_turn: bool,
        timeout: Timeout,
    ) -> Result<bool, Error> {
        let here = thread::current(ruby)?;
        let has_turn = Cell::new(has_turn);
        let wait = |thread: &Thread| {
            // A child that a signal handler has forked has nothing.
            let takes_turn = ends_turn && !(has_turn.get() && here.is_here());
            lock.write(thread, takes_turn, timeout.deadline())
        };
        let undo = |thread: &Thread| {
            lock.end_write(thread, !lock.is_abandoned());
            if ends_turn && !has_turn.get() {
                lock.end_turn(thread);
            }
        };
        let settle = |thread: &Thread, keep: bool| {
            if !keep {
                undo(thread);
            }
            keep
        };
        let result = nogvl::block(ruby, [Some(object), None], || self.check(ruby), wait, settle);
        let closed = matches!(result, Ok(true)) && self.shared.is_closed();
        if closed {
            undo(&thread::current(ruby)?);
        }
        if (closed || !matches!(result, Ok(true))) && has_turn.get() && here.is_here() {
            lock.end_turn(&here);
        }
        if closed { self.check(ruby).map(|()| false) } else { result }
    }

    /// Lets `on_abandoned` repair what a dead writer left. False if it has released the lock. If it raises, the lock is released,
    /// still marked as abandoned.
    fn repair(&self, ruby: &Ruby, object: Value) -> Result<bool, Error> {
        let lock = self.open(ruby)?;
        let Some(callable) = self.on_abandoned().filter(|_| lock.is_abandoned()) else { return Ok(true) };
        self.repairing.store(true, Relaxed);
        let result = interrupts::call(ruby, callable, "call", [object]);
        self.repairing.store(false, Relaxed);
        let thread = thread::current(ruby)?;
        if !self.is_writer(lock, &thread) {
            return result.map(|_| false);
        }
        if result.is_ok() {
            lock.repaired();
            return Ok(true);
        }
        clear(self.writer());
        lock.end_write(&thread, false);
        if !self.is_upgrader(lock, &thread) {
            lock.end_turn(&thread);
        }
        result.map(|_| false)
    }

    pub(super) fn end_write(&self, ruby: &Ruby) -> Result<(), Error> {
        let (lock, thread) = match self.shared.reached() {
            Some(lock) => (lock, thread::current(ruby)?),
            None => return self.check(ruby),
        };
        if !self.is_writer(lock, &thread) {
            self.check(ruby)?;
            let text = match lock.owner_pid() {
                Some(pid) => format!("the lock is written by process {pid}, and not by this fiber"),
                None => "the lock is not written: acquire_write_lock before this call".to_owned(),
            };
            return Err(errors::ownership(ruby, text));
        }
        if remove_level(self.writer()) {
            lock.end_write(&thread, true);
            if !self.is_upgrader(lock, &thread) {
                lock.end_turn(&thread);
            }
        }
        Ok(())
    }
}
