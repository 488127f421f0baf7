//! What a `Pointer`, a `SharedMemory` and a `SharedArray` are inside: a `Window` that can be closed.
//!
//! Invariants
//! - `size` is 0 before `initialize` and after `close`. So the one bounds check of an accessor also refuses
//!   unborn and closed objects, at no cost; only the way out (`refuse`) looks which of the three it was.
//! - While `size` is not 0, the window lies inside its region, which is mapped. A window has its own share
//!   of the region (an `Arc`): views go on working when the SharedMemory they came from is closed.
//! - Ruby's lock orders everything that happens to one handle, except in Ractors, which only ever share a
//!   frozen one. Closing a shareable handle therefore ends its use at once but leaves the unmapping to the
//!   garbage collector.
//!
//! From `bytes` to the last use of the address no Ruby code may run and the lock may not be released: such
//! code could close the handle. Where it must (Marshal), the handle is pinned meanwhile: `close` then ends
//! its use, and the last `unpin` unmaps. If no `unpin` comes (the fiber was abandoned), the collector unmaps,
//! with the object.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use magnus::typed_data::{DataType, DataTypeBuilder};
use magnus::{DataTypeFunctions, RClass, Ruby, TypedData};
use process_shared_core::Error as CoreError;
use process_shared_core::memory::span;
use rb_sys::rb_data_type_t;

use super::window::Window;
use crate::classes::Known;
use crate::errors::{self, Error};
use crate::raw_methods::ruby;

/// `ProcessShared::Pointer`.
pub static POINTER: Known<RClass> = Known::unknown();

const UNBORN: u8 = 0; // allocated, not initialized
const OPEN: u8 = 1;
const CLOSED: u8 = 2;
const FOREIGN: u8 = 3; // see `foreign`

pub struct Handle {
    size: AtomicUsize,
    state: AtomicU8,
    pins: AtomicUsize,
    window: UnsafeCell<Window>,
}

// SAFETY: `window` is written by `open` (before anyone else can know the object) and by `close` (never while
// Ractors may share it, else under Ruby's lock); the rest is atomic. See the invariants above.
unsafe impl Sync for Handle {}
// SAFETY: as above; nothing in it belongs to a thread.
unsafe impl Send for Handle {}

impl Default for Handle {
    fn default() -> Self {
        Handle::unborn(false)
    }
}

impl DataTypeFunctions for Handle {
    /// What `ObjectSpace.memsize_of` says: the SharedMemory counts the memory, its views count themselves.
    fn size(&self) -> usize {
        let mapped = if self.window().whole { self.len() } else { 0 };
        size_of::<Self>() + mapped
    }
}

// SAFETY: the class has this type's alloc function, and so have its subclasses.
unsafe impl TypedData for Handle {
    fn class(ruby: &Ruby) -> RClass {
        ruby.get_inner(&POINTER)
    }

    fn data_type() -> &'static DataType {
        static DATA_TYPE: DataType = DataTypeBuilder::<Handle>::new(c"process_shared_memory")
            .size()
            .free_immediately()
            .wb_protected()
            .frozen_shareable()
            .build();
        &DATA_TYPE
    }
}

