//! Everything that can go wrong in this crate, in one enum. The Ruby binding maps each variant to a Ruby
//! exception class in one place (`ext/process_shared/src/errors.rs`); messages are written here, for users:
//! they say what happened and how to mend it.

use std::fmt;

/// What went wrong, with all that the message needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The object was closed in this process. Carries the kind of object ("Mutex").
    Closed(&'static str),
    /// Memory from `offset` over `length` bytes does not lie inside `size` bytes.
    OutOfBounds { offset: i64, length: i64, size: usize },
    /// An argument no call can accept; the text says which, and what would do.
    Invalid(String),
    /// The operation breaks the rules of a lock: not held, held by somebody else, taken twice.
    Ownership(String),
    /// A system call failed: what was attempted, and its errno.
    System { attempt: &'static str, errno: i32 },
}

impl Error {
    /// The calling thread's last system error, while doing `attempt`.
    pub fn last_os(attempt: &'static str) -> Self {
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        Error::System { attempt, errno }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Closed(kind) => write!(f, "closed {kind}: it cannot be used any more in this process"),
            Error::OutOfBounds { offset, length, .. } => {
                write!(f, "Memory access offset={offset} size={length} is out of bounds")
            }
            Error::Invalid(text) | Error::Ownership(text) => f.write_str(text),
            Error::System { attempt, .. } => f.write_str(attempt),
        }
    }
}

impl std::error::Error for Error {}

pub type Result<T> = std::result::Result<T, Error>;
