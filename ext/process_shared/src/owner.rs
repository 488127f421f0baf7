//! Which fiber holds a Mutex or Monitor, and how often.
//!
//! The core knows which native thread holds the lock. The fiber of that thread and the levels of a Monitor are private to
//! the process, and mean something only while the core says that the calling thread holds the lock: so they need no reset
//! in a forked child, whose threads have other numbers.
//!
//! The collector: while a fiber holds the lock, `mark` keeps it alive. `own` skips the write barrier where it stores the
//! fiber that is there already, which the collector therefore knows: `mark` clears a fiber that no longer holds the lock.
//!
//! All handles of a lock with a path have one holder. Any of them may go before the lock is released, so none of them keeps the
//! fiber alive: `holders` does, an object that the collector looks at each time.

use magnus::{Ruby, Value, rb_sys::AsRawValue};
use process_shared_core::arena::{self, Holder, Holding};
use process_shared_core::{Mutex, Thread};
use rb_sys::{VALUE, rb_gc_writebarrier};
use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::Relaxed;

use crate::errors::{self, Error};
use crate::mutex::MutexData;
use crate::object::Object;
use crate::thread::{self, current_fiber};

impl MutexData {
    /// Records that the calling fiber, which is returned, holds the lock, once.
    pub fn own(&self, object: VALUE) -> usize {
        self.own_as(object, thread::known())
    }

    /// The same for a caller that knows its thread.
    #[inline(always)]
    pub fn own_as(&self, object: VALUE, thread: Option<Thread>) -> usize {
        let fiber = current_fiber();
        if let Some(holder) = self.shared_holder() {
            self.own_shared(holder, fiber, thread);
            return fiber;
        }
        self.own_holder.levels.store(1, Relaxed);
        if self.own_holder.fiber.load(Relaxed) != fiber {
            self.own_holder.fiber.store(fiber, Relaxed);
            // SAFETY: `object` now refers to `fiber`, both alive.
            unsafe { rb_gc_writebarrier(object, fiber as VALUE) };
        }
        fiber
    }

    /// Apart, and the thread as it is, so that others need no memory for theirs.
    #[inline(never)]
    fn own_shared(&self, holder: &Holder, fiber: usize, thread: Option<Thread>) {
        holder.binding.levels.store(1, Relaxed);
        holder.binding.fiber.store(fiber, Relaxed); // `holders` refers to it
        if let Some(other) = thread.and_then(|thread| holder.note(&thread)) {
            if let Some(mutex) = self.shared.get() {
                mutex.keep_if_listed_by(other);
            }
        }
    }

    /// The holder that all handles of a lock with a path have.
    #[inline(always)]
    pub fn shared_holder(&self) -> Option<&Holder> {
        // SAFETY: null, or that of the lock in `shared`, which lives as long as this.
        unsafe { self.shared_holder.load(Relaxed).as_ref() }
    }

    /// What this process knows of the holder.
    #[inline(always)]
    pub fn holder(&self) -> &Holding {
        self.holding(self.shared_holder())
    }

    /// The same for a caller that has asked for the shared holder.
    #[inline(always)]
    pub fn holding<'a>(&'a self, shared: Option<&'a Holder>) -> &'a Holding {
        shared.map_or(&self.own_holder, |holder| &holder.binding)
    }

    /// Makes a lock with a path have the holder of all its handles. Part of `initialize`.
    pub fn share_holder(&self) {
        if let Some(holder) = self.shared.get().and_then(Mutex::holder) {
            self.shared_holder.store(ptr::from_ref(holder).cast_mut(), Relaxed);
        }
    }

    /// Records that the calling fiber holds the lock, `levels` times.
    pub fn own_levels(&self, object: Value, levels: u32) {
        self.own(object.as_raw());
        self.holder().levels.store(levels, Relaxed);
    }

    /// The fiber that holds the lock, if a thread of this process does.
    #[inline]
    pub fn fiber(&self) -> usize {
        match self.own_holder.fiber.load(Relaxed) {
            0 => self.holder().fiber.load(Relaxed), // also where the holder is a shared one
            fiber => fiber,
        }
    }

