//! `ProcessShared::ReadWriteLock`.
//!
//! The core knows which native threads read, write and have their turn. Which fibers of a thread do, and how often, is
//! private to the process (`Holder`, and the entries of readers), and means something only while the core says that the
//! calling thread is meant; so a forked child holds nothing.

use magnus::rb_sys::{AsRawValue, FromRawValue};
use magnus::{RArray, RModule, Ruby, Value, method, prelude::*};
use process_shared_core::arena::{Holder, Holding, Reading};
use process_shared_core::kernel::Kernel;
use process_shared_core::read_write_lock::Found;
use process_shared_core::{ReadWriteLock, Reader, Thread};
use rb_sys::{VALUE, rb_fiber_current, rb_gc_writebarrier};
use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use crate::errors::{self, Error};
use crate::object::{self, Object, Shared};
use crate::raw_methods::{Method0, NIL, TRUE, define, slow};
use crate::repair::require_callable;
use crate::timeout::Timeout;
use crate::typed_data::{self, Data, of};
use crate::{data_type, fiber_scheduler, interrupts, nogvl, path, thread, trap_context};

#[derive(Default)]
pub struct ReadWriteLockData {
    shared: Shared<ReadWriteLock>,
    /// The holders in this process, for a lock without a path. All handles of a path share one record in the core.
    own_holder: Holder,
    /// Whether `on_abandoned` runs in the writer.
    repairing: AtomicBool,
    /// The callable, or 0.
    on_abandoned: AtomicUsize,
}

impl Data for ReadWriteLockData {
    data_type!(ReadWriteLockData, c"ProcessShared::ReadWriteLock");

    fn mark(&self) {
        // Ractor.make_shareable asks for references too, and must not be told of fibers.
        // SAFETY: asks where it is called.
        let collecting = unsafe { rb_sys::rb_during_gc() } != 0;
        let mark = |fiber: usize| {
            if collecting && fiber != 0 {
                // SAFETY: called by the collector; the fiber was alive when it was stored, and has been marked since.
                unsafe { rb_sys::rb_gc_mark(fiber as VALUE) };
            }
        };
        // A holder that all handles have is seen to by `owner::holders`.
        if let Some(lock) = self.shared.reached().filter(|lock| lock.holder().is_none()) {
            lock.each_fiber(|fiber| mark(fiber as usize));
        }
        self.own_holder.each_fiber(mark);
        if let Some(callable) = self.on_abandoned() {
            // SAFETY: called by the collector.
            unsafe { rb_sys::rb_gc_mark(callable.as_raw()) };
        }
    }

    fn extra_size(&self) -> usize {
        process_shared_core::arena::SLOT
    }
}

impl Object for ReadWriteLockData {
    type Core = ReadWriteLock;
    const TAKES_PATH: bool = true;

    fn shared(&self) -> &Shared<ReadWriteLock> {
        &self.shared
    }

    fn class_name(&self) -> &'static str {
        "ProcessShared::ReadWriteLock"
    }

    fn describe(&self, lock: &ReadWriteLock) -> String {
        let readers = lock.reader_pids();
        let mut state = match (lock.owner_pid(), readers.is_empty()) {
            (Some(pid), _) => format!("written by {pid}"),
            (None, false) => {
                format!("read by {}", readers.iter().map(u32::to_string).collect::<Vec<_>>().join(", "))
            }
            (None, true) => "free".to_owned(),
        };
        if lock.is_abandoned() {
            state += ", abandoned";
        }
        match lock.waiters() {
            0 => state,
            waiters => format!("{state}, {waiters} waiting"),
        }
    }

    /// Releases the lock if the calling fiber holds it. A lock with a path stays held if the process has another handle of it.
    fn before_close(&self, ruby: &Ruby) -> Result<(), Error> {
        let Some(lock) = self.shared.usable().filter(|lock| !lock.has_other_handles()) else { return Ok(()) };
        let thread = thread::current(ruby)?;
        if self.is_writer(lock, &thread) {
            clear(self.writer());
            lock.end_write(&thread, !self.repairing.load(Relaxed));
            if !self.is_upgrader(lock, &thread) {
                lock.end_turn(&thread);
            }
        }
        if self.is_upgrader(lock, &thread) {
            clear(self.upgrader());
            lock.end_turn(&thread);
        }
        while self.remove_read(lock, &thread) {}
        Ok(())
    }
}

