//! Several words of a shared memory changed in one step, whenever the thread that changes them is killed.
//!
//! | count | meaning                                                                          |
//! |-------|----------------------------------------------------------------------------------|
//! | 0     | nothing is under way                                                             |
//! | n     | the first n of the writes have been decided on; any of them may have been made   |
//!
//! The new values are written into the log first; the store of their count decides. Then they are written where they
//! belong, and the count goes back to 0. The next holder of the log's lock after a death makes the writes again: the same
//! ones, so it does not matter how many were made before, or how often this happens. A single write needs no log.
//!
//! What no word that is in force leads to needs no log: it is written directly, before the decision.
//!
//! The stores are made in the order in which they were set, each with Release: whoever reads without the lock and sees one
//! of them sees those before it too, and all that was written directly.

use std::mem::MaybeUninit;
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering::*, compiler_fence};

/// A memory whose words are changed through redo logs.
pub trait Memory {
    type Refusal;
    /// There are more writes than any change has in a memory that is in order.
    const CORRUPT: Self::Refusal;

    /// Where a word of the memory is.
    fn offset_of(&self, word: &AtomicU64) -> usize;

    /// The word at an offset that `offset_of` gave or `may_be_redone` allows.
    fn word(&self, offset: usize) -> &AtomicU64;

    /// Whether a change may write to the word at `offset` through a log. Never a word that is held by a thread.
    fn may_be_redone(&self, offset: usize) -> bool;
}

/// A log for changes of up to `N` words, guarded by a lock.
#[repr(C)]
pub struct Log<const N: usize> {
    count: AtomicU64,
    writes: [[AtomicU64; 2]; N],
}

impl<const N: usize> Log<N> {
    /// Where the writes stand, for the version of the layout of files.
    #[cfg(test)]
    pub const WRITES_AT: usize = std::mem::offset_of!(Self, writes);

    /// Makes the writes that a dead holder of the lock had decided on.
    pub fn recover(&self, memory: &impl Memory) {
        let count = self.count.load(Acquire) as usize;
        for [at, new] in self.writes.iter().take(count) {
            let offset = at.load(Relaxed) as usize;
            if memory.may_be_redone(offset) {
                memory.word(offset).store(new.load(Relaxed), Release);
            }
        }
        compiler_fence(SeqCst);
        self.count.store(0, Release);
    }
}

/// The writes of one change, collected by the holder of the log's lock.
pub struct Redo<'m, M, const N: usize> {
    memory: &'m M,
    log: &'m Log<N>,
    /// The first `count` are there: zeroes for all would cost more than a change of a few words.
    writes: [MaybeUninit<(usize, u64)>; N],
    count: usize,
}

impl<'m, M: Memory, const N: usize> Redo<'m, M, N> {
    #[inline]
    pub fn new(memory: &'m M, log: &'m Log<N>) -> Self {
        Redo { memory, log, writes: [const { MaybeUninit::uninit() }; N], count: 0 }
    }

    #[inline]
    fn writes(&self) -> &[(usize, u64)] {
        // SAFETY: `set` has written the first `count`, which are at most N.
        unsafe { slice::from_raw_parts(self.writes.as_ptr().cast(), self.count) }
    }

    /// What the word will be after the writes so far.
    #[inline]
    pub fn get(&self, word: &AtomicU64) -> u64 {
        let offset = self.memory.offset_of(word);
        match self.writes().iter().find(|(at, _)| *at == offset) {
            Some((_, value)) => *value,
            None => word.load(Relaxed),
        }
    }

    /// Adds a write.
    ///
    /// # Errors
    /// `Memory::CORRUPT` if there are too many.
    #[inline]
    pub fn set(&mut self, word: &AtomicU64, value: u64) -> Result<(), M::Refusal> {
        let offset = self.memory.offset_of(word);
        let known = self.writes().iter().position(|(at, _)| *at == offset);
        let index = known.unwrap_or(self.count);
        self.writes.get_mut(index).ok_or(M::CORRUPT)?.write((offset, value));
        self.count = self.count.max(index + 1);
        Ok(())
    }

    /// Adds a write to a word that has none yet, which saves the search.
    ///
    /// # Errors
    /// As `set`.
    #[inline]
    pub fn add(&mut self, word: &AtomicU64, value: u64) -> Result<(), M::Refusal> {
        let offset = self.memory.offset_of(word);
        debug_assert!(self.writes().iter().all(|(at, _)| *at != offset));
        self.writes.get_mut(self.count).ok_or(M::CORRUPT)?.write((offset, value));
        self.count += 1;
        Ok(())
    }

    /// Makes all the writes, or none. (By reference: a move would copy the whole array.)
    #[inline]
    pub fn commit(&mut self) {
        let writes = self.writes();
        // The processor keeps the order of a thread's own stores for itself, and a thread dies between two of them. So it
        // is the compiler alone that must not change it.
        compiler_fence(SeqCst);
        if let [(offset, value)] = writes {
            self.memory.word(*offset).store(*value, Release);
            return;
        }
        for ([at, new], (offset, value)) in self.log.writes.iter().zip(writes) {
            at.store(*offset as u64, Relaxed);
            new.store(*value, Relaxed);
        }
        compiler_fence(SeqCst);
        self.log.count.store(self.count as u64, Release);
        compiler_fence(SeqCst);
        for (offset, value) in writes {
            self.memory.word(*offset).store(*value, Release);
        }
        compiler_fence(SeqCst);
        self.log.count.store(0, Release);
    }
}
