//! Several words changed in one step, whenever the thread that changes them is killed.
//!
//! | count | meaning                                                                          |
//! |-------|----------------------------------------------------------------------------------|
//! | 0     | nothing is under way                                                             |
//! | n     | the first n of the writes have been decided on; any of them may have been made   |
//!
//! The new values are written into the log first; the store of their count decides. Then they are written where they
//! belong, and the count goes back to 0. Whoever holds the queue's lock after a death makes the writes again: the same
//! ones, so it does not matter how many were made before, or how often this happens.
//!
//! What no word that is in force leads to needs no log: it is written directly, before the decision.

use super::Queue;
use super::layout::REDO;
use super::refusal::{Corrupt, Refusal};
use std::sync::atomic::{AtomicU64, Ordering::*, compiler_fence};

/// The writes of one operation, collected by the holder of the queue's lock.
pub struct Redo<'q> {
    queue: &'q Queue,
    writes: [(usize, u64); REDO],
    count: usize,
}

impl<'q> Redo<'q> {
    pub fn new(queue: &'q Queue) -> Self {
        Redo { queue, writes: [(0, 0); REDO], count: 0 }
    }

    /// What the word will be after the writes so far.
    pub fn get(&self, word: &AtomicU64) -> u64 {
        let offset = self.queue.offset_of(word);
        let writes = &self.writes[..self.count];
        match writes.iter().find(|(at, _)| *at == offset) {
            Some((_, value)) => *value,
            None => word.load(Relaxed),
        }
    }

    /// Adds a write.
    ///
    /// # Errors
    /// `Corrupt` if there are too many: no operation has so many on a queue that is in order.
    pub fn set(&mut self, word: &AtomicU64, value: u64) -> Result<(), Refusal> {
        let offset = self.queue.offset_of(word);
        let writes = &mut self.writes[..self.count];
        if let Some(write) = writes.iter_mut().find(|(at, _)| *at == offset) {
            write.1 = value;
            return Ok(());
        }
        *self.writes.get_mut(self.count).ok_or(Corrupt)? = (offset, value);
        self.count += 1;
        Ok(())
    }

    /// Makes all the writes, or none.
    pub fn commit(self) {
        let header = self.queue.header();
        let writes = &self.writes[..self.count];
        // The processor keeps the order of a thread's own stores for itself, and a thread dies between two of them. So it
        // is the compiler alone that must not change it.
        compiler_fence(SeqCst);
        if let [(offset, value)] = writes {
            self.queue.word(*offset).store(*value, Release);
            return;
        }
        for ([at, new], (offset, value)) in header.redo.iter().zip(writes) {
            at.store(*offset as u64, Relaxed);
            new.store(*value, Relaxed);
        }
        compiler_fence(SeqCst);
        header.redo_count.store(self.count as u64, Release);
        compiler_fence(SeqCst);
        for (offset, value) in writes {
            self.queue.word(*offset).store(*value, Relaxed);
        }
        compiler_fence(SeqCst);
        header.redo_count.store(0, Release);
    }
}

/// Makes the writes that a dead holder of the lock had decided on.
pub fn recover(queue: &Queue) {
    let header = queue.header();
    let count = header.redo_count.load(Acquire) as usize;
    for [at, new] in header.redo.iter().take(count) {
        let offset = at.load(Relaxed) as usize;
        if queue.may_be_redone(offset) {
            queue.word(offset).store(new.load(Relaxed), Relaxed);
        }
    }
    compiler_fence(SeqCst);
    header.redo_count.store(0, Release);
}
