//! `ProcessShared::Mutex`, and what `Monitor` has in common with it.
//!
//! The core knows which native thread holds the lock; this adds which fiber of it, and how often. Both are private to
//! the process and mean something only while the core says that the calling thread holds the lock: so they need no
//! reset in a forked child.
//!
//! `lock`, `unlock` and `synchronize` are bound as bare C functions: they return from the uncontended case within a
//! few nanoseconds, and hand all else to the functions below them.

use magnus::scan_args::{get_kwargs, scan_args};
use magnus::{RClass, RModule, Ruby, Value, method, prelude::*, rb_sys::AsRawValue, rb_sys::FromRawValue};
use process_shared_core::{Mutex, Outcome, Thread};
use rb_sys::{VALUE, rb_fiber_current, rb_gc_writebarrier};
use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};

use crate::bind::slowly;
use crate::condition_variable::{self, Lock};
use crate::data::{self, Data, DataType};
use crate::errors::Error;
use crate::timeout::Timeout;
use crate::{errors, interrupts, nogvl, scheduled, section, thread, waiting};

#[derive(Default)]
pub struct MutexData {
    mutex: OnceLock<Mutex>,
    closed: AtomicBool,
    /// The fiber that holds the lock, if a thread of this process does; 0 or the last one otherwise.
    fiber: AtomicUsize,
    /// How often it does: a Monitor can be held more than once.
    pub levels: AtomicU32,
    /// The callable, or 0.
    on_abandoned: AtomicUsize,
    /// For messages.
    is_monitor: AtomicBool,
    /// The data under the lock is not repaired yet: unlocking leaves the lock marked as abandoned.
    unrepaired: AtomicBool,
}

impl Data for MutexData {
    const TYPE: &'static DataType = {
        static TYPE: DataType = DataType::of::<MutexData>(c"ProcessShared::Mutex");
        &TYPE
    };

    fn mark(&self) {
        // A fiber that no longer holds the lock is forgotten here, so the one that `own` finds is known to the collector.
        if !self.mutex.get().is_some_and(Mutex::is_locked) {
            self.fiber.store(0, Relaxed);
        }
        // Only the collector has to know the fiber: who asks whether a lock can be shared is not told of its holder.
        // SAFETY: asks where it is called.
        let collecting = unsafe { rb_sys::rb_during_gc() } != 0;
        let fiber = if collecting { self.fiber.load(Relaxed) } else { 0 };
        for object in [fiber, self.on_abandoned.load(Relaxed)] {
            if object != 0 {
                // SAFETY: called by the collector; the object was alive when it was stored, and has been marked since.
                unsafe { rb_sys::rb_gc_mark(object as VALUE) };
            }
        }
    }

    fn extra_size(&self) -> usize {
        process_shared_core::arena::SLOT
    }
}

/// How an attempt to take the lock at once went.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    No,
    Yes,
    Abandoned,
}

/// What waiting for the lock came to.
enum Awaited {
    Nothing,
    Lock,
    /// One level more of a Monitor that a signal handler entered meanwhile, and did not leave.
    Level,
}

fn current_fiber() -> usize {
    // SAFETY: called on a Ruby thread with the GVL.
    unsafe { rb_fiber_current() as usize }
}

/// Takes the lock if it is free. A thread that holds too many may hold some only because they are garbage.
fn try_at_once(ruby: &Ruby, mutex: &Mutex, thread: &Thread) -> Result<bool, Error> {
    mutex
        .try_lock(thread)
        .or_else(|_| {
            ruby.gc_start();
            mutex.try_lock(thread)
        })
        .map_err(|error| errors::to_ruby(ruby, error))
}

/// Undoes a `lock` that nobody has heard of yet.
fn give_back(mutex: &Mutex, thread: &Thread) {
    if mutex.is_abandoned() { mutex.release_as_dead(thread) } else { mutex.unlock(thread) }
}

