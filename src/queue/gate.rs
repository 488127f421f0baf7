//! Where takers wait for an item and pushers for room: a line of waiters, of which one at a time watches a word.
//!
//! | line (a lock)      | meaning                                                                         |
//! |--------------------|---------------------------------------------------------------------------------|
//! | free               | nobody waits                                                                    |
//! | held               | its holder looks at the queue, or sleeps on the word; the others sleep in line  |
//! | left by the dead   | the kernel has woken the next in line, which looks at the queue                 |
//!
//! | word      | meaning                                                                                  |
//! |-----------|------------------------------------------------------------------------------------------|
//! | 0         | nobody sleeps, or a wake-up is on its way                                                |
//! | ARMED     | the holder of the line found nothing and is asleep, or about to be                       |
//!
//! The word changes under the queue's lock only, and no thread ever owns it.
//!
//! Invariants:
//! - The holder of the line arms the word in the critical section in which it found nothing. So a signal given before
//!   that was seen, and a signal given after it changes the word and wakes the sleeper.
//! - A wake-up cannot be lost with the waiter that got it: the line is handed on, and every new holder looks first.
//! - A wake-up cannot be lost with the thread that gives it: the word is in that thread's pending slot, and 0, from
//!   before the change to the queue until after the wake-up.
//!
//! A signal that nobody waits for costs one load.

use crate::atomic::Ordering::Relaxed;
use crate::deadline::Deadline;
use crate::kernel::Kernel;
use crate::lock::{Lock, Outcome};
use crate::platform::Wake;
use crate::word::{ANY_CLASS, WAITERS, Word, futex_word, pack};

/// The value of the futex word while somebody sleeps on it.
pub const ARMED: u32 = WAITERS;

/// All zeroes is a gate where nobody waits.
#[derive(Default)]
#[repr(C)]
pub struct Gate {
    line: Lock,
    word: Word,
}

/// What a look at the queue found.
pub enum Look<T> {
    Found(T),
    /// Nothing; the gate has been armed.
    Armed,
}

impl Gate {
    /// Asks for the next signal. Called by the holder of the line, under the queue's lock.
    pub fn arm(&self) {
        self.word.state.store(pack(ARMED, 0), Relaxed);
    }

    /// Whether a signal would wake somebody. Exact under the queue's lock.
    #[inline]
    pub fn is_armed(&self) -> bool {
        futex_word(self.word.state.load(Relaxed)) != 0
    }

    /// Whether a living thread waits here.
    #[inline]
    pub fn is_waited_at<K: Kernel>(&self) -> bool {
        self.line.is_live() && (K::TELLS_OF_DEATHS || self.is_line_live_still::<K>())
    }

    #[cold]
    fn is_line_live_still<K: Kernel>(&self) -> bool {
        self.line.reap_if_owner_dead::<K>();
        self.line.is_live()
    }

    /// Nobody waits, because no process uses it.
    #[cfg(not(loom))]
    pub fn recover(&self) {
        self.line.recover();
        self.word.recover(0);
    }

    /// Changes the queue by `commit`, and wakes the holder of the line if it sleeps and `matters` says so afterwards.
    /// Called under the queue's lock.
    #[inline]
    pub fn signal<K: Kernel>(&self, kernel: &K, commit: impl FnOnce(), matters: impl FnOnce() -> bool) {
        if self.is_armed() {
            self.signal_armed(kernel, commit, matters);
        } else {
            commit();
        }
    }

    #[cold]
    fn signal_armed<K: Kernel>(&self, kernel: &K, commit: impl FnOnce(), matters: impl FnOnce() -> bool) {
        kernel.set_pending(&self.word);
        // Before the change: a waiter that has looked and is not asleep yet must find another value, whenever we die.
        self.word.state.store(pack(0, 0), Relaxed);
        commit();
        if matters() {
            kernel.wake(&self.word, 1, ANY_CLASS);
        } else {
            self.arm();
        }
        kernel.clear_pending();
    }

    /// Waits in line, then until `look` finds something. `look` takes the queue's lock, and arms the gate if it finds
    /// nothing; `sleep` sleeps while the word it is given has the value it is given.
    ///
    /// A wait that is interrupted has left the line, so that the caller can do anything before it waits again.
    ///
    /// # Errors
    /// `TimedOut` or `Interrupted`, from here or from `look`.
    #[cold]
    pub fn wait<K: Kernel, T>(
        &self,
        kernel: &K,
        deadline: Option<Deadline>,
        mut look: impl FnMut() -> Result<Look<T>, Outcome>,
        mut sleep: impl FnMut(&Word, u32) -> Wake,
    ) -> Result<T, Outcome> {
        if !self.line.try_lock(kernel) {
            match self.line.lock(kernel, deadline) {
                Outcome::Acquired => {}
                outcome => return Err(outcome),
            }
        }
        if self.line.is_abandoned() {
            self.line.make_consistent(); // there is nothing to repair: a look is the first that happens
        }
        let result = loop {
            match look() {
                Ok(Look::Found(found)) => break Ok(found),
                Ok(Look::Armed) => {}
                Err(outcome) => break Err(outcome),
            }
            match sleep(&self.word, ARMED) {
                Wake::Woken => {}
                Wake::TimedOut => break Err(Outcome::TimedOut),
                Wake::Interrupted => break Err(Outcome::Interrupted),
            }
        };
        self.line.unlock(kernel);
        result
    }
}
