//! What a `Pointer`, a `SharedMemory` and a `SharedArray` are inside: a bounded window on a `Region`.
//!
//! Invariants
//! - `size` is 0 before `initialize` and after `close`. So the one bounds check of an accessor also refuses unborn and
//!   closed objects, at no cost; only the way out (`refuse`) looks which of the three it was.
//! - While `size` is not 0, the window lies inside `region`, which is mapped. A window has its own share of the region
//!   (an `Arc`): views go on working when the SharedMemory they came from is closed.
//! - Ruby's lock orders everything that happens to one handle, except in Ractors, which only ever share a frozen one.
//!   Closing a shareable handle therefore ends its use at once but leaves the unmapping to the garbage collector.
//!
//! From `bytes` to the last use of the address it returns no Ruby code may run and the lock may not be released: such
//! code could close the handle. Where it must (Marshal), the handle is pinned meanwhile: `close` then ends its use, and
//! the last `unpin` unmaps. Should that never come (a fiber that is given up), the collector does, with the object.

use std::cell::UnsafeCell;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use magnus::rb_sys::AsRawValue;
use magnus::typed_data::{DataType, DataTypeBuilder, Obj};
use magnus::{DataTypeFunctions, RClass, Ruby, TypedData, prelude::*};
use process_shared_core::Error as CoreError;
use process_shared_core::memory::{Region, span};
use rb_sys::VALUE;

use super::typed::Elements;
use crate::classes::Known;
use crate::errors::{self, Error};
use crate::raw_methods::{raising, ruby};

/// `ProcessShared::Pointer`.
pub static POINTER: Known<RClass> = Known::unknown();

/// Where in a window something lies: an `i64` is an offset in bytes.
pub trait Place: Copy + From<i64> {
    /// The address of `width` bytes there, at least 1, if the handle is open and they lie inside it.
    fn find(self, handle: &Handle, width: i64) -> Option<*mut u8>;

    /// Why there is none.
    fn refuse(self, handle: &Handle, width: i64) -> Error;

    #[inline(always)]
    fn locate(self, handle: &Handle, width: i64) -> Result<*mut u8, Error> {
        self.find(handle, width).ok_or_else(|| self.refuse(handle, width))
    }
}

impl Place for i64 {
    #[inline(always)]
    fn find(self, handle: &Handle, width: i64) -> Option<*mut u8> {
        // A window is empty when unborn or closed.
        let index = span(self, width, handle.size.load(Ordering::Relaxed)).ok()?;
        Some(handle.window().start.wrapping_add(index))
    }

    #[cold]
    #[inline(never)]
    fn refuse(self, handle: &Handle, width: i64) -> Error {
        handle.refuse(self, width)
    }
}

/// The element with this number; negative ones count from the end.
#[derive(Clone, Copy)]
pub struct Nth(i64);

impl From<i64> for Nth {
    fn from(number: i64) -> Self {
        Nth(number)
    }
}

impl Place for Nth {
    #[inline(always)]
    fn find(self, handle: &Handle, width: i64) -> Option<*mut u8> {
        let count = handle.size.load(Ordering::Relaxed) / width as usize;
        let place = if self.0 < 0 { (self.0 as usize).wrapping_add(count) } else { self.0 as usize };
        // One comparison for both ends. An array that is unborn or closed has no elements.
        (place < count).then(|| handle.window().start.wrapping_add(place * width as usize))
    }

    #[cold]
    #[inline(never)]
    fn refuse(self, handle: &Handle, _: i64) -> Error {
        match handle.check() {
            Err(error) => error,
            Ok(window) => {
                let (position, count) = (self.0, window.size / window.type_size);
                let text = format!("index {position} outside of array bounds: -{count}...{count}");
                Error::new(ruby().exception_index_error(), text)
            }
        }
    }
}

const UNBORN: u8 = 0; // allocated, not initialized
const OPEN: u8 = 1;
const CLOSED: u8 = 2;

/// What is decided once, at `initialize` or when the view is made.
pub struct Window {
    pub start: *mut u8,
    pub size: usize,
    /// Bytes of one element: what `[]` of a Pointer steps by.
    pub type_size: usize,
    /// How a SharedArray reads and writes its elements; not used elsewhere.
    pub elements: Elements,
    /// True where numbers are stored in the other byte order than this machine's.
    pub swapped: bool,
    /// True for the SharedMemory itself, false for views of it.
    pub whole: bool,
    pub region: Option<Arc<Region>>,
}

