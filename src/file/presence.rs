//! Who has a file open: two locks on its description, each on one byte. A forked child shares its parent's description
//! and with it the locks; they end with the last copy of the descriptor.
//!
//! - The *door* is held, exclusively, by the one opener at a time that is on its way in.
//! - *Presence* is held, shared, by each description that has the file open.
//!
//! These are locks of the open file description (`F_OFD_SETLK`), not `flock`: they are several to a file, and a shared
//! one becomes exclusive, and back, in one step.

use crate::error::{Error, Result};
use std::fs;
use std::io;
use std::os::fd::AsRawFd;

const DOOR: libc::off_t = 0;
const PRESENCE: libc::off_t = 1;

/// Waits until no other opener is on its way in.
///
/// # Errors
/// `System` with EINTR when a signal was handled.
pub fn enter_door(file: &fs::File) -> Result<()> {
    lock(file, DOOR, libc::F_WRLCK, libc::F_OFD_SETLKW)
}

/// The same without waiting; false where another opener is on its way in.
pub fn try_door(file: &fs::File) -> Result<bool> {
    is_granted(lock(file, DOOR, libc::F_WRLCK, libc::F_OFD_SETLK))
}

/// Lets the next opener in.
pub fn leave_door(file: &fs::File) {
    // To unlock one whole range needs no memory, and so cannot fail.
    let _ = lock(file, DOOR, libc::F_UNLCK, libc::F_OFD_SETLK);
}

/// Tells others that this description has the file open.
pub fn arrive(file: &fs::File) -> Result<()> {
    lock(file, PRESENCE, libc::F_RDLCK, libc::F_OFD_SETLKW)
}

/// Whether no other description has the file open. If so, none can have until `arrive` is called again.
pub fn try_alone(file: &fs::File) -> Result<bool> {
    is_granted(lock(file, PRESENCE, libc::F_WRLCK, libc::F_OFD_SETLK))
}

fn is_granted(result: Result<()>) -> Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(Error::System { errno: libc::EAGAIN | libc::EACCES, .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

fn lock<T>(file: &fs::File, byte: libc::off_t, kind: T, command: libc::c_int) -> Result<()>
where
    T: TryInto<libc::c_short>,
{
    // SAFETY: all zeroes is a valid value, and what such locks ask of `l_pid`.
    let mut range: libc::flock = unsafe { std::mem::zeroed() };
    range.l_type = kind.try_into().unwrap_or_default();
    range.l_whence = libc::SEEK_SET as libc::c_short;
    range.l_start = byte;
    range.l_len = 1;
    // SAFETY: `range` is a whole `flock`, on a descriptor that is open.
    if unsafe { libc::fcntl(file.as_raw_fd(), command, &raw const range) } == 0 {
        return Ok(());
    }
    Err(Error::io("lock the file of a shared object", &io::Error::last_os_error()))
}
