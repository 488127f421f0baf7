//! How a process finds out that it is a forked child.
//!
//! Most forks run the handlers of pthread_atfork(3), so the child settles in at once. A bare `clone` system call and
//! glibc's `_Fork` run none. The fork depth is in a page that is zeroes in such a child too (`records`): whoever looks
//! at it there first has the child settle in.

use super::{leave_parent, namespace, records, robust_list};
use crate::platform::fork_epoch::step_fork_epoch;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering::*};

/// The fork depth of the last process in this line that looked at it.
static LAST_DEPTH: AtomicU32 = AtomicU32::new(0);

/// Objects of earlier fork epochs were made in another PID namespace; 0 if there are none.
static FIRST_EPOCH: AtomicU32 = AtomicU32::new(0);

/// A number that differs between a process and those it was forked from: it is one higher in a child. Never 0.
#[inline]
pub fn fork_depth() -> u32 {
    match records::header().fork_depth.load(Acquire) {
        0 => settle_in(),
        depth => depth,
    }
}

/// The first look of this process.
#[cold]
fn settle_in() -> u32 {
    records::map_header();
    records::with_header(|header| {
        let known = header.fork_depth.load(Relaxed);
        if known != 0 {
            return known; // another thread was quicker
        }
        let depth = LAST_DEPTH.load(Relaxed) + 1;
        LAST_DEPTH.store(depth, Relaxed);
        let epoch = step_fork_epoch();
        if depth == 1 {
            namespace::note();
        } else if namespace::has_changed() {
            FIRST_EPOCH.store(epoch, Relaxed);
        }
        header.fork_depth.store(depth, Release);
        depth
    })
}

/// Whether this process can use what was made in that fork epoch.
#[inline]
pub fn is_accessible(epoch: u32) -> bool {
    FIRST_EPOCH.load(Relaxed) == 0 || is_of_this_namespace(epoch)
}

#[cold]
fn is_of_this_namespace(epoch: u32) -> bool {
    epoch >= FIRST_EPOCH.load(Relaxed)
}

/// Has forked children settle in at once.
pub fn register_atfork() {
    static AT_FORK: Once = Once::new();
    extern "C" fn in_child() {
        leave_parent();
        records::wipe();
        fork_depth();
    }
    AT_FORK.call_once(|| {
        fork_depth(); // notes the PID namespace, before it can change
        let _ = robust_list::head(); // notes where it is, for children; whoever needs it is told of the error
        // SAFETY: the handler calls nothing that is not allowed after fork.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    });
}