    /// Whether the calling fiber, of thread `thread`, holds the lock.
    #[inline]
    pub fn is_owned(&self, mutex: &Mutex, thread: &Thread) -> bool {
        mutex.is_held_by(thread) && self.fiber() == current_fiber()
    }

    /// The lock and the calling thread, if the calling fiber holds it through this open handle.
    #[inline(always)]
    pub fn if_owned(&self) -> Option<(&Mutex, Thread)> {
        let (mutex, thread) = (self.shared.usable()?, thread::known()?);
        self.is_owned(mutex, &thread).then_some((mutex, thread))
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
    #[inline(always)]
    pub fn release_level(&self, mutex: &Mutex, thread: &Thread) {
        let shared = self.shared_holder();
        let levels = &self.holding(shared).levels;
        match levels.load(Relaxed) {
            1 => self.unlock_of(shared, mutex, thread),
            more => levels.store(more - 1, Relaxed),
        }
    }

    /// One level more, if the calling fiber holds the lock. Returns that fiber and its thread.
    #[inline]
    pub fn add_level(&self) -> Option<(usize, Thread)> {
        let (mutex, thread) = (self.shared.usable()?, thread::known()?);
        if !mutex.is_held_by(&thread) {
            return None;
        }
        let (fiber, holder) = (current_fiber(), self.holder());
        let levels = holder.levels.load(Relaxed);
        let deeper = self.fiber() == fiber && levels < u32::MAX;
        deeper.then(|| {
            holder.levels.store(levels + 1, Relaxed);
            (fiber, thread)
        })
    }

    /// Marks the fiber that holds the lock; forgets one that does not.
    pub fn mark_owner(&self) {
        if !self.shared_holder.load(Relaxed).is_null() {
            return; // seen to by `holders`
        }
        if !self.shared.get().is_some_and(Mutex::is_locked) {
            self.own_holder.fiber.store(0, Relaxed);
        }
        // Ractor.make_shareable asks for references too, and must not be told of the holder.
        // SAFETY: asks where it is called.
        let collecting = unsafe { rb_sys::rb_during_gc() } != 0;
        let fiber = self.own_holder.fiber.load(Relaxed);
        if collecting && fiber != 0 {
            // SAFETY: called by the collector; the fiber was alive when it was stored, and has been marked since.
            unsafe { rb_sys::rb_gc_mark(fiber as VALUE) };
        }
    }
}

/// An object that refers to the fibers of all shared holders. It has no write barriers, so it counts as changed at any time.
fn holders() -> VALUE {
    unsafe extern "C" fn mark(_: *mut c_void) {
        arena::each_holder(|holder| {
            holder.each_fiber(|fiber| {
                if fiber != 0 {
                    // SAFETY: called by the collector; the fiber was alive when it was stored, and has been marked since.
                    unsafe { rb_sys::rb_gc_mark(fiber as VALUE) };
                }
            });
        });
    }
    struct Type(UnsafeCell<MaybeUninit<rb_sys::rb_data_type_t>>);
    // SAFETY: written once, below, before Ruby reads it.
    unsafe impl Sync for Type {}
    static TYPE: Type = Type(UnsafeCell::new(MaybeUninit::zeroed()));
    // SAFETY: all zeroes is a type without functions; the object has no data, so nothing is freed. `Object` is its class in
    // name only: nobody is given it.
    unsafe {
        let data_type = (*TYPE.0.get()).as_mut_ptr();
        (*data_type).wrap_struct_name = c"ProcessShared holders".as_ptr();
        (*data_type).function.dmark = Some(mark);
        // Without a pointer Ruby would not call `mark`.
        let data = NonNull::<u8>::dangling().as_ptr().cast();
        rb_sys::rb_data_typed_object_wrap(rb_sys::rb_cObject, data, data_type)
    }
}

pub fn init() {
    // SAFETY: an object that was just made, to be kept for ever.
    unsafe { rb_sys::rb_gc_register_mark_object(holders()) };
}
