//! `ProcessShared::ReadWriteLock`.
//!
//! The core knows which native threads read, write and have their turn. Which fibers of a thread do, and how often, is
//! private to the process (`Holder`, and the entries of readers), and means something only while the core says that the
//! calling thread is meant; so a forked child holds nothing.

use magnus::rb_sys::{AsRawValue, FromRawValue};
use magnus::{RArray, RModule, Ruby, Value, method, prelude::*};
use process_shared_core::arena::Holder;
use process_shared_core::{ReadWriteLock, Thread};
use rb_sys::{VALUE, rb_gc_writebarrier};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use crate::errors::Error;
use crate::object::{self, Object, Shared};
use crate::raw_methods::{Method0, TRUE, define, slow};
use crate::repair::require_callable;
use crate::timeout::Timeout;
use crate::typed_data::{self, Data, of};
use crate::{data_type, nogvl, path, thread};

mod blocks;
mod holding;
mod reading;
mod upgrading;
mod writing;

use blocks::{with_read_lock, with_upgradable_lock, with_write_lock};
use holding::clear;

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

impl ReadWriteLockData {
    fn on_abandoned(&self) -> Option<Value> {
        let callable = self.on_abandoned.load(Relaxed);
        // SAFETY: not 0, so `initialize` stored it, and it has been marked since.
        (callable != 0).then(|| unsafe { Value::from_raw(callable as VALUE) })
    }
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