impl MutexData {
    /// For an object of Monitor.
    pub fn of_monitor() -> Self {
        MutexData { is_monitor: AtomicBool::new(true), ..MutexData::default() }
    }

    fn class_name(&self) -> &'static str {
        if self.is_monitor.load(Relaxed) { "ProcessShared::Monitor" } else { "ProcessShared::Mutex" }
    }

    /// The mutex, unless this handle cannot be used.
    pub fn open(&self, ruby: &Ruby) -> Result<&Mutex, Error> {
        let reached = || self.mutex.get().map(Mutex::is_accessible);
        self.usable().ok_or_else(|| errors::unusable(ruby, self.class_name(), reached()))
    }

    /// Refuses a handle that cannot be used.
    pub fn check(&self, ruby: &Ruby) -> Result<(), Error> {
        self.open(ruby).map(|_| ())
    }

    #[inline]
    pub fn usable(&self) -> Option<&Mutex> {
        self.reached().filter(|_| !self.closed.load(Relaxed))
    }

    /// The mutex, for a holder that gives it back: this handle may have been closed meanwhile.
    #[inline]
    pub fn reached(&self) -> Option<&Mutex> {
        self.mutex.get().filter(|mutex| mutex.is_accessible())
    }

    /// Gives one level of a handle that has been closed back, if the caller holds it.
    pub fn give_back_closed(&self, ruby: &Ruby) -> Result<(), Error> {
        if let Some(mutex) = self.reached().filter(|_| self.closed.load(Relaxed)) {
            let thread = thread::current(ruby)?;
            if self.is_owned(mutex, &thread) {
                self.step_out(mutex, &thread);
            }
        }
        Ok(())
    }

    /// Takes the lock if that needs nobody's leave.
    #[inline(always)]
    pub fn take(&self, object: VALUE) -> Taken {
        let (Some(mutex), Some(thread)) = (self.usable(), thread::known()) else { return Taken::No };
        match mutex.try_lock(&thread) {
            Ok(true) => {
                self.own(object);
                if mutex.is_abandoned() { Taken::Abandoned } else { Taken::Yes }
            }
            _ => Taken::No,
        }
    }

    /// Records that the calling fiber holds the lock, once.
    #[inline]
    fn own(&self, object: VALUE) {
        let fiber = current_fiber();
        self.levels.store(1, Relaxed);
        if self.fiber.load(Relaxed) != fiber {
            self.fiber.store(fiber, Relaxed);
            // SAFETY: `object` now refers to `fiber`, both alive.
            unsafe { rb_gc_writebarrier(object, fiber as VALUE) };
        }
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

    /// The fiber that holds the lock, if the calling thread does.
    #[inline]
    pub fn fiber(&self) -> usize {
        self.fiber.load(Relaxed)
    }

    pub fn owned(&self, ruby: &Ruby) -> Result<bool, Error> {
        let (mutex, thread) = (self.open(ruby)?, thread::current(ruby)?);
        Ok(self.is_owned(mutex, &thread))
    }

    /// Refuses a caller who does not hold the lock.
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

    /// Takes the lock, waiting for it if need be: true, or false if `timeout` passed.
    pub fn acquire(&self, ruby: &Ruby, object: Value, timeout: Timeout) -> Result<bool, Error> {
        loop {
            match self.await_lock(ruby, object, timeout)? {
                Awaited::Nothing => return Ok(false),
                Awaited::Lock => self.own(object.as_raw()),
                Awaited::Level => {
                    self.levels.store(self.levels.load(Relaxed) + 1, Relaxed);
                    return Ok(true);
                }
            }
            if self.repair(ruby, object)? {
                return Ok(true);
            }
        }
    }

    fn await_lock(&self, ruby: &Ruby, object: Value, timeout: Timeout) -> Result<Awaited, Error> {
        let (mutex, thread) = (self.open(ruby)?, thread::current(ruby)?);
        if try_at_once(ruby, mutex, &thread)? {
            return Ok(Awaited::Lock);
        }
        self.refuse_own(ruby, mutex)?;
        if mutex.try_lock_soon(&thread) {
            return Ok(Awaited::Lock);
        }
        nogvl::refuse_in_trap(ruby)?;
        // A signal handler may take the lock for the fiber that it runs in.
        let taken = Cell::new(false);
        let refuse_own = || {
            let owns = |thread: Thread| self.is_owned(mutex, &thread);
            self.refuse_own(ruby, mutex).inspect_err(|_| taken.set(thread::known().is_some_and(owns)))
        };
        let acquired = if scheduled::is_non_blocking() {
            scheduled::wait_until(ruby, object, timeout, || {
                refuse_own()?;
                try_at_once(ruby, mutex, &thread::current(ruby)?)
            })
        } else {
            let check = || self.check(ruby).and_then(|()| refuse_own());
            let wait = |thread: &Thread| mutex.lock(thread, timeout.deadline());
            nogvl::block(ruby, [Some(object), None], check, wait, |thread| give_back(mutex, thread))
        };
        if taken.get() && self.is_monitor.load(Relaxed) {
            return Ok(Awaited::Level);
        }
        if !acquired? {
            return Ok(Awaited::Nothing);
        }
        let thread = thread::current(ruby)?;
        self.check(ruby).inspect_err(|_| give_back(mutex, &thread))?;
        Ok(Awaited::Lock)
    }

    /// Refuses to wait for oneself.
    fn refuse_own(&self, ruby: &Ruby, mutex: &Mutex) -> Result<(), Error> {
        let thread = thread::current(ruby)?;
        if !mutex.is_held_by(&thread) {
            return Ok(());
        }
        let text = if self.is_owned(mutex, &thread) {
            "deadlock; recursive locking"
        } else if scheduled::is_non_blocking() {
            return Ok(());
        } else {
            "deadlock; lock already owned by another fiber belonging to the same thread"
        };
        Err(errors::ownership(ruby, text.to_owned()))
    }

    /// With the lock just taken: lets `on_abandoned` repair what a dead holder left. Returns whether the lock is still held:
    /// that may have given it away. If it raises, the lock is given back, still marked as abandoned.
    pub fn repair(&self, ruby: &Ruby, object: Value) -> Result<bool, Error> {
        let Some(mutex) = self.mutex.get() else { return Ok(true) };
        self.unrepaired.store(false, Relaxed);
        let callable = self.on_abandoned.load(Relaxed);
        if callable == 0 || !mutex.is_abandoned() {
            return Ok(true);
        }
        // SAFETY: stored by `initialize`, and marked since.
        let callable = unsafe { Value::from_raw(callable as VALUE) };
        let result = interrupts::call(ruby, callable, "call", [object]);
        let thread = thread::current(ruby)?;
        let held = self.is_owned(mutex, &thread);
        if result.is_err() && held {
            mutex.release_as_dead(&thread);
        }
        result.map(|_| held)
    }

    /// Gives the lock, which the caller holds, back for a while: all levels of it. Returns how many.
    pub fn release_all(&self, ruby: &Ruby) -> Result<u32, Error> {
        let thread = self.assert_owned(ruby)?;
        let levels = self.levels.load(Relaxed);
        self.let_go(self.open(ruby)?, &thread);
        Ok(levels)
    }

    /// Gives one level back, and with the last one the lock. The calling fiber holds it.
    #[inline]
    pub fn step_out(&self, mutex: &Mutex, thread: &Thread) {
        match self.levels.load(Relaxed) {
            1 => self.let_go(mutex, thread),
            levels => self.levels.store(levels - 1, Relaxed),
        }
    }

    #[inline]
    pub fn let_go(&self, mutex: &Mutex, thread: &Thread) {
        // What is not repaired may have been lost, and be in order again since.
        if self.unrepaired.load(Relaxed) && self.unrepaired.swap(false, Relaxed) && mutex.is_abandoned() {
            mutex.release_as_dead(thread);
        } else {
            mutex.unlock(thread);
        }
    }

    /// Takes the lock again after `release_all`, whatever happens: an exception that arrives meanwhile, or that
    /// `on_abandoned` raises, is returned, with the lock held. `rest` runs before any Ruby code does.
    pub fn retake(
        &self,
        ruby: &Ruby,
        object: Value,
        levels: u32,
        raised: Option<Error>,
        rest: &mut dyn FnMut(),
    ) -> Option<Error> {
        let (Some(mutex), Ok(thread)) = (self.mutex.get(), thread::current(ruby)) else { return raised };
        let raised = if matches!(mutex.try_lock(&thread), Ok(true)) || mutex.try_lock_soon(&thread) {
            raised
        } else if scheduled::is_non_blocking() {
            rest();
            let attempt =
                |thread: &Thread| self.is_owned(mutex, thread) || matches!(mutex.try_lock(thread), Ok(true));
            scheduled::wait_through(ruby, object, attempt).or(raised)
        } else {
            // A signal handler may have taken it, and not given it back: then it is this fiber's, as it was before.
            let wait = |thread: &Thread| match mutex.is_held_by(thread) {
                true => Outcome::Acquired,
                false => mutex.lock(thread, None),
            };
            nogvl::block_through(ruby, wait, rest).or(raised)
        };
        let Some(thread) = thread::known().filter(|thread| mutex.is_held_by(thread)) else { return raised };
        self.own(object.as_raw());
        self.levels.store(levels, Relaxed);
        let callable = self.on_abandoned.load(Relaxed);
        if callable == 0 || !mutex.is_abandoned() {
            return raised;
        }
        if raised.is_some() {
            self.unrepaired.store(true, Relaxed); // the next holder will see to it
            return raised;
        }
        rest();
        // SAFETY: stored by `initialize`, and marked since.
        let callable = unsafe { Value::from_raw(callable as VALUE) };
        let error = interrupts::call(ruby, callable, "call", [object]).err();
        if !self.is_owned(mutex, &thread) {
            return self.retake(ruby, object, levels, error, rest);
        }
        self.unrepaired.store(error.is_some(), Relaxed);
        error
    }
}

