//! Marks: which keys' values are being computed, so that each is computed once.
//!
//! A mark is a lock that the computing thread holds, and the hash of its key. Who wants the same key sleeps on the lock,
//! and looks again when it is free: the value is there, or the thread that computed it gave up or died, and somebody else
//! takes its place. Marks are given out under the lock `marking`.
//!
//! | lock             | the mark                                                                     |
//! |------------------|------------------------------------------------------------------------------|
//! | 0                | is free                                                                      |
//! | held             | is that of a key that its holder computes                                    |
//! | free, WAITERS    | was given back; one who waits for it is being woken                          |
//! | OWNER_DIED, ...  | its holder died                                                              |

use super::Refusal;
use super::layout::MARKS;
use super::shared::{Map, Patience};
use crate::deadline::Deadline;
use crate::kernel::Kernel;
use crate::lock::{Lock, Outcome};
use std::sync::atomic::{AtomicU64, Ordering::*};

/// A key's mark is one of so many in a row.
const WINDOW: usize = 16;

/// See above. All zeroes is a free one.
#[repr(C, align(64))]
pub struct Mark {
    lock: Lock,
    hash: AtomicU64,
    _unused: [u64; 2],
}

impl Mark {
    /// For the version of the layout of files.
    #[cfg(test)]
    pub(super) const HASH_AT: usize = std::mem::offset_of!(Self, hash);

    /// When no process uses it: whoever held it is dead, and what it computed is computed again.
    pub(super) fn recover(&self) {
        self.lock.recover();
    }
}

/// What an attempt to compute a key's value came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The calling thread computes it, and has to `release` it.
    Ours(usize),
    /// Another thread does, or too many keys are being computed: `await_release` of that mark, then try again.
    Others(usize),
    /// The calling thread does so already, by that mark.
    Already(usize),
}

impl Map {
    /// Makes the calling thread the one that computes the value of a key of that hash.
    ///
    /// # Errors
    /// `Busy` or `Interrupted`.
    pub fn claim<K: Kernel>(&self, kernel: &K, hash: u64, patience: Patience) -> Result<Claim, Refusal> {
        let marking = &self.header().marking;
        self.take(kernel, marking, patience)?;
        if marking.is_abandoned() {
            marking.make_consistent(); // each mark stands for itself
        }
        let claim = self.claim_marked(kernel, hash);
        marking.unlock(kernel);
        Ok(claim)
    }

    fn claim_marked<K: Kernel>(&self, kernel: &K, hash: u64) -> Claim {
        let begin = hash as usize % MARKS;
        let mut free = None;
        for index in (begin..begin + WINDOW).map(|index| index % MARKS) {
            let mark = self.mark(index);
            mark.lock.reap_if_owner_dead::<K>();
            if mark.hash.load(Relaxed) == hash {
                match mark.lock.owner() {
                    0 if mark.lock.try_lock(kernel) => return self.ours(kernel, index, hash),
                    owner if owner == kernel.id() => return Claim::Already(index),
                    _ => return Claim::Others(index),
                }
            }
            if free.is_none() && !mark.lock.is_locked() {
                free = Some(index);
            }
        }
        match free.filter(|index| self.mark(*index).lock.try_lock(kernel)) {
            Some(index) => self.ours(kernel, index, hash),
            None => Claim::Others(begin),
        }
    }

    fn ours<K: Kernel>(&self, kernel: &K, index: usize, hash: u64) -> Claim {
        let mark = self.mark(index);
        mark.hash.store(hash, Relaxed);
        if mark.lock.is_abandoned() {
            mark.lock.make_consistent();
        }
        if kernel.pid() != 0 {
            mark.lock.record_owner(kernel);
        }
        Claim::Ours(index)
    }

    /// Sleeps until nobody holds the mark: `Acquired` then. All who wait wake up, one after the other.
    pub fn await_release<K: Kernel>(&self, kernel: &K, index: usize, deadline: Option<Deadline>) -> Outcome {
        self.mark(index).lock.wait_until_free(kernel, deadline)
    }

    /// Whether somebody computes by that mark.
    pub fn is_marked(&self, index: usize) -> bool {
        self.mark(index).lock.is_locked()
    }

    /// Ends what the calling thread has begun and will never end, since what ran it is no more.
    pub fn release_lost<K: Kernel>(&self, kernel: &K) {
        (0..MARKS).for_each(|index| self.release(kernel, index));
    }

    /// Whether a thread of the process `pid` computes a value.
    pub fn is_computing(&self, pid: u32) -> bool {
        (0..MARKS).map(|index| &self.mark(index).lock).any(|lock| {
            let owner = lock.owner();
            owner != 0 && lock.pid(owner) == pid
        })
    }

    /// Ends what `claim` began.
    pub fn release<K: Kernel>(&self, kernel: &K, index: usize) {
        let lock = &self.mark(index).lock;
        if lock.owner() == kernel.id() {
            lock.unlock(kernel);
        } else if crate::arena::may_be_in_file((&raw const *lock).addr()) {
            // The word has been overwritten: nothing on the thread's robust list may lead here all the same.
            kernel.robust_remove(lock.word());
        }
    }
}
