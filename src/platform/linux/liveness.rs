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
use crate::condition::IDLE;
use crate::word::{OWNER, OWNER_DIED, WAITERS, Word, aux, futex_word, pack};
use std::fs::File;
use std::io::{Read, Write};
use std::time::Duration;

/// How often one thread is looked at by this process.
const INTERVAL: Duration = Duration::from_millis(250);

/// When threads were last looked at: number and milliseconds, at the place of the number.
static LOOKS: [AtomicU64; 4096] = [const { AtomicU64::new(0) }; 4096];

/// If the thread that `word` names is gone, marks it as the kernel would have, and returns true: a waiter is to be woken.
pub fn mark_if_owner_gone(word: &Word) -> bool {
    let state = word.state.load(Acquire);
    let owner = futex_word(state) & OWNER;
    if owner == 0 || owner & IDLE != 0 || !is_due(owner) {
        return false;
    }
    // Twice, with the word the same in between: if the first answer was right, nobody takes the word from a thread that is
    // gone without changing more of it than the owner.
    let pid = word.pid_of(owner);
    if !is_gone(owner, pid) || word.state.load(Acquire) != state || !is_gone(owner, pid) {
        return false;
    }
    let marked = pack(futex_word(state) & WAITERS | OWNER_DIED, aux(state));
    word.state.compare_exchange(state, marked, AcqRel, Relaxed).is_ok()
}

/// Whether it is time to look at this thread, which the caller then does.
fn is_due(owner: u32) -> bool {
    let now = milliseconds();
    let last = &LOOKS[owner as usize % LOOKS.len()];
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

/// Whether the thread is gone for good. `pid` is its process, or 0 if that is not known.
fn is_gone(thread: u32, pid: u32) -> bool {
    // SAFETY: signal 0 only asks.
    let asked = unsafe {
        match pid {
            0 => libc::syscall(libc::SYS_tkill, thread, 0),
            _ => libc::syscall(libc::SYS_tgkill, pid, thread, 0),
        }
    };
    if asked != 0 {
        return std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH);
    }
    matches!(state_of(thread), Some(b'Z' | b'X')) && proc_is_ours()
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
