//! Where threads sleep for a word that has no semaphore. Such words are in files, which processes share that are not
//! related; in tables of participants; in the memory of queues and maps; in robust semaphores. Threads sleep at the word's
//! address, as on a futex (macOS 14.4). Before, by the clock: a sleeper looks at the word every `LONGEST_NAP` at least, and
//! nobody is woken.
//!
//! A wake-up that comes while a thread looks at the word is lost, unless the word has changed: `RECHECK` makes up for it.

use super::mach::{Code, Mach, System};
use super::{PollBackoff, SleepEnd, last_look, look, pause};
use crate::arena;
use crate::deadline::Deadline;
use crate::platform::Wake;
use crate::word::{Word, futex_word};
use std::sync::atomic::Ordering::Acquire;
use std::time::Duration;

/// The longest time between two looks by the clock.
const LONGEST_NAP: Duration = Duration::from_millis(10);
/// To wake more threads than that one by one takes longer than to wake all.
const ONE_BY_ONE: u32 = 8;

/// Whether `word` has no semaphore.
pub fn is_for(word: &Word) -> bool {
    !arena::is_attached(word.futex().addr())
}

/// As `Kernel::wait`.
pub fn wait(at: &Word, expected: u32, deadline: Option<Deadline>) -> Wake {
    let mut backoff = PollBackoff::new();
    loop {
        if futex_word(at.state.load(Acquire)) != expected {
            return Wake::Woken;
        }
        let left = deadline.map(Deadline::remaining);
        if left.is_some_and(|left| left.is_zero()) {
            return last_look(at, expected);
        }
        match sleep(at, expected, backoff.next(left)) {
            SleepEnd::Signalled => return Wake::Woken,
            SleepEnd::Interrupted => return Wake::Interrupted,
            SleepEnd::Over => look(at),
        }
    }
}

fn sleep(at: &Word, expected: u32, time: Duration) -> SleepEnd {
    // SAFETY: the word is mapped as long as `at` is borrowed.
    match unsafe { System::wait_on_address(at.futex(), expected, time) } {
        Ok(()) => SleepEnd::Signalled,
        Err(Code::ABORTED) => SleepEnd::Interrupted,
        Err(Code::OPERATION_TIMED_OUT) => SleepEnd::Over,
        Err(_) if pause(time.min(LONGEST_NAP)) => SleepEnd::Over,
        Err(_) => SleepEnd::Interrupted,
    }
}

/// Wakes at least `count` of those that sleep on `at`. Returns how many; where all are woken, 1 for any number of them.
pub fn wake(at: &Word, count: u32) -> usize {
    if count > ONE_BY_ONE {
        return usize::from(System::wake_by_address(at.futex(), true));
    }
    (0..count).take_while(|_| System::wake_by_address(at.futex(), false)).count()
}
