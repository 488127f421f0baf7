//! Timeouts as Ruby users write them: nil, or seconds as Integer, Float or Rational.

use magnus::value::Fixnum;
use magnus::{Float, RHash, Ruby, Value, prelude::*, rb_sys::AsRawValue};
use process_shared_core::Deadline;
use std::time::Duration;

use crate::errors::{self, Error};

/// When to give up.
#[derive(Clone, Copy)]
pub enum Timeout {
    Never,
    /// It counts as passed: try once.
    Passed,
    At(Deadline),
}

impl Timeout {
    /// The optional argument of `try_lock` and `try_wait`: None if it is missing or nil, so that they try once.
    ///
    /// # Errors
    /// ArgumentError for more arguments, and those of `parse_try`.
    pub fn of_try(ruby: &Ruby, args: &[Value]) -> Result<Option<Self>, Error> {
        ruby.check_arity(args.len(), 0..=1)?;
        match args.first().filter(|seconds| !seconds.is_nil()) {
            Some(seconds) => Self::parse_try(ruby, *seconds).map(Some),
            None => Ok(None),
        }
    }

    /// The optional argument of `sleep`.
    ///
    /// # Errors
    /// ArgumentError for more arguments, and those of `parse`.
    pub fn of_sleep(ruby: &Ruby, args: &[Value]) -> Result<Self, Error> {
        ruby.check_arity(args.len(), 0..=1)?;
        args.first().map_or(Ok(Timeout::Never), |seconds| Self::parse(ruby, *seconds))
    }

    /// For `sleep` and `wait`.
    ///
    /// # Errors
    /// Those of `Kernel#sleep`: ArgumentError if negative, TypeError if not a number, RangeError if not finite.
    pub fn parse(ruby: &Ruby, seconds: Value) -> Result<Self, Error> {
        if seconds.is_nil() {
            return Ok(Timeout::Never);
        }
        if RHash::from_value(seconds).is_some() {
            let text = "can't convert Hash into time interval: give the seconds without a keyword";
            return Err(Error::new(ruby.exception_type_error(), text));
        }
        let mut interval = Duration::ZERO;
        magnus::rb_sys::protect(|| {
            // SAFETY: any VALUE may be passed; what it raises, `protect` catches.
            let time = unsafe { rb_sys::rb_time_timespec_interval(seconds.as_raw()) };
            interval = Duration::new(time.tv_sec as u64, time.tv_nsec as u32);
            ruby.qnil().as_raw()
        })?;
        Ok(Deadline::after(interval).map_or(Timeout::Never, Timeout::At))
    }

    /// For `try_lock` and `try_wait`, where a negative number is a time that has passed.
    ///
    /// # Errors
    /// As `parse`.
    pub fn parse_try(ruby: &Ruby, seconds: Value) -> Result<Self, Error> {
        let passed = match (Fixnum::from_value(seconds), Float::from_value(seconds)) {
            (Some(seconds), _) => seconds.to_i64() < 0,
            (_, Some(seconds)) => seconds.to_f64() < 0.0,
            _ if seconds.is_kind_of(ruby.class_numeric()) => {
                errors::understood(ruby, seconds.funcall("<", (0,)))? == Some(true)
            }
            _ => false,
        };
        if passed {
            return Ok(Timeout::Passed);
        }
        Self::parse(ruby, seconds)
    }

    /// As the core wants it.
    pub fn deadline(self) -> Option<Deadline> {
        match self {
            Timeout::Never => None,
            Timeout::Passed => Deadline::after(Duration::ZERO),
            Timeout::At(deadline) => Some(deadline),
        }
    }

    pub fn has_passed(self) -> bool {
        match self {
            Timeout::Never => false,
            Timeout::Passed => true,
            Timeout::At(deadline) => deadline.has_passed(),
        }
    }
}
