//! Binds methods that are too hot for magnus' own wrappers: Ruby calls a bare `extern "C"` function, and arguments
//! stay raw `VALUE`s until the method looks at them. A 32-bit read costs 5 ns less this way, which is half of it.
//!
//! Three rules keep it safe, and every method bound here follows them:
//! 1. The body runs inside `answer`: errors and panics become exceptions after everything has been dropped. A body that
//!    owns nothing and hands all that can fail to `slow` needs no `answer`.
//! 2. Whatever may raise runs inside `raising` (Ruby's `rb_protect`), so that no longjmp crosses a Rust frame. The one
//!    exception: allocating a Ruby object may raise NoMemoryError where no frame up to Ruby owns anything to drop.
//! 3. Ruby checks that `this` is an instance of the class the method is defined on, also for `bind_call`. The class does
//!    not tell what data the instance holds: the method checks that itself (`typed_data::has_type`).

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::transmute;
use std::panic::AssertUnwindSafe;
use std::slice;

use magnus::error::IntoError;
use magnus::rb_sys::{AsRawValue, FromRawValue, catch_unwind, protect, resume_error};
use magnus::{RModule, Ruby, Value};
use rb_sys::VALUE;

use crate::errors::Error;

pub const NIL: VALUE = rb_sys::Qnil as VALUE;
pub const TRUE: VALUE = rb_sys::Qtrue as VALUE;
pub const FALSE: VALUE = rb_sys::Qfalse as VALUE;

/// As Ruby has it.
#[inline(always)]
pub fn boolean(value: bool) -> VALUE {
    if value { TRUE } else { FALSE }
}

pub type Method0 = unsafe extern "C" fn(VALUE) -> VALUE;
pub type Method1 = unsafe extern "C" fn(VALUE, VALUE) -> VALUE;
pub type Method2 = unsafe extern "C" fn(VALUE, VALUE, VALUE) -> VALUE;
pub type Method3 = unsafe extern "C" fn(VALUE, VALUE, VALUE, VALUE) -> VALUE;
pub type MethodN = unsafe extern "C" fn(c_int, *const VALUE, VALUE) -> VALUE;

/// A function that `define` accepts, and the number of arguments Ruby insists on (-1: the function counts them).
pub trait Bare {
    const ARITY: c_int;
    fn erased(self) -> unsafe extern "C" fn() -> VALUE;
}

macro_rules! bare {
    ($($method:ty => $arity:literal),*) => {$(
        impl Bare for $method {
            const ARITY: c_int = $arity;
            fn erased(self) -> unsafe extern "C" fn() -> VALUE {
                // SAFETY: Ruby casts it back to a function of ARITY arguments before it calls it.
                unsafe { transmute::<$method, unsafe extern "C" fn() -> VALUE>(self) }
            }
        }
    )*};
}

bare!(Method0 => 0, Method1 => 1, Method2 => 2, Method3 => 3, MethodN => -1);

/// Defines `name` as a public instance method of the class (or module) `owner`.
pub fn define<M: Bare>(owner: impl AsRawValue, name: &str, method: M) -> Result<(), Error> {
    define_with(rb_sys::rb_define_method, owner.as_raw(), name, method)
}

/// The same for a private method.
pub fn define_private<M: Bare>(owner: impl AsRawValue, name: &str, method: M) -> Result<(), Error> {
    define_with(rb_sys::rb_define_private_method, owner.as_raw(), name, method)
}

type Define = unsafe extern "C" fn(VALUE, *const c_char, Option<unsafe extern "C" fn() -> VALUE>, c_int);

fn define_with<M: Bare>(definer: Define, owner: VALUE, name: &str, method: M) -> Result<(), Error> {
    let text =
        CString::new(name).map_err(|error| Error::new(ruby().exception_name_error(), error.to_string()))?;
    // SAFETY: `owner` is a class or module, `text` a C string that Ruby copies, and the arity that of the function.
    raising(|| unsafe { definer(owner, text.as_ptr(), Some(method.erased()), M::ARITY) })
}