/// `object`'s data. For functions bound with `method!`, which have nothing to drop yet.
pub fn of<'a>(object: Value) -> &'a MutexData {
    // SAFETY: called first thing in a method, whose receiver stays alive while it runs.
    unsafe { data::get(object.as_raw()) }
}

fn initialize(ruby: &Ruby, object: Value, args: &[Value]) -> Result<(), Error> {
    let data = of(object);
    let args = scan_args::<(), (), (), (), _, ()>(args)?;
    let on_abandoned =
        get_kwargs::<_, (), (Option<Value>,), ()>(args.keywords, &[], &["on_abandoned"])?.optional.0;
    let on_abandoned = on_abandoned.filter(|callable| !callable.is_nil());
    if let Some(callable) = on_abandoned {
        require_callable(ruby, callable)?;
    }
    let mutex = Mutex::new().map_err(|error| errors::to_ruby(ruby, error))?;
    if data.mutex.set(mutex).is_err() {
        return Err(errors::already_initialized(ruby, data.class_name()));
    }
    if let Some(callable) = on_abandoned {
        data.on_abandoned.store(callable.as_raw() as usize, Relaxed);
        // SAFETY: `object` now refers to `callable`, both alive.
        unsafe { rb_gc_writebarrier(object.as_raw(), callable.as_raw()) };
    }
    Ok(())
}

