//! Readers: each thread has an entry in the core, which counts the levels of its first fiber; those of other fibers are
//! listed in the process.

use magnus::rb_sys::AsRawValue;
use magnus::{Ruby, Value};
use process_shared_core::arena::Reading;
use process_shared_core::kernel::Kernel;
use process_shared_core::read_write_lock::Found;
use process_shared_core::{ReadWriteLock, Reader, Thread};
use rb_sys::{VALUE, rb_gc_writebarrier};
use std::sync::atomic::Ordering::Relaxed;

use super::ReadWriteLockData;
use super::holding::with_room;
use crate::errors::{self, Error};
use crate::object::Object;
use crate::thread::current_fiber;
use crate::timeout::Timeout;
use crate::{fiber_scheduler, nogvl, thread, trap_context};

/// How a reader's wait at the gate has ended.
enum Gate {
    Shut,
    MayBeFree,
    Held,
}

/// Whether the entry of the thread says that `fiber` of it reads. In a file, which others may write to, it says nothing.
#[inline]
fn is_in_entry(lock: &ReadWriteLock, reader: Reader<'_>, fiber: usize) -> bool {
    reader.levels() > 0 && reader.fiber() == fiber as u64 && lock.holder().is_none()
}

#[inline]
fn end_level(lock: &ReadWriteLock, thread: &Thread, reader: Reader<'_>) {
    let levels = reader.levels().saturating_sub(1);
    reader.set_levels(levels);
    if levels == 0 {
        lock.end_read(thread, reader);
    }
}

impl ReadWriteLockData {
    /// How often the calling fiber, of `thread`, reads.
    pub(super) fn reads(&self, lock: &ReadWriteLock, thread: &Thread) -> u64 {
        let Some(reader) = lock.reader(thread) else { return 0 };
        let fiber = current_fiber();
        let (mut own, mut rest) = (0, 0);
        self.holder().readings.list.with(|list| {
            for reading in list.iter().filter(|reading| reading.thread == thread.id()) {
                *if reading.fiber == fiber { &mut own } else { &mut rest } += reading.levels;
            }
        });
        own + if is_in_entry(lock, reader, fiber) { reader.levels().saturating_sub(own + rest) } else { 0 }
    }

    /// Counts one more level of the calling fiber, whose thread reads already.
    pub(super) fn add_read(&self, lock: &ReadWriteLock, object: VALUE, thread: &Thread, reader: Reader<'_>) {
        let (fiber, levels, readings) = (current_fiber(), reader.levels(), &self.holder().readings);
        if levels == 0 && readings.is_used.load(Relaxed) {
            // Left of a thread that has ended, and had the same number.
            readings.list.with(|list| {
                list.retain(|reading| reading.thread != thread.id());
                readings.is_used.store(!list.is_empty(), Relaxed);
            });
        }
        if is_in_entry(lock, reader, fiber) || levels == 0 && lock.holder().is_none() {
            if reader.fiber() != fiber as u64 {
                reader.set_fiber(fiber as u64);
                // SAFETY: `object` now refers to `fiber`, both alive.
                unsafe { rb_gc_writebarrier(object, fiber as VALUE) };
            }
        } else {
            let is_known = |reading: &&mut Reading| reading.thread == thread.id() && reading.fiber == fiber;
            readings.list.with(|list| {
                match list.iter_mut().find(is_known) {
                    Some(reading) => reading.levels += 1,
                    None => list.push(Reading { thread: thread.id(), fiber, levels: 1 }),
                }
                readings.is_used.store(true, Relaxed);
            });
            // SAFETY: as in `hold`.
            unsafe { rb_gc_writebarrier(object, fiber as VALUE) };
        }
        reader.set_levels(levels.saturating_add(1));
    }

    /// Takes one level of the calling fiber away. False if it does not read.
    pub(super) fn remove_read(&self, lock: &ReadWriteLock, thread: &Thread) -> bool {
        if self.reads(lock, thread) == 0 {
            return false;
        }
        let Some(reader) = lock.reader(thread) else { return false };
        let (fiber, readings) = (current_fiber(), &self.holder().readings);
        let is_known = |reading: &Reading| reading.thread == thread.id() && reading.fiber == fiber;
        readings.list.with(|list| {
            if let Some(position) = list.iter().position(is_known) {
                list[position].levels -= 1;
                if list[position].levels == 0 {
                    list.remove(position);
                }
                readings.is_used.store(!list.is_empty(), Relaxed);
            }
        });
        end_level(lock, thread, reader);
        true
    }

    /// Fast path: reads, on a thread that has read before; never raises.
    #[inline(always)]
    pub(super) fn read_fast(&self, object: VALUE) -> bool {
        let (Some(lock), Some(thread)) = (self.shared.usable(), thread::known()) else { return false };
        let Some(reader) = lock.known_reader(&thread) else { return false };
        if reader.levels() == 0 && !lock.try_read(&thread, reader) {
            return false;
        }
        self.add_read(lock, object, &thread, reader);
        true
    }