/// Calls the slow path of a method: a function bound by `method!`.
///
/// # Safety
/// `this` is the receiver of the running method; no frame between here and Ruby has anything to drop.
#[inline(always)]
pub unsafe fn slow(this: VALUE, method: unsafe extern "C" fn(Value) -> Value) -> VALUE {
    // SAFETY: the caller's promise.
    unsafe { method(Value::from_raw(this)).as_raw() }
}

/// Raises ThreadError if the running method was called without a block.
///
/// # Safety
/// Called within a method; no frame between here and Ruby has anything to drop.
#[inline(always)]
pub unsafe fn require_block() {
    // SAFETY: the caller's promise.
    unsafe {
        if rb_sys::rb_block_given_p() == 0 {
            rb_sys::rb_raise(rb_sys::rb_eThreadError, c"must be called with a block".as_ptr());
        }
    }
}

/// A function of the running program, by name: for functions that older versions of Ruby lack.
pub fn find(name: &CStr) -> Option<*mut c_void> {
    // SAFETY: looks a name up.
    let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
    (!symbol.is_null()).then_some(symbol)
}

/// Runs the body of a bare method. An error or a panic is raised as an exception after the body has ended.
#[inline(always)]
pub fn answer(body: impl FnOnce() -> Result<VALUE, Error>) -> VALUE {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(value)) => value,
        Ok(Err(error)) => raise(error),
        Err(panic) => raise(panic.into()),
    }
}

/// `answer` for a method that returns `this`, which then travels in a register and not through memory with the errors.
#[inline(always)]
pub fn answer_with(this: VALUE, body: impl FnOnce() -> Result<(), Error>) -> VALUE {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => this,
        Ok(Err(error)) => raise(error),
        Err(panic) => raise(panic.into()),
    }
}

#[cold]
#[inline(never)]
fn raise(error: Error) -> ! {
    // SAFETY: called by Ruby itself, from a frame that owns nothing any more.
    unsafe { resume_error(error.into_error(&ruby())) }
}

/// Runs code that may raise a Ruby exception. It must own nothing that needs a drop.
pub fn raising<T>(body: impl FnOnce() -> T) -> Result<T, Error> {
    let mut result = None;
    protect(|| {
        result = Some(body());
        NIL
    })?;
    result.ok_or_else(|| Error::new(ruby().exception_fatal(), "Ruby returned without an answer"))
}

/// The arguments of a method of arity -1, after checking how many there are (`max` None: any number).
///
/// # Safety
/// `argc` and `argv` are what Ruby passed to this call.
pub unsafe fn arguments<'a>(
    argc: c_int,
    argv: *const VALUE,
    min: usize,
    max: usize,
) -> Result<&'a [VALUE], Error> {
    let count = usize::try_from(argc).unwrap_or(0);
    if count < min || count > max {
        return Err(Error::new(
            ruby().exception_arg_error(),
            match max - min {
                0 => format!("wrong number of arguments (given {count}, expected {min})"),
                _ => format!("wrong number of arguments (given {count}, expected {min}..{max})"),
            },
        ));
    }
    if count == 0 {
        return Ok(&[]);
    }
    // SAFETY: Ruby keeps the arguments on its stack during the call.
    Ok(unsafe { slice::from_raw_parts(argv, count) })
}

/// The Ruby of the calling thread. Bare methods and `init` only run on Ruby's threads, with its lock held.
pub fn ruby() -> Ruby {
    // SAFETY: see above.
    unsafe { Ruby::get_unchecked() }
}

/// A raw value as magnus sees it.
pub fn value(raw: VALUE) -> Value {
    // SAFETY: every VALUE in this crate comes from Ruby, as argument or result.
    unsafe { Value::from_raw(raw) }
}

/// The module `ProcessShared`.
pub fn module(ruby: &Ruby) -> RModule {
    ruby.get_inner(&crate::errors::MODULE)
}