fn current_fiber() -> usize {
    // SAFETY: called on a Ruby thread with the GVL.
    unsafe { rb_fiber_current() as usize }
}

/// Makes the calling fiber the holder, once.
fn hold(holding: &Holding, object: Value) {
    let fiber = current_fiber();
    holding.fiber.store(fiber, Relaxed);
    holding.levels.store(1, Relaxed);
    // SAFETY: `object` now refers to `fiber`, both alive; or `owner::holders` does, which the collector always looks at.
    unsafe { rb_gc_writebarrier(object.as_raw(), fiber as VALUE) };
}

fn clear(holding: &Holding) {
    holding.levels.store(0, Relaxed);
    holding.fiber.store(0, Relaxed);
}

fn is_current(holding: &Holding) -> bool {
    holding.levels.load(Relaxed) > 0 && holding.fiber.load(Relaxed) == current_fiber()
}

fn add_level(ruby: &Ruby, holding: &Holding) -> Result<(), Error> {
    let levels = holding.levels.load(Relaxed);
    if levels == u32::MAX {
        return Err(errors::ownership(ruby, format!("this fiber has taken the lock {levels} times")));
    }
    holding.levels.store(levels + 1, Relaxed);
    Ok(())
}

/// True for the last one.
fn remove_level(holding: &Holding) -> bool {
    let levels = holding.levels.load(Relaxed).saturating_sub(1);
    holding.levels.store(levels, Relaxed);
    if levels == 0 {
        clear(holding);
    }
    levels == 0
}

const DEADLOCK: &str = "deadlock; another fiber of this thread holds the lock";
const UPGRADE: &str =
    "deadlock; this fiber reads, and another writes or may: to become the writer, read with_upgradable_lock";

