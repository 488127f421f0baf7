//! Sleeping on a futex word that processes share, and waking those who sleep there. See futex(2).

use crate::deadline::Deadline;
use crate::platform::Wake;
use std::io::Error;
use std::ptr;
use std::time::Duration;

/// How long to sleep where there are no futexes.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Sleeps while the word at `address` is `expected`; the rest is as `Kernel::wait` has it. If the kernel refuses futexes
/// altogether (a seccomp filter can have it do so), sleeps a moment instead: then the waiter polls the word.
///
/// # Safety
/// `address` is that of a futex word, which stays mapped.
pub unsafe fn wait(address: *const u32, expected: u32, deadline: Option<Deadline>, class: u32) -> Wake {
    let time = deadline.map(Deadline::as_timespec);
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

/// The kernel's `struct futex_waitv`.
#[repr(C)]
struct Waiter {
    value: u64,
    address: u64,
    flags: u32,
    reserved: u32,
}

/// The most words that one call takes, and the flag of a word of 32 bits that processes share.
const MOST_WORDS: usize = 128;
const SIZE_U32: u32 = 2;

/// Sleeps while each of the words has the value beside it. `None` if the kernel does not do that (before Linux 5.16, or a
/// seccomp filter refuses it), or not with so many words. See futex_waitv(2).
///
/// # Safety
/// As for `wait`, of each word.
pub unsafe fn wait_for_any(words: &[(*const u32, u32)], deadline: Option<Deadline>) -> Option<Wake> {
    if words.len() > MOST_WORDS {
        return None;
    }
    let waiter = |&(address, value): &(*const u32, u32)| Waiter {
        value: value.into(),
        address: address.expose_provenance() as u64,
        flags: SIZE_U32,
        reserved: 0,
    };
    let waiters: Vec<Waiter> = words.iter().map(waiter).collect();
    let time = deadline.map(Deadline::as_timespec);
    let time = time.as_ref().map_or(ptr::null(), ptr::from_ref);
    // SAFETY: the caller's promise; the time is an absolute one on the monotonic clock, or null for ever.
    let result = unsafe {
        libc::syscall(
            libc::SYS_futex_waitv,
            waiters.as_ptr(),
            waiters.len() as libc::c_uint,
            0,
            time,
            libc::CLOCK_MONOTONIC,
        )
    };
    if result >= 0 {
        return Some(Wake::Woken);
    }
    match Error::last_os_error().raw_os_error() {
        Some(libc::EAGAIN) => Some(Wake::Woken),
        Some(libc::EINTR) => Some(Wake::Interrupted),
        Some(libc::ETIMEDOUT) => Some(Wake::TimedOut),
        _ => None,
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