fn require_callable(ruby: &Ruby, callable: Value) -> Result<(), Error> {
    if callable.respond_to("call", false)? {
        return Ok(());
    }
    let class = errors::class_name(callable);
    let text = format!("on_abandoned: must respond to call, an instance of {class} does not");
    Err(Error::new(ruby.exception_type_error(), text))
}

/// `new` without arguments, which is nearly always.
unsafe extern "C" fn initialize_quickly(argc: libc::c_int, argv: *const VALUE, object: VALUE) -> VALUE {
    // SAFETY: a method's receiver; nothing to drop in this frame.
    let data = unsafe { data::get::<MutexData>(object) };
    if argc == 0
        && data.mutex.get().is_none()
        && Mutex::new().is_ok_and(|mutex| data.mutex.set(mutex).is_ok())
    {
        return rb_sys::Qnil as VALUE;
    }
    let slowly: unsafe extern "C" fn(libc::c_int, *const Value, Value) -> Value = method!(initialize, -1);
    // SAFETY: the arguments of this method, in their order.
    unsafe { slowly(argc, argv.cast(), Value::from_raw(object)).as_raw() }
}

unsafe extern "C" fn lock_quickly(object: VALUE) -> VALUE {
    // SAFETY: a method's receiver; nothing to drop in this frame.
    unsafe {
        take_or_wait(object, data::get(object));
    }
    object
}

