//! A word that a thread holds so that its death is seen by those who watch the word.
//!
//! | word               | meaning                                                                   |
//! |--------------------|---------------------------------------------------------------------------|
//! | 0                  | nobody's                                                                  |
//! | `id`, WAITERS      | that thread's; the kernel wakes a watcher when it dies                    |
//! | OWNER_DIED, ...    | its thread is dead; what it left has not been seen to                     |
//!
//! Changes hands under the queue's lock only, so unlike a `Lock` it has nobody to compete with.

use crate::kernel::Kernel;
use crate::word::{OWNER, OWNER_DIED, WAITERS, Word, futex_word, pack};
use std::sync::atomic::Ordering::*;

/// See above. All zeroes is nobody's.
#[repr(transparent)]
pub struct Robust(Word);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    Nobody,
    Alive,
    Dead,
}

impl Robust {
    #[inline]
    pub fn holder(&self) -> Holder {
        match futex_word(self.0.state.load(Acquire)) {
            0 => Holder::Nobody,
            word if word & OWNER != 0 => Holder::Alive,
            _ => Holder::Dead,
        }
    }

    /// Makes it the thread of `kernel`'s, until that releases it or dies.
    pub fn hold<K: Kernel>(&self, kernel: &K, pid: u32) {
        kernel.set_pending(&self.0);
        self.0.note.store(u64::from(pid), Relaxed);
        self.0.state.store(pack(kernel.id() | WAITERS, 0), Relaxed);
        kernel.robust_push(&self.0);
        kernel.clear_pending();
    }

    /// Makes it nobody's again.
    pub fn release<K: Kernel>(&self, kernel: &K) {
        kernel.set_pending(&self.0);
        kernel.robust_remove(&self.0);
        self.0.state.store(pack(0, 0), Release);
        kernel.clear_pending();
    }

    /// Ends a hold of the calling thread's, also if the word has been overwritten: nothing on its robust list may lead here.
    pub fn let_go<K: Kernel>(&self, kernel: &K) {
        if self.is_held_by(kernel) {
            self.release(kernel);
        } else if crate::arena::may_be_in_file((&raw const self.0).addr()) {
            kernel.robust_remove(&self.0);
        }
    }

    /// What the dead holder left has been seen to.
    pub fn bury(&self) {
        self.0.state.store(pack(0, 0), Release);
    }

    /// Whether `kernel`'s thread has it.
    pub fn is_held_by<K: Kernel>(&self, kernel: &K) -> bool {
        futex_word(self.0.state.load(Relaxed)) & OWNER == kernel.id()
    }

    /// Finds out whether its holder is dead, where the system does not see to that.
    pub fn reap_if_owner_dead<K: Kernel>(&self) {
        K::reap_if_owner_dead(&self.0);
    }

    /// When no process uses the word: whoever holds it is dead.
    pub fn recover(&self) {
        if self.holder() != Holder::Nobody {
            self.0.recover(pack(OWNER_DIED, 0));
        }
    }

    /// The process it was held for.
    pub fn pid(&self) -> u32 {
        self.0.note.load(Relaxed) as u32
    }

    /// What to watch for its holder's death: the word, and its value while the holder lives. If that is dead already, a
    /// value that the word does not have.
    pub fn watched(&self) -> Option<(&Word, u32)> {
        let word = futex_word(self.0.state.load(Acquire));
        match word {
            0 => None,
            _ if word & OWNER != 0 => Some((&self.0, word)),
            _ => Some((&self.0, 0)),
        }
    }
}