/// A thread that holds too many locks may hold some only because they are garbage.
fn with_room<T>(ruby: &Ruby, attempt: impl Fn() -> process_shared_core::Result<T>) -> Result<T, Error> {
    let collected = |_| {
        ruby.gc_start();
        attempt()
    };
    attempt().or_else(collected).map_err(|error| errors::to_ruby(ruby, error))
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
    fn holder(&self) -> &Holder {
        self.shared.get().and_then(ReadWriteLock::holder).unwrap_or(&self.own_holder)
    }

    fn writer(&self) -> &Holding {
        &self.holder().binding
    }

    fn upgrader(&self) -> &Holding {
        &self.holder().upgrader
    }

    fn on_abandoned(&self) -> Option<Value> {
        let callable = self.on_abandoned.load(Relaxed);
        // SAFETY: not 0, so `initialize` stored it, and it has been marked since.
        (callable != 0).then(|| unsafe { Value::from_raw(callable as VALUE) })
    }

    /// Whether the calling fiber, of `thread`, is the writer.
    fn is_writer(&self, lock: &ReadWriteLock, thread: &Thread) -> bool {
        lock.is_gate_held_by(thread) && is_current(self.writer())
    }

    fn is_upgrader(&self, lock: &ReadWriteLock, thread: &Thread) -> bool {
        lock.is_turn_of(thread) && is_current(self.upgrader())
    }

    /// How often the calling fiber, of `thread`, reads.
    fn reads(&self, lock: &ReadWriteLock, thread: &Thread) -> u64 {
        let Some(reader) = lock.reader(thread) else { return 0 };
        let fiber = current_fiber();
        let (mut own, mut rest) = (0, 0);
        for reading in self.holder().readings.list().iter().filter(|reading| reading.thread == thread.id()) {
            *if reading.fiber == fiber { &mut own } else { &mut rest } += reading.levels;
        }
        own + if is_in_entry(lock, reader, fiber) { reader.levels().saturating_sub(own + rest) } else { 0 }
    }

    /// Counts one more level of the calling fiber, whose thread reads already.
    fn add_read(&self, lock: &ReadWriteLock, object: VALUE, thread: &Thread, reader: Reader<'_>) {
        let (fiber, levels, readings) = (current_fiber(), reader.levels(), &self.holder().readings);
        if levels == 0 && readings.is_used.load(Relaxed) {
            readings.list().retain(|reading| reading.thread != thread.id()); // of a thread that has ended
        }
        if is_in_entry(lock, reader, fiber) || levels == 0 && lock.holder().is_none() {
            if reader.fiber() != fiber as u64 {
                reader.set_fiber(fiber as u64);
                // SAFETY: `object` now refers to `fiber`, both alive.
                unsafe { rb_gc_writebarrier(object, fiber as VALUE) };
            }
        } else {
            let mut list = readings.list();
            let known =
                list.iter_mut().find(|reading| reading.thread == thread.id() && reading.fiber == fiber);
            match known {
                Some(reading) => reading.levels += 1,
                None => list.push(Reading { thread: thread.id(), fiber, levels: 1 }),
            }
            readings.is_used.store(true, Relaxed);
            drop(list);
            // SAFETY: as in `hold`.
            unsafe { rb_gc_writebarrier(object, fiber as VALUE) };
        }
        reader.set_levels(levels.saturating_add(1));
    }

    /// Takes one level of the calling fiber away. False if it does not read.
    fn remove_read(&self, lock: &ReadWriteLock, thread: &Thread) -> bool {
        if self.reads(lock, thread) == 0 {
            return false;
        }
        let Some(reader) = lock.reader(thread) else { return false };
        let (fiber, readings) = (current_fiber(), &self.holder().readings);
        let mut list = readings.list();
        let known = list.iter().position(|reading| reading.thread == thread.id() && reading.fiber == fiber);
        if let Some(position) = known {
            list[position].levels -= 1;
            if list[position].levels == 0 {
                list.remove(position);
            }
            readings.is_used.store(!list.is_empty(), Relaxed);
        }
        drop(list);
        end_level(lock, thread, reader);
        true
    }

    /// Fast path: reads, on a thread that has read before; never raises.
    #[inline(always)]
    fn read_fast(&self, object: VALUE) -> bool {
        let (Some(lock), Some(thread)) = (self.shared.usable(), thread::known()) else { return false };
        let Some(reader) = lock.known_reader(&thread) else { return false };
        if reader.levels() == 0 && !lock.try_read(&thread, reader) {
            return false;
        }
        self.add_read(lock, object, &thread, reader);
        true
    }

    #[inline(always)]
    fn end_read_fast(&self, lock: &ReadWriteLock, thread: &Thread) -> bool {
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

    fn refuse_own_thread(&self, ruby: &Ruby, held: bool) -> Result<(), Error> {
        if held && !fiber_scheduler::is_non_blocking() {
            return Err(errors::ownership(ruby, DEADLOCK.to_owned()));
        }
        Ok(())
    }

    /// Begins to read, waiting for it if need be: true, or false if `timeout` passed.
    fn acquire_read(&self, ruby: &Ruby, object: Value, timeout: Timeout) -> Result<bool, Error> {
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

    /// Reads, as the holder of the gate. What a dead writer has left is repaired first: false if that took too long.
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

    /// Becomes the writer, waiting for it if need be: true, or false if `timeout` passed.
    fn acquire_write(&self, ruby: &Ruby, object: Value, timeout: Timeout) -> Result<bool, Error> {
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

    fn end_write(&self, ruby: &Ruby) -> Result<(), Error> {
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

    fn end_read(&self, ruby: &Ruby) -> Result<(), Error> {
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

    fn acquire_turn(&self, ruby: &Ruby, object: Value) -> Result<(), Error> {
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

    fn end_turn(&self, ruby: &Ruby) -> Result<(), Error> {
        let Some(lock) = self.shared.reached() else { return Ok(()) };
        let thread = thread::current(ruby)?;
        if self.is_upgrader(lock, &thread) && remove_level(self.upgrader()) && !self.is_writer(lock, &thread)
        {
            lock.end_turn(&thread);
        }
        Ok(())
    }
}

/// What a reader that waited at the gate has come to.
enum Gate {
    Shut,
    MayBeFree,
    Held,
}

fn initialize(ruby: &Ruby, object: Value, args: &[Value]) -> Result<(), Error> {
    let data = of::<ReadWriteLockData>(object);
    let given = path::given(ruby, args, &["on_abandoned"])?;
    ruby.check_arity(given.positional.len(), 0..=0)?;
    let callable = given.extra[0].filter(|callable| !callable.is_nil());
    if let Some(callable) = callable {
        require_callable(ruby, callable)?;
    }
    let open = |path: &Path, mode| ReadWriteLock::in_file(path, mode, "ReadWriteLock");
    data.initialize(ruby, object, given.location.as_ref(), ReadWriteLock::new, open)?;
    if let Some(callable) = callable {
        data.on_abandoned.store(callable.as_raw() as usize, Relaxed);
        // SAFETY: `object` now refers to `callable`, both alive.
        unsafe { rb_gc_writebarrier(object.as_raw(), callable.as_raw()) };
    }
    Ok(())
}

unsafe extern "C" fn acquire_read_lock(object: VALUE) -> VALUE {
    // SAFETY: a method's receiver; nothing to drop in this frame.
    unsafe {
        match typed_data::get::<ReadWriteLockData>(object).read_fast(object) {
            true => TRUE,
            false => slow(object, method!(acquire_read_slow, 0)),
        }
    }
}

fn acquire_read_slow(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    of::<ReadWriteLockData>(object).acquire_read(ruby, object, Timeout::Never)
}

unsafe extern "C" fn release_read_lock(object: VALUE) -> VALUE {
    // SAFETY: a method's receiver; nothing to drop in this frame.
    let data = unsafe { typed_data::get::<ReadWriteLockData>(object) };
    if let (Some(lock), Some(thread)) = (data.shared.usable(), thread::known())
        && data.end_read_fast(lock, &thread)
    {
        return TRUE;
    }
    // SAFETY: the receiver of this method.
    unsafe { slow(object, method!(release_read_slow, 0)) }
}

fn release_read_slow(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    of::<ReadWriteLockData>(object).end_read(ruby).map(|()| true)
}

fn try_read_lock(ruby: &Ruby, object: Value, args: &[Value]) -> Result<bool, Error> {
    let timeout = Timeout::of_try(ruby, args)?.unwrap_or(Timeout::Passed);
    of::<ReadWriteLockData>(object).acquire_read(ruby, object, timeout)
}

fn acquire_write_lock(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    of::<ReadWriteLockData>(object).acquire_write(ruby, object, Timeout::Never)
}

fn try_write_lock(ruby: &Ruby, object: Value, args: &[Value]) -> Result<bool, Error> {
    let timeout = Timeout::of_try(ruby, args)?.unwrap_or(Timeout::Passed);
    of::<ReadWriteLockData>(object).acquire_write(ruby, object, timeout)
}

fn release_write_lock(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    of::<ReadWriteLockData>(object).end_write(ruby).map(|()| true)
}

/// A block with the lock held.
struct Section {
    object: VALUE,
    /// The thread that began it.
    thread: Option<Thread>,
    end: fn(&Ruby, Value) -> Result<(), Error>,
}

/// # Safety
/// Called within a method; no frame between here and Ruby has anything to drop.
#[inline(always)]
unsafe fn require_block() {
    // SAFETY: the caller's promise.
    unsafe {
        if rb_sys::rb_block_given_p() == 0 {
            rb_sys::rb_raise(rb_sys::rb_eArgError, c"no block given".as_ptr());
        }
    }
}

/// # Safety
/// As `synchronize::run`.
unsafe fn run(object: VALUE, end: fn(&Ruby, Value) -> Result<(), Error>) -> VALUE {
    let section = Section { object, thread: thread::known(), end };
    let argument = &raw const section as VALUE;
    // SAFETY: `section` outlives the call, which runs `end_of` before anything leaves this frame.
    unsafe { rb_sys::rb_ensure(Some(rb_sys::rb_yield), rb_sys::Qundef as VALUE, Some(end_of), argument) }
}

/// A child that was forked in the block holds nothing, and gives nothing back. A handle that was closed in it may have done so.
unsafe extern "C" fn end_of(section: VALUE) -> VALUE {
    // SAFETY: `run` passes the address of its own.
    let section = unsafe { &*(section as *const Section) };
    if !section.thread.is_some_and(|thread| thread.is_here()) {
        return NIL;
    }
    crate::raw_methods::answer(|| {
        let object = crate::raw_methods::value(section.object);
        let ended = (section.end)(&crate::raw_methods::ruby(), object);
        if of::<ReadWriteLockData>(object).shared.is_closed() { Ok(NIL) } else { ended.map(|()| NIL) }
    })
}

unsafe extern "C" fn with_read_lock(object: VALUE) -> VALUE {
    // SAFETY: called by Ruby as a method; nothing to drop in this frame, over which exceptions jump.
    unsafe {
        require_block();
        acquire_read_lock(object);
        run(object, |ruby, object| {
            let data = of::<ReadWriteLockData>(object);
            if let (Some(lock), Some(thread)) = (data.shared.usable(), thread::known())
                && data.end_read_fast(lock, &thread)
            {
                return Ok(());
            }
            data.end_read(ruby)
        })
    }
}

unsafe extern "C" fn with_write_lock(object: VALUE) -> VALUE {
    // SAFETY: as above.
    unsafe {
        require_block();
        slow(object, method!(acquire_write_lock, 0));
        run(object, |ruby, object| of::<ReadWriteLockData>(object).end_write(ruby))
    }
}

fn acquire_turn(ruby: &Ruby, object: Value) -> Result<(), Error> {
    of::<ReadWriteLockData>(object).acquire_turn(ruby, object)
}

unsafe extern "C" fn with_upgradable_lock(object: VALUE) -> VALUE {
    // SAFETY: as above.
    unsafe {
        require_block();
        slow(object, method!(acquire_turn, 0));
        run(object, |ruby, object| of::<ReadWriteLockData>(object).end_turn(ruby))
    }
}

/// What `watch` is to wait for, instead of the gate alone.
const WRITE: u32 = 1;

/// Waits until the gate may be free, or until somebody could become the writer, for the helper threads of
/// `fiber_scheduler.rb`.
fn watch(ruby: &Ruby, object: Value, args: &[Value]) -> Result<bool, Error> {
    ruby.check_arity(args.len(), 1..=2)?;
    let (data, timeout) = (of::<ReadWriteLockData>(object), Timeout::parse(ruby, args[0])?);
    let lock = data.open(ruby)?;
    let wait = |thread: &Thread| match args.len() {
        1 => lock.wait_until_gate_is_free(thread, timeout.deadline()),
        _ => lock.watch(thread, timeout.deadline()),
    };
    nogvl::block(ruby, [Some(object), None], || data.check(ruby), wait, nogvl::keep)
}

fn has_waiters(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    waiters(ruby, object).map(|waiters| waiters > 0)
}

fn waiters(ruby: &Ruby, object: Value) -> Result<usize, Error> {
    of::<ReadWriteLockData>(object).open(ruby).map(ReadWriteLock::waiters)
}

fn is_write_locked(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    of::<ReadWriteLockData>(object).open(ruby).map(ReadWriteLock::is_written)
}

fn is_abandoned(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    of::<ReadWriteLockData>(object).open(ruby).map(ReadWriteLock::is_abandoned)
}

fn owner_pid(ruby: &Ruby, object: Value) -> Result<Option<u32>, Error> {
    of::<ReadWriteLockData>(object).open(ruby).map(ReadWriteLock::owner_pid)
}

fn reader_pids(ruby: &Ruby, object: Value) -> Result<RArray, Error> {
    let lock = of::<ReadWriteLockData>(object).open(ruby)?;
    Ok(ruby.ary_from_vec(lock.reader_pids()))
}

pub fn init(ruby: &Ruby, module: RModule) -> Result<(), Error> {
    let class = object::define_class::<ReadWriteLockData>(module, "ReadWriteLock", ruby.class_object())?;
    class.define_method("initialize", method!(initialize, -1))?;
    define(class, "acquire_read_lock", acquire_read_lock as Method0)?;
    define(class, "release_read_lock", release_read_lock as Method0)?;
    define(class, "with_read_lock", with_read_lock as Method0)?;
    define(class, "with_write_lock", with_write_lock as Method0)?;
    define(class, "with_upgradable_lock", with_upgradable_lock as Method0)?;
    class.define_method("try_read_lock", method!(try_read_lock, -1))?;
    class.define_method("acquire_write_lock", method!(acquire_write_lock, 0))?;
    class.define_method("try_write_lock", method!(try_write_lock, -1))?;
    class.define_method("release_write_lock", method!(release_write_lock, 0))?;
    class.define_method("has_waiters?", method!(has_waiters, 0))?;
    class.define_method("waiters", method!(waiters, 0))?;
    class.define_method("write_locked?", method!(is_write_locked, 0))?;
    class.define_method("abandoned?", method!(is_abandoned, 0))?;
    class.define_method("owner_pid", method!(owner_pid, 0))?;
    class.define_method("reader_pids", method!(reader_pids, 0))?;
    Ok(class.define_private_method("watch", method!(watch, -1))?)
}
