//! A latch: threads wait until its count has come down to 0, where it stays.
//!
//! The half of the state that the kernel does not know is the count. The futex word says what sleepers need:
//!
//! | futex word | count     | meaning                                     |
//! |------------|-----------|---------------------------------------------|
//! | 0          | any       | nobody is asleep                            |
//! | WAITERS    | above 0   | threads may be asleep                       |
//! | WAKING     | 0         | the sleepers may not have been woken yet    |
//!
//! Invariant: if a thread sleeps and the count is 0, the word is WAKING or a woken thread is on its way. The thread that
//! counts to 0, and every woken waiter, have the latch pending. When one of them dies, the kernel wakes a sleeper, which
//! finds WAKING and wakes all others.
//!
//! Memory order: a thread that has seen 0 (Acquire) sees what came before each count down (AcqRel).

use crate::atomic::{AtomicU64, Ordering::*};
use crate::deadline::Deadline;
use crate::kernel::Kernel;
use crate::lock::Outcome;
use crate::platform::Wake;
use crate::word::{ANY_CLASS, OWNER_DIED, WAITERS, Word, aux, futex_word, pack};

const WAKING: u32 = OWNER_DIED; // the kernel gives this bit no meaning in a word that names nobody

/// The largest count.
pub const MAX: u32 = i32::MAX as u32;

/// As `participants::layout`.
#[cfg(test)]
pub fn layout() -> Vec<(&'static str, usize)> {
    vec![("waking", WAKING as usize)]
}

/// All zeroes is a latch at 0.
#[derive(Default)]
#[repr(transparent)]
pub struct Latch(Word);

impl Latch {
    /// Sets the count of a latch that nobody else knows yet.
    pub fn start(&self, count: u32) {
        self.0.state.store(pack(0, count), Relaxed);
    }

    /// Puts the latch in order when no process uses it. It keeps its count.
    pub fn recover(&self) {
        self.0.recover(pack(0, self.count().min(MAX)));
    }

    #[inline]
    pub fn count(&self) -> u32 {
        aux(self.0.state.load(Acquire))
    }

    /// Makes the count one less, unless it is 0, and wakes all who wait when it comes there.
    pub fn count_down<K: Kernel>(&self, kernel: &K) {
        kernel.set_pending(&self.0);
        let mut state = self.0.state.load(Acquire);
        loop {
            let (word, count) = (futex_word(state), aux(state));
            let next = match count {
                0 => break self.finish(kernel, state),
                1 if word != 0 => pack(WAKING, 0),
                _ => pack(word, count - 1),
            };
            match self.0.state.compare_exchange(state, next, AcqRel, Acquire) {
                Ok(_) => break self.finish(kernel, next),
                Err(now) => state = now,
            }
        }
        kernel.clear_pending();
    }

    /// Wakes the sleepers of a latch at 0 if that has not been done. The caller has it pending.
    fn finish<K: Kernel>(&self, kernel: &K, state: u64) {
        if state == pack(WAKING, 0) {
            kernel.wake(&self.0, i32::MAX, ANY_CLASS);
            let _ = self.0.state.compare_exchange(state, pack(0, 0), Release, Relaxed);
        }
    }

    /// Sleeps until the count is 0: `Acquired` then.
    #[cold]
    pub fn wait<K: Kernel>(&self, kernel: &K, deadline: Option<Deadline>) -> Outcome {
        kernel.set_pending(&self.0);
        let outcome = loop {
            let state = self.0.state.load(Acquire);
            if aux(state) == 0 {
                self.finish(kernel, state);
                break Outcome::Acquired;
            }
            let asleep = pack(WAITERS, aux(state));
            if state != asleep && self.0.state.compare_exchange(state, asleep, Relaxed, Relaxed).is_err() {
                continue;
            }
            match kernel.wait_or_recheck(&self.0, WAITERS, deadline, ANY_CLASS) {
                Wake::Woken => {}
                _ if self.count() == 0 => {}
                Wake::TimedOut => break Outcome::TimedOut,
                Wake::Interrupted => break Outcome::Interrupted,
            }
        };
        kernel.clear_pending();
        outcome
    }

    /// A word for the use of the latch's owner object.
    pub fn spare(&self) -> &AtomicU64 {
        &self.0.spare
    }
}
