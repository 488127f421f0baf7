//! The receiver of a method of Pointer, as a type of its own: a `This` is an instance of Pointer or of a
//! subclass, which is known without a look at it. So the methods bound here are safe functions.
//!
//! There are three ways to one: Ruby passes it to a method that `define` has bound to such a class,
//! `This::inside` has looked what an object is, or magnus has. The object stays alive meanwhile: Ruby keeps
//! the receiver and the arguments of a running method, and what these refer to.

use std::ffi::c_int;
use std::mem::transmute;
use std::ops::Deref;

use magnus::rb_sys::AsRawValue;
use magnus::typed_data::Obj;
use magnus::{RClass, prelude::*};
use rb_sys::VALUE;

use super::frozen::{frozen, frozen_error, shareable};
use super::handle::{Handle, POINTER};
use super::window::Window;
use crate::errors::{Error, wrong_type};
use crate::raw_methods::{self, Bare, Method0, Method1, Method2, Method3, MethodN, ruby, value};
use crate::typed_data;

#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct This(VALUE);

pub type This0 = extern "C" fn(This) -> VALUE;
pub type This1 = extern "C" fn(This, VALUE) -> VALUE;
pub type This2 = extern "C" fn(This, VALUE, VALUE) -> VALUE;
pub type This3 = extern "C" fn(This, VALUE, VALUE, VALUE) -> VALUE;
/// The number of arguments and where they are come from Ruby.
pub type ThisN = unsafe extern "C" fn(c_int, *const VALUE, This) -> VALUE;

impl This {
    /// The object, if it is a Pointer.
    pub fn inside(object: VALUE) -> Option<This> {
        Obj::<Handle>::try_convert(value(object)).ok().map(This::from)
    }

    pub fn raw(self) -> VALUE {
        self.0
    }

    /// The same as `deref`, which looks at the object's type each time. A caller that must be fast asks once.
    #[inline(always)]
    pub fn handle<'a>(self) -> &'a Handle {
        // SAFETY: a Pointer is T_DATA; a Handle is where the type says so, and lives as long as the object.
        unsafe {
            match typed_data::has_type(self.0, Handle::raw_type()) {
                true => &*rb_sys::macros::RTYPEDDATA_GET_DATA(self.0).cast::<Handle>(),
                false => Handle::foreign(),
            }
        }
    }

    /// Whether nothing may be written through it.
    #[inline(always)]
    pub fn is_frozen(self) -> bool {
        // SAFETY: a Pointer is a heap object.
        unsafe { frozen(self.0) }
    }

    /// Whether other Ractors may be using it.
    fn is_shared(self) -> bool {
        // SAFETY: as above.
        unsafe { shareable(self.0) }
    }

    /// Refuses a writer where the object is frozen.
    #[inline(always)]
    pub fn check_writable(self) -> Result<(), Error> {
        match self.is_frozen() {
            false => Ok(()),
            true => Err(self.refuse_write()),
        }
    }

    #[cold]
    #[inline(never)]
    fn refuse_write(self) -> Error {
        self.check().err().unwrap_or_else(|| frozen_error(self.0))
    }

    /// Turns an allocated object into a live one.
    pub fn open(self, window: Window) -> Result<(), Error> {
        if !self.is_open() && !self.is_closed() {
            self.check_writable()?;
        }
        Handle::open(&self, window)
    }

    /// Ends all use of this object in this process.
    pub fn close(self) {
        Handle::close(&self, self.is_shared());
    }

    /// Undoes one `pin`.
    pub fn unpin(self) {
        Handle::unpin(&self, self.is_shared());
    }

    /// A Pointer to `size` bytes at `start`, which lie inside this window; it keeps the memory mapped while
    /// it lives, and is frozen if this one is.
    pub fn view(self, start: *mut u8, size: usize, swapped: bool) -> Result<Obj<Handle>, Error> {
        let window = self.check()?;
        let (type_size, elements, region) = (window.type_size, window.elements, window.region.clone());
        let part = Window { start, size, type_size, elements, swapped, whole: false, region };
        let object = ruby().obj_wrap(Handle::on(part));
        if self.is_frozen() {
            object.freeze();
        }
        Ok(object)
    }

    /// A view of everything.
    pub fn whole_view(self) -> Result<Obj<Handle>, Error> {
        let window = self.check()?;
        self.view(window.start, window.size, window.swapped)
    }
}

impl From<Obj<Handle>> for This {
    fn from(object: Obj<Handle>) -> This {
        This(object.as_raw())
    }
}

impl Deref for This {
    type Target = Handle;

    #[inline(always)]
    fn deref(&self) -> &Handle {
        self.handle()
    }
}

/// A method of Pointer that `define` accepts.
pub trait Bound {
    type Raw: Bare;
    fn raw(self) -> Self::Raw;
}

macro_rules! bound {
    ($($method:ty => $raw:ty),*) => {$(
        impl Bound for $method {
            type Raw = $raw;
            fn raw(self) -> $raw {
                // SAFETY: a This is a VALUE in a struct that C does not see.
                unsafe { transmute::<$method, $raw>(self) }
            }
        }
    )*};
}

bound!(This0 => Method0, This1 => Method1, This2 => Method2, This3 => Method3, ThisN => MethodN);

/// Defines `name` as a public instance method of `class`.
///
/// # Errors
/// `TypeError` if `class` is neither Pointer nor a subclass.
pub fn define<M: Bound>(class: RClass, name: &str, method: M) -> Result<(), Error> {
    let pointer = ruby().get_inner(&POINTER);
    if class.as_raw() != pointer.as_raw() && !class.is_inherited(pointer) {
        return Err(wrong_type(&ruby(), class.as_value(), "a class of Pointers"));
    }
    raw_methods::define(class, name, method.raw())
}
