//! Everything that can go wrong in this crate, in one enum. The Ruby binding maps each variant to a Ruby exception class
//! in one place (`ext/process_shared/src/errors.rs`). The messages here are for users: they say what happened and what
//! to do about it.

use std::fmt;

/// What went wrong, with what the message needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The object was closed in this process. Carries the kind of object ("Mutex").
    Closed(&'static str),
    /// The `length` bytes at `offset` are not all inside memory of `size` bytes.
    OutOfBounds { offset: i64, length: i64, size: usize },
    /// An argument that no call accepts. The text says which, and what is accepted.
    Invalid(String),
    /// The operation breaks a rule of locks: not held, held by another thread, taken twice.
    Ownership(String),
    /// This process cannot use what was made before it was forked. Carries the kind of object.
    #[cfg(not(loom))]
    OutOfReach(&'static str),
    /// The file of an object cannot be used by this version of this library, on this machine; the text says what differs.
    Incompatible(String),
    /// The file of an object cannot be trusted, or not be shared; the text says why, and what would do.
    Refused(String),
    /// A system call failed: what it was for, and its errno.
    System { attempt: &'static str, errno: i32 },
}

impl Error {
    /// The calling thread's last system error, of a call for `attempt`.
    pub fn last_os(attempt: &'static str) -> Self {
        Self::io(attempt, &std::io::Error::last_os_error())
    }

    /// What the standard library says of a system call that failed, while doing `attempt`.
    pub fn io(attempt: &'static str, error: &std::io::Error) -> Self {
        Error::System { attempt, errno: error.raw_os_error().unwrap_or(libc::EIO) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Closed(kind) => write!(f, "closed {kind}: it cannot be used any more in this process"),
            #[cfg(not(loom))]
            Error::OutOfReach(kind) => {
                write!(f, "{kind} cannot be used in this process: {}", crate::platform::OUT_OF_REACH)
            }
            Error::OutOfBounds { offset, length, size } => write!(
                f,
                "Memory access offset={offset} size={length} is out of bounds: the size of the memory is {size}"
            ),
            Error::Invalid(text)
            | Error::Ownership(text)
            | Error::Incompatible(text)
            | Error::Refused(text) => f.write_str(text),
            Error::System { attempt, .. } => f.write_str(attempt),
        }
    }
}

impl std::error::Error for Error {}

pub type Result<T> = std::result::Result<T, Error>;