/// # Safety
/// `data` is that of `object`; no frame between here and Ruby has anything to drop.
#[inline(always)]
unsafe fn take_or_wait(object: VALUE, data: &MutexData) {
    // SAFETY: a method's receiver; the caller's promise.
    unsafe {
        match data.take(object) {
            Taken::Yes => object,
            Taken::No => slowly(object, method!(lock, 0)),
            Taken::Abandoned => slowly(object, method!(repaired, 0)),
        };
    }
}

fn lock(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    of(object).acquire(ruby, object, Timeout::Never).map(|_| object)
}

/// Goes on where a lock has just been taken from a holder that died.
pub fn repaired(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    if of(object).repair(ruby, object)? { Ok(object) } else { lock(ruby, object) }
}

unsafe extern "C" fn unlock_quickly(object: VALUE) -> VALUE {
    // SAFETY: a method's receiver; nothing to drop in this frame.
    let data = unsafe { data::get::<MutexData>(object) };
    if let (Some(mutex), Some(thread)) = (data.usable(), thread::known()) {
        if data.is_owned(mutex, &thread) {
            data.let_go(mutex, &thread);
            return object;
        }
    }
    // SAFETY: the receiver of this method.
    unsafe { slowly(object, method!(unlock, 0)) }
}

/// The end of a block that no longer holds the lock: says why, if that is nobody's wish.
///
/// # Safety
/// No frame between here and Ruby has anything to drop.
pub unsafe fn leave_slowly(object: VALUE) -> VALUE {
    // SAFETY: a method's receiver; the caller's promise.
    unsafe { slowly(object, method!(leave, 0)) }
}

fn unlock(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    let data = of(object);
    data.give_back_closed(ruby)?;
    let thread = data.assert_owned(ruby)?;
    data.let_go(data.open(ruby)?, &thread);
    Ok(object)
}

/// The end of a block that held the lock. If the handle has been closed meanwhile, and the lock was given back with
/// that, nothing is left to do.
fn leave(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    let data = of(object);
    if data.closed.load(Relaxed) { Ok(object) } else { data.assert_owned(ruby).map(|_| object) }
}

unsafe extern "C" fn synchronize(object: VALUE) -> VALUE {
    // SAFETY: called by Ruby as a method; nothing to drop in this frame, over which exceptions jump.
    unsafe {
        if rb_sys::rb_block_given_p() == 0 {
            rb_sys::rb_raise(rb_sys::rb_eThreadError, c"must be called with a block".as_ptr());
        }
        let data = data::get(object);
        take_or_wait(object, data);
        section::run(object, data)
    }
}

fn try_lock(ruby: &Ruby, object: Value, args: &[Value]) -> Result<bool, Error> {
    let data = of(object);
    let timeout = scan_args::<(), (Option<Value>,), (), (), (), ()>(args)?.optional.0;
    let timeout = match timeout.filter(|timeout| !timeout.is_nil()) {
        Some(seconds) => Timeout::parse_try(ruby, seconds)?,
        None => Timeout::Passed,
    };
    try_acquire(ruby, data, object, timeout)
}

