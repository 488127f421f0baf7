//! Anonymous shared memory on Linux: a memfd. It is no file in /dev/shm, so the size of that does not matter,
//! and it leaves nothing behind. It is sealed against any change of size: without that, a process that
//! truncated the descriptor would kill the others with SIGBUS.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;

use super::{available, file_size};
use crate::{Error, Result};

const NAME: &CStr = c"process_shared";

/// Not in every version of the libc crate: the memory can never be executed. Linux 6.3; some systems insist
/// on it.
const MFD_NOEXEC_SEAL: libc::c_uint = 0x0008;

/// Bytes reserved by one call, so that a signal repeats little work and a shortage is seen in time.
const STEP: usize = 64 << 20;

/// A descriptor (close-on-exec) of `length` zero bytes that nobody else can name.
pub fn anonymous(length: libc::off_t) -> Result<OwnedFd> {
    let fd = memfd(MFD_NOEXEC_SEAL).or_else(|_| memfd(0))?;
    // SAFETY: a plain system call on a descriptor that we own.
    file_size::grow("size shared memory", || unsafe { libc::ftruncate(fd.as_raw_fd(), length) })?;
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: a plain system call on a descriptor that we own.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
        return Err(Error::last_os("seal shared memory"));
    }
    Ok(fd)
}

/// Seals memory from elsewhere against shrinking, if that can still be done.
pub fn seal(fd: RawFd) {
    // SAFETY: a plain system call on a descriptor that the caller owns.
    unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, libc::F_SEAL_SHRINK) };
}

/// Takes the bytes from `done` to `size` from the system now. Returns how far it came: a signal ends it
/// early.
///
/// The kernel would rather kill a process than fail here, so each step first looks whether there is enough
/// left.
pub fn reserve(fd: RawFd, _: NonNull<u8>, mut done: usize, size: usize) -> Result<usize> {
    while done < size {
        if available::bytes().is_some_and(|bytes| bytes < (size - done) as u64) {
            return Err(Error::System { attempt: "reserve shared memory", errno: libc::ENOMEM });
        }
        let step = STEP.min(size - done);
        // SAFETY: a plain system call on the caller's descriptor.
        let taken = file_size::grow("reserve shared memory", || unsafe {
            libc::fallocate(fd, 0, done as libc::off_t, step as libc::off_t)
        });
        match taken {
            Ok(()) => done += step,
            Err(Error::System { errno: libc::EINTR, .. }) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Linux 5.14; older ones refuse, and nothing is lost.
pub fn populate(start: *mut u8, length: usize) {
    // SAFETY: no precondition.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let skipped = start.align_offset(page);
    // SAFETY: inside the caller's memory, whose content does not change.
    unsafe {
        libc::madvise(
            start.wrapping_add(skipped).cast(),
            length.saturating_sub(skipped),
            libc::MADV_POPULATE_WRITE,
        )
    };
}

fn memfd(more: libc::c_uint) -> Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | more;
    // SAFETY: NAME is a C string; the result is checked before use.
    let fd: RawFd = unsafe { libc::memfd_create(NAME.as_ptr(), flags) };
    if fd < 0 {
        return Err(Error::last_os("create shared memory"));
    }
    // SAFETY: a fresh descriptor that nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
