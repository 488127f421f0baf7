//! The PID namespace of this process. Lock words name their owners by thread number, and each namespace counts for
//! itself: two processes that call unshare(2) with `CLONE_NEWPID` and fork have two children whose numbers are both 1.

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The namespace's inode; 0 if /proc is not there to tell.
static NOTED: AtomicU64 = AtomicU64::new(0);

/// Remembers the namespace, for `has_changed`.
pub fn note() {
    NOTED.store(inode(), Relaxed);
}

/// Whether this process, a child of the one that called this or `note` last, is in another namespace. Makes no call
/// that is not allowed after fork.
pub fn has_changed() -> bool {
    let now = inode();
    match NOTED.swap(now, Relaxed) {
        before if before != 0 && now != 0 => before != now,
        // SAFETY: no precondition. A parent outside the namespace shows as 0.
        _ => unsafe { libc::getppid() == 0 },
    }
}

fn inode() -> u64 {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the path ends with a zero, and `status` is filled in if the call succeeds.
    unsafe {
        match libc::stat(c"/proc/self/ns/pid".as_ptr(), status.as_mut_ptr()) {
            0 => status.assume_init().st_ino,
            _ => 0,
        }
    }
}