/// Takes the lock within `timeout`; false at once if the calling fiber has it.
pub fn try_acquire(ruby: &Ruby, data: &MutexData, object: Value, timeout: Timeout) -> Result<bool, Error> {
    let (mutex, thread) = (data.open(ruby)?, thread::current(ruby)?);
    while try_at_once(ruby, mutex, &thread)? {
        data.own(object.as_raw());
        if data.repair(ruby, object)? {
            return Ok(true);
        }
    }
    let never = mutex.is_held_by(&thread) && (data.is_owned(mutex, &thread) || !scheduled::is_non_blocking());
    if never || timeout.has_passed() {
        return Ok(false);
    }
    // One that a signal handler took meanwhile, and kept, was not to be had either.
    data.acquire(ruby, object, timeout).or_else(|error| {
        let held = thread::known().is_some_and(|thread| mutex.is_held_by(&thread));
        if held && error.is_kind_of(ruby.get_inner(&errors::PROCESS_ERROR)) { Ok(false) } else { Err(error) }
    })
}

/// `sleep(timeout = nil)`: see `condition_variable::wait`.
fn sleep(ruby: &Ruby, object: Value, args: &[Value]) -> Result<Value, Error> {
    let timeout = scan_args::<(), (Option<Value>,), (), (), (), ()>(args)?.optional.0;
    let timeout = timeout.map_or(Ok(Timeout::Never), |seconds| Timeout::parse(ruby, seconds))?;
    let data = of(object);
    data.assert_owned(ruby)?;
    condition_variable::wait(ruby, object, &Lock::Mutex(data, object), timeout)
}

/// Wakes the one that sleeps on this mutex longest, in whatever process.
fn wakeup_first(ruby: &Ruby, object: Value) -> Result<Value, Error> {
    let thread = thread::current(ruby)?;
    of(object).open(ruby)?.condition().signal(&thread);
    Ok(object)
}

/// Gives all levels back and returns how many, for `scheduled`.
fn release(ruby: &Ruby, object: Value) -> Result<u32, Error> {
    of(object).release_all(ruby)
}

/// Undoes `release`, whatever happens.
fn retake(ruby: &Ruby, object: Value, levels: u32) -> Result<(), Error> {
    of(object).retake(ruby, object, levels, None, &mut || {}).map_or(Ok(()), Err)
}

/// Waits until the lock may be free, without taking it. For the helper threads of `scheduled`.
fn watch(ruby: &Ruby, object: Value, timeout: Value) -> Result<bool, Error> {
    let (data, timeout) = (of(object), Timeout::parse(ruby, timeout)?);
    let mutex = data.open(ruby)?;
    let wait = |thread: &Thread| mutex.watch(thread, timeout.deadline());
    nogvl::block(ruby, [Some(object), None], || data.check(ruby), wait, |_| {})
}

pub fn is_locked(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    of(object).open(ruby).map(Mutex::is_locked)
}

pub fn is_owned(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    of(object).owned(ruby)
}

fn is_abandoned(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    of(object).open(ruby).map(Mutex::is_abandoned)
}

fn owner_pid(ruby: &Ruby, object: Value) -> Result<Option<u32>, Error> {
    of(object).open(ruby).map(Mutex::owner_pid)
}

fn waiters(ruby: &Ruby, object: Value) -> Result<usize, Error> {
    of(object).open(ruby).map(Mutex::waiters)
}

/// A lock that this fiber holds is given back first.
fn close(ruby: &Ruby, object: Value) -> Result<(), Error> {
    let data = of(object);
    if data.mutex.get().is_none() {
        return Err(errors::not_initialized(ruby, data.class_name()));
    }
    if let Some(mutex) = data.usable() {
        let thread = thread::current(ruby)?;
        if data.is_owned(mutex, &thread) {
            data.let_go(mutex, &thread);
        }
    }
    data.closed.store(true, Relaxed);
    waiting::rouse(object);
    Ok(())
}