impl Handle {
    /// The handle of an object whose data are of another type. It refuses everything.
    pub fn foreign() -> &'static Handle {
        static FOREIGN_HANDLE: Handle = Handle {
            size: AtomicUsize::new(0),
            state: AtomicU8::new(FOREIGN),
            pins: AtomicUsize::new(0),
            window: UnsafeCell::new(Window::none(false)),
        };
        &FOREIGN_HANDLE
    }

    /// The type of its objects' data, as Ruby knows it.
    #[inline(always)]
    pub fn raw_type() -> *const rb_data_type_t {
        std::ptr::from_ref(Self::data_type()).cast() // a transparent struct
    }

    /// What `allocate` makes: an object that refuses everything until `open`.
    pub fn unborn(whole: bool) -> Self {
        Handle {
            size: AtomicUsize::new(0),
            state: AtomicU8::new(UNBORN),
            pins: AtomicUsize::new(0),
            window: UnsafeCell::new(Window::none(whole)),
        }
    }

    /// An open handle.
    pub fn on(window: Window) -> Self {
        Handle {
            size: AtomicUsize::new(window.size),
            state: AtomicU8::new(OPEN),
            pins: AtomicUsize::new(0),
            window: UnsafeCell::new(window),
        }
    }

    /// Bytes that can be used now: none before `open` and after `close`.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.size.load(Ordering::Relaxed)
    }

    /// The address of `length` bytes at `offset`, if the handle is open and they lie inside it.
    #[inline(always)]
    pub fn bytes(&self, offset: i64, length: i64) -> Result<*mut u8, Error> {
        match span(offset, length, self.len()) {
            // Views of no bytes at all say by their state whether they are open.
            Ok(index) if length != 0 || self.is_open() => Ok(self.window().start.wrapping_add(index)),
            _ => Err(self.refuse(offset, length)),
        }
    }

    /// Why these bytes cannot be used.
    #[cold]
    #[inline(never)]
    pub fn refuse(&self, offset: i64, length: i64) -> Error {
        let size = self.len();
        match self.check() {
            Ok(_) => errors::to_ruby(&ruby(), CoreError::OutOfBounds { offset, length, size }),
            Err(error) => error,
        }
    }

    /// The window, unless the object is unborn or closed.
    pub fn check(&self) -> Result<&Window, Error> {
        match self.state.load(Ordering::Relaxed) {
            OPEN => Ok(self.window()),
            CLOSED => Err(errors::to_ruby(&ruby(), CoreError::Closed(self.window().kind()))),
            _ => Err(errors::not_initialized(&ruby(), self.window().kind())),
        }
    }

    /// Turns an allocated object into a live one.
    pub fn open(&self, window: Window) -> Result<(), Error> {
        if self.state.load(Ordering::Relaxed) != UNBORN {
            return Err(errors::already_initialized(&ruby(), window.kind()));
        }
        let size = window.size;
        // SAFETY: nobody has looked inside an unborn handle, and no other thread can now: Ruby's lock is
        // held.
        unsafe { *self.window.get() = window };
        self.size.store(size, Ordering::Relaxed);
        self.state.store(OPEN, Ordering::Relaxed);
        Ok(())
    }

    /// Ends all use of this handle; unborn handles stay unborn. `shared`: other Ractors may be using it.
    pub fn close(&self, shared: bool) {
        if self.state.load(Ordering::Relaxed) != OPEN {
            return;
        }
        self.state.store(CLOSED, Ordering::Relaxed);
        self.size.store(0, Ordering::Relaxed);
        let window = self.window();
        if let Some(region) = window.region.as_ref().filter(|_| window.whole) {
            region.close_fd();
        }
        self.release(shared);
    }

    /// Drops the region of a closed handle, unless an address in it may still be used.
    fn release(&self, shared: bool) {
        if self.pins.load(Ordering::Relaxed) == 0 && !shared {
            // SAFETY: under Ruby's lock, which nobody released between `bytes` and the use of its address.
            drop(unsafe { (*self.window.get()).region.take() });
        }
    }

    /// Keeps the memory mapped, also when the handle is closed, until `unpin`.
    pub fn pin(&self) {
        self.pins.fetch_add(1, Ordering::Relaxed);
    }

    /// Undoes one `pin`; `shared` as for `close`.
    pub fn unpin(&self, shared: bool) {
        self.pins.fetch_sub(1, Ordering::Relaxed);
        if self.is_closed() {
            self.release(shared);
        }
    }

    pub fn is_open(&self) -> bool {
        self.state.load(Ordering::Relaxed) == OPEN
    }

    pub fn is_closed(&self) -> bool {
        self.state.load(Ordering::Relaxed) == CLOSED
    }

    /// What was decided at `initialize`, also when the handle is closed.
    #[inline(always)]
    pub fn window(&self) -> &Window {
        // SAFETY: see the invariants: no write can happen while this is used.
        unsafe { &*self.window.get() }
    }

    /// True where numbers have to be swapped; known without a check, because `bytes` does that.
    #[inline(always)]
    pub fn swapped(&self) -> bool {
        self.window().swapped
    }
}
