//! Anonymous shared memory on macOS: a POSIX shared memory object with a name nobody can guess, readable by
//! its owner only, unlinked before anything else happens. A process killed between the two calls leaves an
//! empty object; nothing on macOS can make them one.

use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;

use super::file_size;
use crate::{Error, Result};

/// A name that is taken means a random number came twice, or somebody is guessing: a few tries are plenty.
const TRIES: usize = 16;

/// A descriptor (close-on-exec) of `length` zero bytes that nobody else can name.
pub fn anonymous(length: libc::off_t) -> Result<OwnedFd> {
    let fd = unnamed()?;
    // SAFETY: a plain system call on a descriptor that we own; shm_open has set it since 10.5, this makes
    // sure.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) } != 0 {
        return Err(Error::last_os("create shared memory"));
    }
    // SAFETY: as above. The size of such an object can be set only once, so no process can shrink it later.
    file_size::grow("size shared memory", || unsafe { libc::ftruncate(fd.as_raw_fd(), length) })?;
    Ok(fd)
}

/// Bytes touched by one call, so that whoever waits can be interrupted.
const STEP: usize = 64 << 20;

/// Takes the bytes from `done` to `size` of the mapping at `start`, that nobody else knows yet, from the
/// system now, by touching every page. Returns how far it came.
///
/// macOS swaps rather than fails, so what is more than the machine has is refused first.
pub fn reserve(_: RawFd, start: NonNull<u8>, done: usize, size: usize) -> Result<usize> {
    if physical_memory().is_some_and(|bytes| bytes < size as u64) {
        return Err(Error::System { attempt: "reserve shared memory", errno: libc::ENOMEM });
    }
    // SAFETY: no precondition.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let end = size.min(done.saturating_add(STEP));
    for offset in (done..end).step_by(page) {
        // SAFETY: inside the mapping.
        unsafe { start.add(offset).write_volatile(0) };
    }
    Ok(end)
}

/// Nothing on macOS does that.
pub fn populate(_: *mut u8, _: usize) {}

fn unnamed() -> Result<OwnedFd> {
    for _ in 0..TRIES {
        let name = name()?;
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
        // SAFETY: `name` is a C string; shm_open takes its mode as a variadic unsigned int; the result is
        // checked.
        let fd = unsafe { libc::shm_open(name.as_ptr(), flags, 0o600 as libc::c_uint) };
        if fd >= 0 {
            // SAFETY: as above; and a fresh descriptor that nothing else owns.
            return Ok(unsafe {
                libc::shm_unlink(name.as_ptr());
                OwnedFd::from_raw_fd(fd)
            });
        }
        match Error::last_os("create shared memory") {
            Error::System { errno: libc::EEXIST | libc::EINTR, .. } => {}
            error => return Err(error),
        }
    }
    Err(Error::System { attempt: "create shared memory", errno: libc::EEXIST })
}

/// "/ps-" and 96 random bits: names are limited to 31 bytes.
fn name() -> Result<CString> {
    let mut random = [0u32; 3];
    // SAFETY: fills exactly the array given.
    unsafe { libc::arc4random_buf(random.as_mut_ptr().cast(), size_of_val(&random)) };
    let [a, b, c] = random;
    CString::new(format!("/ps-{a:08x}{b:08x}{c:08x}")).map_err(|error| Error::Invalid(error.to_string()))
}

fn physical_memory() -> Option<u64> {
    let mut bytes = 0u64;
    let mut size = size_of_val(&bytes);
    // SAFETY: the name is a C string, and `size` is that of the number written to.
    let failed = unsafe {
        libc::sysctlbyname(
            c"hw.memsize".as_ptr(),
            (&raw mut bytes).cast(),
            &raw mut size,
            std::ptr::null_mut(),
            0,
        )
    };
    (failed == 0).then_some(bytes)
}

/// The size of shared memory cannot change here.
pub fn seal(_: RawFd) {}
