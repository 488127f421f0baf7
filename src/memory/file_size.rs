//! Growing a file without being killed for it.
//!
//! A process with a limit on file sizes (`ulimit -f`) that asks for more gets EFBIG and the signal SIGXFSZ,
//! whose default action ends the process with a core dump. The kernel sends it to the calling thread. So that
//! thread blocks the signal around the call, and takes its own one back before it unblocks it; other threads,
//! and what the program does about SIGXFSZ, are left alone.

use std::mem::MaybeUninit;
use std::ptr;

use libc::c_int;

use crate::{Error, Result};

/// Makes a system call that may grow a file, and fails with -1.
///
/// # Errors
/// `System` with that call's errno; with EFBIG beyond the process's limit.
pub fn grow(attempt: &'static str, call: impl FnOnce() -> c_int) -> Result<()> {
    let blocked = Blocked::begin();
    if call() == 0 {
        return Ok(());
    }
    match Error::last_os(attempt) {
        Error::System { errno: libc::EFBIG, .. } => {
            blocked.take_back();
            let attempt = "shared memory beyond the size that a file may have here (ulimit -f)";
            Err(Error::System { attempt, errno: libc::EFBIG })
        }
        error => Err(error),
    }
}

/// SIGXFSZ is blocked in the calling thread until this is dropped.
struct Blocked {
    signal: libc::sigset_t,
    before: libc::sigset_t,
    /// One was pending already. It is not ours, and no second one is queued.
    pending: bool,
}

impl Blocked {
    fn begin() -> Self {
        let mut signal = MaybeUninit::uninit();
        let (mut before, mut pending) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: each set is filled in by the call that gets it first: none of them can fail with these
        // arguments.
        unsafe {
            libc::sigemptyset(signal.as_mut_ptr());
            libc::sigaddset(signal.as_mut_ptr(), libc::SIGXFSZ);
            libc::sigemptyset(before.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_BLOCK, signal.as_ptr(), before.as_mut_ptr());
            libc::sigemptyset(pending.as_mut_ptr());
            libc::sigpending(pending.as_mut_ptr());
            let pending = libc::sigismember(pending.as_ptr(), libc::SIGXFSZ) == 1;
            Blocked { signal: signal.assume_init(), before: before.assume_init(), pending }
        }
    }

    /// Takes the signal that a call was refused with. Does not wait: where the kernel sent none, there is
    /// none.
    fn take_back(&self) {
        let mut pending = MaybeUninit::uninit();
        let mut taken = 0;
        // SAFETY: as in `begin`; `sigwait` returns at once for a signal that is pending.
        unsafe {
            libc::sigemptyset(pending.as_mut_ptr());
            libc::sigpending(pending.as_mut_ptr());
            if !self.pending && libc::sigismember(pending.as_ptr(), libc::SIGXFSZ) == 1 {
                libc::sigwait(&raw const self.signal, &raw mut taken);
            }
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: the mask that this thread had.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut()) };
    }
}
