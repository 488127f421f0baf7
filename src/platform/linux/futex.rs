//! Sleeping on a futex word that processes share, and waking those who sleep there. See futex(2).

use crate::deadline::Deadline;
use crate::platform::Wake;
use std::ffi::CStr;
use std::io::Error;
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

/// How long a sleeper relies on a kernel that may let a wake-up die with the thread that got it.
const RECHECK: Duration = Duration::from_secs(1);

/// How long to sleep where there are no futexes.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Sleeps while the word at `address` is `expected`; the rest is as `Kernel::wait` has it. If the kernel refuses futexes
/// altogether (a seccomp filter can have it do so), sleeps a moment instead: then the waiter polls the word.
///
/// # Safety
/// `address` is that of a futex word, which stays mapped.
pub unsafe fn wait(address: *const u32, expected: u32, deadline: Option<Deadline>, class: u32) -> Wake {
    let until = if passes_wake_ups_on() { deadline } else { Deadline::soonest(deadline, RECHECK) };
    let time = until.map(Deadline::as_timespec);
    let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the caller's promise; a bitset wait takes an absolute time on the monotonic clock, or null for ever.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex,
            address,
            libc::FUTEX_WAIT_BITSET,
            expected,
            time,
            ptr::null::<u32>(),
            class,
        )
    };
    if result == 0 {
        return Wake::Woken;
    }
    match Error::last_os_error().raw_os_error() {
        Some(libc::EAGAIN) => Wake::Woken,
        Some(libc::EINTR) => Wake::Interrupted,
        Some(libc::ETIMEDOUT) => timed_out_at(deadline),
        _ => poll(deadline),
    }
}

/// What it means that the time has come.
fn timed_out_at(deadline: Option<Deadline>) -> Wake {
    if deadline.is_some_and(Deadline::has_passed) { Wake::TimedOut } else { Wake::Woken }
}

/// A moment's sleep, for a waiter that nobody can wake.
#[cold]
fn poll(deadline: Option<Deadline>) -> Wake {
    let rest = deadline.map_or(POLL_INTERVAL, |deadline| deadline.remaining().min(POLL_INTERVAL));
    let time = libc::timespec { tv_sec: 0, tv_nsec: rest.subsec_nanos().into() };
    // SAFETY: `time` is less than a second; what is left of it is not asked for.
    if unsafe { libc::nanosleep(&raw const time, ptr::null_mut()) } != 0 {
        return Wake::Interrupted;
    }
    timed_out_at(deadline)
}

/// Wakes sleepers, as `Kernel::wake` has it. The address is only a key.
pub fn wake(address: *const u32, count: i32, classes: u32) -> usize {
    // SAFETY: a wake does not touch the word.
    let woken = unsafe {
        libc::syscall(
            libc::SYS_futex,
            address,
            libc::FUTEX_WAKE_BITSET,
            count,
            ptr::null::<libc::timespec>(),
            ptr::null::<u32>(),
            classes,
        )
    };
    usize::try_from(woken).unwrap_or(0)
}

/// Whether a wake-up whose thread dies goes to the next sleeper also where the pending word names nobody but has flags:
/// since Linux 6.2. (No `OnceLock`: a child forked in the middle of its first call would wait for ever.)
fn passes_wake_ups_on() -> bool {
    const UNKNOWN: u8 = 2;
    static PASSES_ON: AtomicU8 = AtomicU8::new(UNKNOWN);
    let known = PASSES_ON.load(Relaxed);
    if known != UNKNOWN {
        return known == 1;
    }
    // SAFETY: `uname` fills the struct in, with strings that end.
    let release = unsafe {
        let mut names: libc::utsname = std::mem::zeroed();
        libc::uname(&mut names);
        CStr::from_ptr(names.release.as_ptr()).to_string_lossy().into_owned()
    };
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|digits| digits.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    PASSES_ON.store(u8::from(version >= (6, 2)), Relaxed);
    version >= (6, 2)
}
