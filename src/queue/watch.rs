//! A sleep that any of several words ends: the gate's, and those held by threads whose death would give us something.
//!
//! The system call for that is `futex_waitv` (Linux 5.16). Where it is missing or refused, or there are more words than it
//! takes, the sleeper looks by itself every ten milliseconds.

use crate::deadline::Deadline;
use crate::kernel::Kernel;
use crate::platform::Wake;
use crate::word::Word;
use std::time::Duration;

/// How many words one call takes.
#[cfg(target_os = "linux")]
const MOST: usize = 128;
/// How long a sleeper that cannot be told sleeps between two looks.
const LOOK: Duration = Duration::from_millis(10);
/// The same for one that is told, except where the kernel lost the list of a dead thread's words.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// Sleeps while `word` has the value `expected`, and each of `watched` the value beside it.
#[cold]
pub fn sleep<'w, K: Kernel>(
    kernel: &K,
    word: &Word,
    expected: u32,
    watched: impl Iterator<Item = (&'w Word, u32)>,
    deadline: Option<Deadline>,
) -> Wake {
    let mut watched = watched.peekable();
    if watched.peek().is_none() {
        return kernel.wait(word, expected, deadline, crate::word::ANY_CLASS);
    }
    let told = if K::TELLS_OF_DEATHS { wait_for_any(word, expected, watched, deadline) } else { None };
    told.unwrap_or_else(|| {
        let until = Deadline::soonest(deadline, LOOK);
        not_yet(kernel.wait(word, expected, until, crate::word::ANY_CLASS), deadline)
    })
}

/// A time-out before the deadline is a look.
fn not_yet(wake: Wake, deadline: Option<Deadline>) -> Wake {
    match wake {
        Wake::TimedOut if deadline.is_none_or(|deadline| !deadline.has_passed()) => Wake::Woken,
        wake => wake,
    }
}

/// `None` if the system cannot do it.
#[cfg(target_os = "linux")]
fn wait_for_any<'w>(
    word: &Word,
    expected: u32,
    watched: impl Iterator<Item = (&'w Word, u32)>,
    deadline: Option<Deadline>,
) -> Option<Wake> {
    /// The kernel's `struct futex_waitv`.
    #[derive(Clone, Copy)]
    #[repr(C)]
    struct Waiter {
        value: u64,
        address: u64,
        flags: u32,
        reserved: u32,
    }
    const SIZE_U32: u32 = 2;
    let waiter = |word: &Word, value: u32| Waiter {
        value: value.into(),
        address: word.futex() as u64,
        flags: SIZE_U32,
        reserved: 0,
    };
    let mut waiters = [waiter(word, expected); MOST];
    let mut count = 1;
    for (other, value) in watched {
        *waiters.get_mut(count)? = waiter(other, value);
        count += 1;
    }
    let until = Deadline::soonest(deadline, SECOND_LOOK)?.as_timespec();
    // SAFETY: `count` waiters with words that are mapped, and an absolute time on the monotonic clock.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex_waitv,
            waiters.as_ptr(),
            count as libc::c_uint,
            0,
            &raw const until,
            libc::CLOCK_MONOTONIC,
        )
    };
    if result >= 0 {
        return Some(Wake::Woken);
    }
    match std::io::Error::last_os_error().raw_os_error() {
        Some(libc::EAGAIN) => Some(Wake::Woken),
        Some(libc::ETIMEDOUT) => Some(not_yet(Wake::TimedOut, deadline)),
        Some(libc::EINTR) => Some(Wake::Interrupted),
        _ => None,
    }
}

#[cfg(not(target_os = "linux"))]
fn wait_for_any<'w>(
    _word: &Word,
    _expected: u32,
    _watched: impl Iterator<Item = (&'w Word, u32)>,
    _deadline: Option<Deadline>,
) -> Option<Wake> {
    let _ = SECOND_LOOK;
    None
}