    #[inline(always)]
    pub(super) fn end_read_fast(&self, lock: &ReadWriteLock, thread: &Thread) -> bool {
        let Some(reader) = lock.known_reader(thread) else { return false };
        let is_simple = reader.levels() > 0
            && !self.holder().readings.is_used.load(Relaxed)
            && is_in_entry(lock, reader, current_fiber());
        if is_simple {
            end_level(lock, thread, reader);
        }
        is_simple
    }

    /// The entry of the calling thread.
    fn entry<'a>(&self, ruby: &Ruby, lock: &'a ReadWriteLock, thread: &Thread) -> Result<Reader<'a>, Error> {
        let reader = with_room(ruby, || lock.reader_or_new(thread))?;
        reader.ok_or_else(|| errors::ownership(ruby, "there is no room for another reader".to_owned()))
    }

    /// Begins to read, waiting for it if need be: true, or false if `timeout` passed.
    pub(super) fn acquire_read(&self, ruby: &Ruby, object: Value, timeout: Timeout) -> Result<bool, Error> {
        loop {
            let (lock, thread) = (self.open(ruby)?, thread::current(ruby)?);
            let reader = self.entry(ruby, lock, &thread)?;
            if reader.levels() == 0 && self.is_writer(lock, &thread) {
                lock.read_as_writer(reader);
            } else if reader.levels() == 0 && !lock.try_read(&thread, reader) {
                self.refuse_own_thread(ruby, lock.is_gate_held_by(&thread))?;
                if lock.try_close(&thread) {
                    if self.pass_gate(ruby, object, lock, &thread, reader, timeout)? {
                        return Ok(true);
                    }
                    continue;
                }
                if timeout.has_passed() {
                    return Ok(false);
                }
                if !lock.try_read_soon(&thread, reader) {
                    trap_context::refuse(ruby)?;
                    match self.await_gate(ruby, object, lock, timeout)? {
                        Gate::Shut => return Ok(false),
                        Gate::MayBeFree => continue,
                        Gate::Held => {}
                    }
                    let thread = thread::current(ruby)?;
                    let found = || lock.found();
                    self.check(ruby).inspect_err(|_| lock.open(&thread, found()))?;
                    let reader =
                        self.entry(ruby, lock, &thread).inspect_err(|_| lock.open(&thread, found()))?;
                    if self.pass_gate(ruby, object, lock, &thread, reader, timeout)? {
                        return Ok(true);
                    }
                    continue;
                }
            }
            self.add_read(lock, object.as_raw(), &thread, reader);
            return Ok(true);
        }
    }

    fn await_gate(
        &self,
        ruby: &Ruby,
        object: Value,
        lock: &ReadWriteLock,
        timeout: Timeout,
    ) -> Result<Gate, Error> {
        let check = || self.check(ruby);
        if fiber_scheduler::is_non_blocking() {
            let is_free = || check().map(|()| lock.is_gate_free());
            let free = fiber_scheduler::wait_until(ruby, object, timeout, is_free)?;
            return Ok(if free { Gate::MayBeFree } else { Gate::Shut });
        }
        let wait = |thread: &Thread| lock.close(thread, timeout.deadline());
        let settle = |thread: &Thread, keep: bool| {
            if !keep {
                lock.open(thread, lock.found());
            }
            keep
        };
        let held = nogvl::block(ruby, [Some(object), None], check, wait, settle)?;
        Ok(if held { Gate::Held } else { Gate::Shut })
    }

    /// Begins to read, as the holder of the gate. `on_abandoned` first repairs the data that a dead writer has left: false if
    /// that took too long.
    fn pass_gate(
        &self,
        ruby: &Ruby,
        object: Value,
        lock: &ReadWriteLock,
        thread: &Thread,
        reader: Reader<'_>,
        timeout: Timeout,
    ) -> Result<bool, Error> {
        let found = lock.found();
        if found == Found::InOrder || self.on_abandoned().is_none() {
            lock.read_and_open(thread, reader, found);
            self.add_read(lock, object.as_raw(), thread, reader);
            return Ok(true);
        }
        lock.open(thread, found);
        if !self.acquire_write(ruby, object, timeout)? {
            return Ok(false);
        }
        let read = self.acquire_read(ruby, object, Timeout::Passed); // the writer does not wait
        self.end_write(ruby)?;
        read
    }

    pub(super) fn end_read(&self, ruby: &Ruby) -> Result<(), Error> {
        if let Some(lock) = self.shared.reached()
            && self.remove_read(lock, &thread::current(ruby)?)
        {
            return Ok(());
        }
        self.check(ruby)?;
        Err(errors::ownership(
            ruby,
            "the lock is not read by this fiber: acquire_read_lock before this call".to_owned(),
        ))
    }
}
