//! Room on the disk, taken when a file is made: a page that finds no room when it is first written would be a SIGBUS.

use super::system;
use crate::error::{Error, Result};
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::fs::FileExt;
use std::ptr;

/// Bytes taken by one call, so that it ends soon where a signal does not end it.
const STEP: u64 = 64 << 20;

/// Makes `file` be `size` bytes long, and takes the room for all of them.
///
/// # Errors
/// `System` with ENOSPC, EDQUOT or EFBIG where there is not enough, and with EINTR when a signal was handled.
pub fn take(file: &fs::File, size: u64) -> Result<()> {
    without_size_signal(|| take_or_write(file, size))
        .map_err(|error| Error::io("take the room for a shared object", &error))
}

fn take_or_write(file: &fs::File, size: u64) -> io::Result<()> {
    match allocate(file, size) {
        Err(error) if cannot_be_taken(&error) => write_zeroes(file, size),
        result => result,
    }
}

/// Takes the room again where parts of an existing file have none: a copy may have made holes of zeroes.
pub fn refill(file: &fs::File, size: u64, allocated: u64) -> Result<()> {
    if allocated >= size {
        return Ok(());
    }
    match without_size_signal(|| allocate(file, size)) {
        Err(error) if !cannot_be_taken(&error) => Err(Error::io("take the room for a shared object", &error)),
        _ => Ok(()), // taken; or compressed by a file system that takes none in advance
    }
}

fn cannot_be_taken(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL))
}

fn allocate(file: &fs::File, size: u64) -> io::Result<()> {
    let mut done = 0;
    while done < size {
        let step = STEP.min(size - done);
        system::allocate(file, done, step)?;
        done += step;
    }
    Ok(())
}

/// For file systems that cannot take room in advance.
fn write_zeroes(file: &fs::File, size: u64) -> io::Result<()> {
    let zeroes = [0; 1 << 16];
    let mut done = 0;
    while done < size {
        let step = zeroes.len().min(usize::try_from(size - done).unwrap_or(usize::MAX));
        file.write_all_at(&zeroes[..step], done)?;
        done += step as u64;
    }
    Ok(())
}

/// Over the limit of `ulimit -f` the system sends SIGXFSZ, which kills, beside saying EFBIG. The error is enough.
fn without_size_signal(action: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let mut signal = MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `sigemptyset` makes the set valid, and `pthread_sigmask` fills `before` in.
    unsafe {
        libc::sigemptyset(signal.as_mut_ptr());
        libc::sigaddset(signal.as_mut_ptr(), libc::SIGXFSZ);
        libc::pthread_sigmask(libc::SIG_BLOCK, signal.as_ptr(), before.as_mut_ptr());
    }
    let result = action();
    // SAFETY: both sets are valid, as said above.
    unsafe {
        let was_blocked = libc::sigismember(before.as_ptr(), libc::SIGXFSZ) == 1;
        let is_over = result.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EFBIG));
        if is_over && !was_blocked {
            consume_pending(signal.as_ptr());
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut());
    }
    result
}

/// Takes the signals of a set that wait for this thread.
///
/// # Safety
/// `signals` is a valid set, which this thread blocks.
unsafe fn consume_pending(signals: *const libc::sigset_t) {
    #[cfg(target_os = "linux")]
    {
        let at_once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the caller's promise.
        while unsafe { libc::sigtimedwait(signals, ptr::null_mut(), &at_once) } > 0 {}
    }
    #[cfg(not(target_os = "linux"))]
    // SAFETY: the caller's promise; `sigwait` returns at once for a signal that is pending.
    unsafe {
        let mut pending = MaybeUninit::<libc::sigset_t>::zeroed();
        let mut taken = 0;
        if libc::sigpending(pending.as_mut_ptr()) == 0
            && libc::sigismember(pending.as_ptr(), libc::SIGXFSZ) == 1
        {
            libc::sigwait(signals, &raw mut taken);
        }
    }
}
