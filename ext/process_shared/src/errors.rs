//! The one place where an error of the core becomes a Ruby exception.

use magnus::error::{ErrorType, IntoError};
use magnus::rb_sys::AsRawValue;
use magnus::{Exception, ExceptionClass, RModule, Ruby, TryConvert, Value, prelude::*};
use process_shared_core::Error as CoreError;
use std::borrow::Cow;

use crate::classes::{self, Known};
use crate::raw_methods::value;

/// `ProcessShared`.
pub static MODULE: Known<RModule> = Known::unknown();

/// `ProcessShared::ProcessError < ThreadError`: a rule of a lock was broken.
pub static PROCESS_ERROR: Known<ExceptionClass> = Known::unknown();

/// `ProcessShared::IncompatibleError < ProcessError`: a file is of another version of this library, or of another machine.
pub static INCOMPATIBLE_ERROR: Known<ExceptionClass> = Known::unknown();

/// `ProcessShared::ClosedError < IOError`: the object was closed in this process.
pub static CLOSED_ERROR: Known<ExceptionClass> = Known::unknown();

/// What a method raises in the end. Making an exception is a call into Ruby, from which a jump may come
/// instead, such as that of `Thread#kill`. Magnus makes it only when it raises it, and takes that for
/// impossible; so it is made here before.
#[derive(Debug)]
pub struct Error(magnus::Error);

impl Error {
    pub fn new(class: ExceptionClass, text: impl Into<Cow<'static, str>>) -> Self {
        Error(magnus::Error::new(class, text))
    }

    /// Whether it is an exception of that class; a jump is none.
    pub fn is_kind_of(&self, class: ExceptionClass) -> bool {
        self.0.is_kind_of(class)
    }
}

impl From<magnus::Error> for Error {
    fn from(error: magnus::Error) -> Self {
        Error(error)
    }
}

impl From<Exception> for Error {
    fn from(exception: Exception) -> Self {
        Error(exception.into())
    }
}

/// The last step of each method: with the exception, or the jump that came instead.
impl IntoError for Error {
    fn into_error(self, ruby: &Ruby) -> magnus::Error {
        match self.0.error_type() {
            // What must not be rescued, such as a panic, Ruby raises in a way of its own.
            ErrorType::Error(class, text) if class.as_raw() != ruby.exception_fatal().as_raw() => {
                class.new_instance((text.as_ref(),)).map_or_else(|error| error, Exception::into)
            }
            _ => self.0,
        }
    }
}

/// The Ruby exception for an error of the core.
pub fn to_ruby(ruby: &Ruby, error: CoreError) -> Error {
    match error {
        CoreError::System { attempt, errno } => system(ruby, attempt, errno),
        CoreError::Closed(_) => Error::new(ruby.get_inner(&CLOSED_ERROR), error.to_string()),
        CoreError::OutOfBounds { .. } => Error::new(ruby.exception_index_error(), error.to_string()),
        CoreError::Invalid(_) => Error::new(ruby.exception_arg_error(), error.to_string()),
        CoreError::Incompatible(_) => Error::new(ruby.get_inner(&INCOMPATIBLE_ERROR), error.to_string()),
        CoreError::Ownership(_) | CoreError::OutOfReach(_) | CoreError::Refused(_) => {
            Error::new(ruby.get_inner(&PROCESS_ERROR), error.to_string())
        }
    }
}

/// `Errno::X` for `errno`, as `SystemCallError.new(text, errno)` makes it.
pub fn system(ruby: &Ruby, attempt: &str, errno: i32) -> Error {
    let class = ruby.exception_system_call_error();
    match class.new_instance((attempt, errno)) {
        Ok(exception) => exception.into(),
        Err(error) => error.into(),
    }
}

/// The same with a message of its own instead of the system's words, which speak of something else.
pub fn system_in_words(ruby: &Ruby, text: &str, errno: i32) -> Error {
    let class = ruby.exception_system_call_error();
    let exception = class.new_instance((ruby.qnil(), errno));
    match exception.and_then(|exception| exception.funcall::<_, _, Exception>("exception", (text,))) {
        Ok(exception) => exception.into(),
        Err(error) => error.into(),
    }
}

/// The object was allocated but never initialized (`allocate`, a subclass that forgot `super`).
pub fn not_initialized(ruby: &Ruby, class: &str) -> Error {
    Error::new(
        ruby.exception_type_error(),
        format!("{class} not initialized: call super in initialize, and do not use allocate"),
    )
}

/// `initialize` was called a second time.
pub fn already_initialized(ruby: &Ruby, class: &str) -> Error {
    Error::new(ruby.exception_type_error(), format!("{class} already initialized"))
}

/// An argument is nothing that could do what is asked of it.
pub fn wrong_type(ruby: &Ruby, given: Value, expected: &str) -> Error {
    let text = format!("wrong argument type {} (expected {expected})", class_name(given));
    Error::new(ruby.exception_type_error(), text)
}

/// A rule of a lock was broken.
pub fn ownership(ruby: &Ruby, text: String) -> Error {
    to_ruby(ruby, CoreError::Ownership(text))
}

/// Why an object that this process shares cannot be used: `reached` is None if it was never initialized, and tells
/// whether this process has what it needs of the system. If it has, the object was closed.
#[cold]
pub fn unusable(ruby: &Ruby, class: &'static str, reached: Option<bool>) -> Error {
    match reached {
        None => not_initialized(ruby, class),
        Some(false) => to_ruby(ruby, CoreError::OutOfReach(class)),
        Some(true) => to_ruby(ruby, CoreError::Closed(class)),
    }
}

/// What an object answered; None if it did not understand the question. Every other exception may be somebody
/// else's, such as a Timeout's or `Thread#kill`, and must go on.
///
/// # Errors
/// Those.
pub fn understood<T>(ruby: &Ruby, answer: Result<T, impl Into<Error>>) -> Result<Option<T>, Error> {
    let not = [ruby.exception_type_error(), ruby.exception_name_error(), ruby.exception_arg_error()];
    match answer.map_err(Into::into) {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if not.iter().any(|class| error.is_kind_of(*class)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The name of `object`'s class, for messages.
pub fn class_name(object: Value) -> String {
    // SAFETY: the name is copied before anything else can touch it.
    unsafe { object.classname() }.into_owned()
}

pub fn init(ruby: &Ruby) -> Result<(), Error> {
    let module = MODULE.set(ruby, classes::define_module(ruby, "ProcessShared")?)?;
    // SAFETY: Ruby has set it when it started, and keeps it.
    let thread_error = ExceptionClass::try_convert(value(unsafe { rb_sys::rb_eThreadError }))?;
    let process_error = classes::define_error(module, "ProcessError", thread_error)?;
    PROCESS_ERROR.set(ruby, process_error)?;
    let incompatible_error = classes::define_error(module, "IncompatibleError", process_error)?;
    INCOMPATIBLE_ERROR.set(ruby, incompatible_error)?;
    let closed_error = classes::define_error(module, "ClosedError", ruby.exception_io_error())?;
    CLOSED_ERROR.set(ruby, closed_error)?;
    Ok(())
}