fn is_closed(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    let data = of(object);
    match data.mutex.get() {
        Some(_) => Ok(data.closed.load(Relaxed)),
        None => Err(errors::not_initialized(ruby, data.class_name())),
    }
}

fn inspect(object: Value) -> String {
    let data = of(object);
    let state = match (data.mutex.get(), data.usable()) {
        (None, _) => "not initialized".to_owned(),
        (Some(_), None) => "closed".to_owned(),
        (_, Some(mutex)) => {
            let mut state = match mutex.owner_pid() {
                None => "unlocked".to_owned(),
                Some(pid) if mutex.is_abandoned() => format!("locked by {pid}, abandoned"),
                Some(pid) => format!("locked by {pid}"),
            };
            for (count, what) in [(mutex.waiters(), "waiting"), (mutex.condition().waiters(), "sleeping")] {
                if count > 0 {
                    state += &format!(", {count} {what}");
                }
            }
            state
        }
    };
    format!("#<{} {state}>", errors::class_name(object))
}

/// Binds a method as a bare C function.
///
/// # Safety
/// `function` has the signature that `arity` asks for.
pub unsafe fn bind(class: RClass, name: &std::ffi::CStr, function: *const (), arity: libc::c_int) {
    // SAFETY: the caller's promise.
    unsafe {
        let function = std::mem::transmute::<*const (), unsafe extern "C" fn() -> VALUE>(function);
        rb_sys::rb_define_method(class.as_raw(), name.as_ptr(), Some(function), arity);
    }
}

/// Refuses `dup` and `clone`: the object is the shared thing.
pub fn initialize_copy(ruby: &Ruby, object: Value, _: Value) -> Result<(), Error> {
    let class = errors::class_name(object);
    Err(Error::new(ruby.exception_type_error(), format!("can't copy {class}: the object is what is shared")))
}

/// Defines a class of data `T` in `ProcessShared`.
pub fn define<T: Data>(module: RModule, name: &str, superclass: RClass) -> Result<RClass, Error> {
    let class = module.define_class(name, superclass)?;
    // SAFETY: `allocate` makes objects of this class, around a `T`.
    unsafe { rb_sys::rb_define_alloc_func(class.as_raw(), Some(data::allocate::<T>)) };
    class.define_private_method("initialize_copy", method!(initialize_copy, 1))?;
    Ok(class)
}

pub fn init(ruby: &Ruby, module: RModule) -> Result<RClass, Error> {
    let class = define::<MutexData>(module, "Mutex", ruby.class_object())?;
    // SAFETY: the functions take the receiver alone, or the three arguments of arity -1.
    unsafe {
        bind(class, c"initialize", initialize_quickly as *const (), -1);
        bind(class, c"lock", lock_quickly as *const (), 0);
        bind(class, c"unlock", unlock_quickly as *const (), 0);
        bind(class, c"synchronize", synchronize as *const (), 0);
    }
    class.define_method("try_lock", method!(try_lock, -1))?;
    class.define_method("sleep", method!(sleep, -1))?;
    class.define_method("wakeup_first", method!(wakeup_first, 0))?;
    class.define_private_method("release", method!(release, 0))?;
    class.define_private_method("retake", method!(retake, 1))?;
    class.define_private_method("watch", method!(watch, 1))?;
    class.define_method("locked?", method!(is_locked, 0))?;
    class.define_method("owned?", method!(is_owned, 0))?;
    class.define_method("abandoned?", method!(is_abandoned, 0))?;
    class.define_method("owner_pid", method!(owner_pid, 0))?;
    class.define_method("waiters", method!(waiters, 0))?;
    class.define_method("close", method!(close, 0))?;
    class.define_method("closed?", method!(is_closed, 0))?;
    class.define_method("inspect", method!(inspect, 0))?;
    class.define_method("to_s", method!(inspect, 0))?;
    Ok(class)
}