pub struct Handle {
    size: AtomicUsize,
    state: AtomicU8,
    pins: AtomicUsize,
    window: UnsafeCell<Window>,
}

// SAFETY: `window` is written by `open` (before anyone else can know the object) and by `close` (never while Ractors
// may share it, else under Ruby's lock); the rest is atomic. See the invariants above.
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
        let mapped = if self.window().whole { self.size.load(Ordering::Relaxed) } else { 0 };
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
    /// What `allocate` makes: an object that refuses everything until `open`.
    pub fn unborn(whole: bool) -> Self {
        let window = Window {
            start: ptr::null_mut(),
            size: 0,
            type_size: 1,
            elements: Elements::BYTES,
            swapped: false,
            whole,
            region: None,
        };
        Handle {
            size: AtomicUsize::new(0),
            state: AtomicU8::new(UNBORN),
            pins: AtomicUsize::new(0),
            window: UnsafeCell::new(window),
        }
    }

    /// The handle inside `this`.
    ///
    /// # Safety
    /// `this` is an instance of Pointer, and stays referenced while the result is used.
    #[inline(always)]
    pub unsafe fn of<'a>(this: VALUE) -> &'a Handle {
        // SAFETY: the alloc function of Pointer, which every subclass inherits, put a Handle there.
        unsafe { &*rb_sys::macros::RTYPEDDATA_GET_DATA(this).cast::<Handle>() }
    }

    /// The handle inside an object that may be anything.
    pub fn inside<'a>(object: VALUE) -> Option<&'a Handle> {
        let handle = Obj::<Handle>::try_convert(crate::raw_methods::value(object)).ok()?;
        // SAFETY: it is a Pointer, and the caller holds it.
        Some(unsafe { Handle::of(handle.as_raw()) })
    }

    /// The address of `length` bytes at `offset`, if the handle is open and they lie inside it.
    #[inline(always)]
    pub fn bytes(&self, offset: i64, length: i64) -> Result<*mut u8, Error> {
        match span(offset, length, self.size.load(Ordering::Relaxed)) {
            // Views of no bytes at all say by their state whether they are open.
            Ok(index) if length != 0 || self.is_open() => Ok(self.window().start.wrapping_add(index)),
            _ => Err(self.refuse(offset, length)),
        }
    }

    #[cold]
    #[inline(never)]
    fn refuse(&self, offset: i64, length: i64) -> Error {
        let size = self.size.load(Ordering::Relaxed);
        match self.check() {
            Ok(_) => errors::to_ruby(&ruby(), CoreError::OutOfBounds { offset, length, size }),
            Err(error) => error,
        }
    }

    /// The window, unless the object is unborn or closed.
    pub fn check(&self) -> Result<&Window, Error> {
        match self.state.load(Ordering::Relaxed) {
            OPEN => Ok(self.window()),
            CLOSED => Err(errors::to_ruby(&ruby(), CoreError::Closed(self.kind()))),
            _ => Err(errors::not_initialized(&ruby(), self.kind())),
        }
    }

    /// The same, for a writer: also refuses frozen objects.
    ///
    /// # Safety
    /// `this` is the object that holds this handle.
    #[inline(always)]
    pub unsafe fn check_writable(&self, this: VALUE) -> Result<(), Error> {
        // SAFETY: `this` is a heap object.
        match unsafe { frozen(this) } {
            false => Ok(()),
            true => Err(self.refuse_write(this)),
        }
    }

    #[cold]
    #[inline(never)]
    fn refuse_write(&self, this: VALUE) -> Error {
        self.check().err().unwrap_or_else(|| frozen_error(this))
    }

    /// Turns an allocated object into a live one.
    pub fn open(&self, this: VALUE, window: Window) -> Result<(), Error> {
        let kind = name(window.whole);
        if self.state.load(Ordering::Relaxed) != UNBORN {
            return Err(errors::already_initialized(&ruby(), kind));
        }
        // SAFETY: `this` is the heap object that holds this handle.
        unsafe { self.check_writable(this) }?;
        let size = window.size;
        // SAFETY: nobody has looked inside an unborn handle, and no other thread can now: Ruby's lock is held.
        unsafe { *self.window.get() = window };
        self.size.store(size, Ordering::Relaxed);
        self.state.store(OPEN, Ordering::Relaxed);
        Ok(())
    }

    /// Ends all use of this handle. Once is enough; unborn handles stay unborn.
    pub fn close(&self, this: VALUE) {
        if self.state.load(Ordering::Relaxed) != OPEN {
            return;
        }
        self.state.store(CLOSED, Ordering::Relaxed);
        self.size.store(0, Ordering::Relaxed);
        let window = self.window();
        if let Some(region) = window.region.as_ref().filter(|_| window.whole) {
            region.close_fd();
        }
        self.let_go(this);
    }

    /// Drops the region of a closed handle, unless somebody may still use an address in it.
    fn let_go(&self, this: VALUE) {
        // SAFETY: `this` is the heap object that holds this handle.
        if self.pins.load(Ordering::Relaxed) == 0 && !unsafe { shareable(this) } {
            // SAFETY: under Ruby's lock, which nobody released between `bytes` and the use of its address.
            drop(unsafe { (*self.window.get()).region.take() });
        }
    }

    /// Keeps the memory mapped, also when the handle is closed, until `unpin`.
    pub fn pin(&self) {
        self.pins.fetch_add(1, Ordering::Relaxed);
    }

    pub fn unpin(&self, this: VALUE) {
        self.pins.fetch_sub(1, Ordering::Relaxed);
        if self.is_closed() {
            self.let_go(this);
        }
    }

    pub fn is_open(&self) -> bool {
        self.state.load(Ordering::Relaxed) == OPEN
    }

    pub fn is_closed(&self) -> bool {
        self.state.load(Ordering::Relaxed) == CLOSED
    }

    /// A Pointer to `size` bytes at `start`, which lie inside this window; it keeps the memory mapped while it lives,
    /// and is frozen if `this` is.
    pub fn view(
        &self,
        this: VALUE,
        start: *mut u8,
        size: usize,
        swapped: bool,
    ) -> Result<Obj<Handle>, Error> {
        let window = self.check()?;
        let region = window.region.clone();
        let view = Handle::default();
        let (type_size, elements) = (window.type_size, window.elements);
        let part = Window { start, size, type_size, elements, swapped, whole: false, region };
        view.size.store(size, Ordering::Relaxed);
        view.state.store(OPEN, Ordering::Relaxed);
        // SAFETY: nobody else knows `view` yet.
        unsafe { *view.window.get() = part };
        let object = ruby().obj_wrap(view);
        // SAFETY: `this` is a heap object.
        if unsafe { frozen(this) } {
            object.freeze();
        }
        Ok(object)
    }

    /// A view of everything.
    pub fn whole_view(&self, this: VALUE) -> Result<Obj<Handle>, Error> {
        let window = self.check()?;
        self.view(this, window.start, window.size, window.swapped)
    }

    /// What was decided at `initialize`, also when the handle is closed.
    #[inline(always)]
    pub fn window(&self) -> &Window {
        // SAFETY: see the invariants: no write can happen while this is used.
        unsafe { &*self.window.get() }
    }

    /// What to call it in a message. A SharedArray is a SharedMemory.
    fn kind(&self) -> &'static str {
        name(self.window().whole)
    }

    /// True where numbers have to be swapped; known without a check, because `bytes` does that.
    #[inline(always)]
    pub fn swapped(&self) -> bool {
        self.window().swapped
    }
}

