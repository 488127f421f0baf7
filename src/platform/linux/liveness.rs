//! Deaths that the kernel did not tell of.
//!
//! The robust list of a thread is in the thread's own memory. The kernel does not walk it where it took that memory first
//! (process_mrelease(2), the out-of-memory reaper), nor finds itself in it where the thread has got another number
//! meanwhile (execve in a thread that is not the process's first). So whoever waits, or looks, asks now and then whether
//! the thread that a word names is still there.
//!
//! A thread is gone if there is none with its number in its process, or if it is a zombie: its list has been walked by
//! then. A stopped, traced or frozen thread is there. If in doubt, it is there.

use crate::atomic::{AtomicU64, Ordering::*};
use crate::word::{OWNER, OWNER_DIED, WAITERS, Word, aux, futex_word, pack};
use std::fs::File;
use std::io::{Read, Write};
use std::time::Duration;

/// How often one thread that is there is looked at by this process.
const INTERVAL: Duration = Duration::from_millis(250);

/// The last look at a thread, at the place of its number.
struct LastLook {
    /// The thread's number and the time in milliseconds.
    when: AtomicU64,
    /// The state of the word that named it, if its number belonged to another process; else 0.
    elsewhere: AtomicU64,
}

static LOOKS: [LastLook; 4096] =
    [const { LastLook { when: AtomicU64::new(0), elsewhere: AtomicU64::new(0) } }; 4096];

fn last_look(thread: u32) -> &'static LastLook {
    &LOOKS[thread as usize % LOOKS.len()]
}

/// What there is to a thread's number.
#[derive(PartialEq, Eq)]
enum Look {
    /// The thread is there, or may be.
    There,
    Gone,
    /// The thread with this number is one of another process.
    Elsewhere,
}

/// If the thread that `word` names is gone, marks it as the kernel would have, and returns true: a waiter is to be woken.
///
/// A holder records its process right after it took the word. Until then the record is that of an earlier holder, which
/// may have had the same number in another process. So a number that belongs to another process counts as gone only if
/// nothing has changed since the look before.
pub fn mark_if_owner_gone(word: &Word) -> bool {
    let state = word.state.load(Acquire);
    let owner = futex_word(state) & OWNER;
    if owner == 0 || !is_due(owner) {
        return false;
    }
    let pid = word.pid_of(owner);
    let found = look(owner, pid);
    if found == Look::Gone {
        last_look(owner).when.store(0, Relaxed); // the other words that name the thread need not wait for their turn
    }
    let seen = if found == Look::Elsewhere { state } else { 0 };
    let seen_before = last_look(owner).elsewhere.swap(seen, Relaxed) == state;
    if found == Look::There || found == Look::Elsewhere && !seen_before {
        return false;
    }
    // Twice, with the word the same in between: if the first answer was right, nobody takes the word from a thread that is
    // gone without changing more of it than the owner.
    if word.state.load(Acquire) != state || look(owner, pid) == Look::There {
        return false;
    }
    let marked = pack(futex_word(state) & WAITERS | OWNER_DIED, aux(state));
    word.state.compare_exchange(state, marked, AcqRel, Relaxed).is_ok()
}

/// Whether it is time to look at this thread, which the caller then does.
fn is_due(owner: u32) -> bool {
    let now = milliseconds();
    let last = &last_look(owner).when;
    let (number, time) = ((last.load(Relaxed) >> 32) as u32, last.load(Relaxed) as u32);
    if number == owner && u128::from(now.wrapping_sub(time)) < INTERVAL.as_millis() {
        return false;
    }
    last.store(u64::from(owner) << 32 | u64::from(now), Relaxed);
    true
}

fn milliseconds() -> u32 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid timespec to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &mut time) };
    (time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000) as u32
}

/// Looks for the thread. `pid` is its process, or 0 if that is not known.
fn look(thread: u32, pid: u32) -> Look {
    // SAFETY: signal 0 only asks.
    let found = unsafe { libc::syscall(libc::SYS_tkill, thread, 0) };
    if found != 0 && is_no_such_thread() {
        return Look::Gone;
    }
    if is_a_number(pid) {
        // SAFETY: as above.
        let found = unsafe { libc::syscall(libc::SYS_tgkill, pid, thread, 0) };
        if found != 0 && is_no_such_thread() {
            return Look::Elsewhere;
        }
    }
    if matches!(state_of(thread), Some(b'Z' | b'X')) && proc_is_ours() { Look::Gone } else { Look::There }
}

/// Whether that may be a process. A word that was not written by us may have anything.
fn is_a_number(pid: u32) -> bool {
    pid != 0 && i32::try_from(pid).is_ok()
}

/// Whether the last system call failed with ESRCH. A thread of another user is there, with EPERM.
fn is_no_such_thread() -> bool {
    std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
}

/// The state of a thread, as a letter.
fn state_of(thread: u32) -> Option<u8> {
    let mut path = [0; 32];
    let mut rest = &mut path[..];
    write!(rest, "/proc/{thread}/stat").ok()?;
    let left = rest.len();
    let path = std::str::from_utf8(&path[..path.len() - left]).ok()?;
    let mut text = [0; 128]; // the name of the thread, in brackets, has at most 64 bytes
    let length = File::open(path).ok()?.read(&mut text).ok()?;
    let name_end = text[..length].iter().rposition(|&byte| byte == b')')?;
    text[..length].get(name_end + 2).copied()
}

/// Whether /proc shows threads under the numbers that they have here: it may be that of another PID namespace.
fn proc_is_ours() -> bool {
    let me = std::fs::read_link("/proc/self").ok();
    me.is_some_and(|me| me.as_os_str().to_str() == Some(std::process::id().to_string().as_str()))
}
