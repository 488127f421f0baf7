//! Our modules and classes: `init` defines them, and fails where a name is taken; methods only read them.
//!
//! Nothing stands in for a class that cannot be defined: the methods meant for it would land in a class of
//! somebody else's, up to Object.

use std::sync::OnceLock;

use magnus::value::{InnerValue, Opaque, ReprValue};
use magnus::{ExceptionClass, RClass, RModule, Ruby, TryConvert, prelude::*};

use crate::errors::Error;

/// A module or class that `init` defines before it defines the first method that reads it.
pub struct Known<T: ReprValue>(OnceLock<Opaque<T>>);

impl<T: ReprValue> Known<T> {
    pub const fn unknown() -> Self {
        Known(OnceLock::new())
    }

    /// Keeps it for ever.
    ///
    /// # Errors
    /// `TypeError` if another one was known: that one was removed, and the library was required again.
    pub fn set(&self, ruby: &Ruby, value: T) -> Result<T, Error> {
        let kept = ruby.get_inner(*self.0.get_or_init(|| {
            ruby.gc_register_mark_object(value);
            Opaque::from(value)
        }));
        if kept.as_value().equal(value)? {
            return Ok(value);
        }
        let text = "process_shared was loaded before, and its classes were removed: that cannot be undone";
        Err(Error::new(ruby.exception_type_error(), text))
    }
}

impl<T: ReprValue> InnerValue for &Known<T> {
    type Value = T;

    #[inline]
    fn get_inner_with(self, ruby: &Ruby) -> T {
        // SAFETY: `init` has set it before it defined the method that runs.
        ruby.get_inner(*unsafe { self.0.get().unwrap_unchecked() })
    }
}

/// The module `name`, which is new or was opened before.
///
/// # Errors
/// `TypeError` if the name is taken by something else.
pub fn define_module(ruby: &Ruby, name: &str) -> Result<RModule, Error> {
    let module = ruby.define_module(name)?;
    refuse_other(module, name)?;
    Ok(module)
}

/// Refuses what was assigned to a constant of ours, such as `ProcessShared::Mutex = Thread::Mutex`.
fn refuse_other(found: impl ReprValue, name: &str) -> Result<(), Error> {
    let own: Option<String> = found.funcall("name", ())?;
    if own.as_deref() == Some(name) {
        return Ok(());
    }
    let text = format!("process_shared cannot define {name}: that name is taken, by {}", found.inspect());
    Err(Error::new(Ruby::get_with(found).exception_type_error(), text))
}

/// The class `name` in `module`, which is new, or was opened before and has this name and this superclass.
///
/// # Errors
/// `TypeError` if the name is taken by something else.
pub fn define(module: RModule, name: &str, superclass: RClass) -> Result<RClass, Error> {
    let class = module.define_class(name, superclass)?;
    refuse_other(class, &format!("{module}::{name}"))?;
    Ok(class)
}

/// The exception class `name` in `module`; as `define`.
pub fn define_error(
    module: RModule,
    name: &str,
    superclass: ExceptionClass,
) -> Result<ExceptionClass, Error> {
    let superclass = RClass::try_convert(superclass.as_value())?;
    Ok(ExceptionClass::try_convert(define(module, name, superclass)?.as_value())?)
}