fn name(whole: bool) -> &'static str {
    if whole { "ProcessShared::SharedMemory" } else { "ProcessShared::Pointer" }
}

/// # Safety
/// `object` is a heap object.
#[inline(always)]
pub unsafe fn frozen(object: VALUE) -> bool {
    // SAFETY: every heap object begins with an RBasic.
    let flags = unsafe { (*(object as *const rb_sys::RBasic)).flags };
    flags & (rb_sys::ruby_fl_type::RUBY_FL_FREEZE as VALUE) != 0
}

/// The `FrozenError` for an `object` that is frozen.
#[cold]
pub fn frozen_error(object: VALUE) -> Error {
    // SAFETY: any object; raises FrozenError, inside `raising`.
    let refused = raising(|| unsafe {
        rb_sys::rb_error_frozen_object(object);
    });
    refused.err().unwrap_or_else(|| Error::new(ruby().exception_frozen_error(), "can't modify frozen object"))
}

/// # Safety
/// `object` is a heap object.
unsafe fn shareable(object: VALUE) -> bool {
    // SAFETY: as above. Ruby sets the flag before another Ractor can get hold of the object.
    let flags = unsafe { (*(object as *const rb_sys::RBasic)).flags };
    flags & (rb_sys::ruby_fl_type::RUBY_FL_SHAREABLE as VALUE) != 0
}
