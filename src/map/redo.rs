//! Several words changed in one step, whenever the thread that changes them is killed.
//!
//! | count | meaning                                                                          |
//! |-------|----------------------------------------------------------------------------------|
//! | 0     | nothing is under way                                                             |
//! | n     | the first n of the writes have been decided on; any of them may have been made   |
//!
//! The new values are written into the log first; the store of their count decides. Then they are written where they
//! belong, and the count goes back to 0. Whoever holds the lock of the log after a death makes the writes again: the same
//! ones, so it does not matter how many were made before, or how often this happens.
//!
//! There is one log in each shard, for the shard's own words, and one for what concerns the map's free blocks. A change
//! of the second kind may have writes to a shard too; its thread holds both locks. So whoever finds a shard's lock left
//! by the dead makes the writes of both logs before it looks at the shard.

use super::Refusal;
use super::layout::{REDO, Redo as Log};
use super::shared::Map;
use std::sync::atomic::{AtomicU64, Ordering::*, compiler_fence};

/// The writes of one change, collected by the holder of the lock.
pub struct Redo<'m> {
    map: &'m Map,
    writes: [(usize, u64); REDO],
    count: usize,
}

impl<'m> Redo<'m> {
    pub fn new(map: &'m Map) -> Self {
        Redo { map, writes: [(0, 0); REDO], count: 0 }
    }

    /// What the word will be after the writes so far.
    pub fn get(&self, word: &AtomicU64) -> u64 {
        let offset = self.map.offset_of(word);
        let writes = &self.writes[..self.count];
        match writes.iter().find(|(at, _)| *at == offset) {
            Some((_, value)) => *value,
            None => word.load(Relaxed),
        }
    }

    /// Adds a write.
    ///
    /// # Errors
    /// `Corrupt` if there are too many: no change has so many in a map that is in order.
    pub fn set(&mut self, word: &AtomicU64, value: u64) -> Result<(), Refusal> {
        let offset = self.map.offset_of(word);
        let writes = &mut self.writes[..self.count];
        if let Some(write) = writes.iter_mut().find(|(at, _)| *at == offset) {
            write.1 = value;
            return Ok(());
        }
        *self.writes.get_mut(self.count).ok_or(Refusal::Corrupt)? = (offset, value);
        self.count += 1;
        Ok(())
    }

    /// Makes all the writes, or none.
    pub fn commit(self, log: &Log) {
        let writes = &self.writes[..self.count];
        for ([at, new], (offset, value)) in log.writes.iter().zip(writes) {
            at.store(*offset as u64, Relaxed);
            new.store(*value, Relaxed);
        }
        // The processor keeps the order of a thread's own stores for itself, and a thread dies between two of them. So it
        // is the compiler alone that must not change it.
        compiler_fence(SeqCst);
        log.count.store(self.count as u64, Release);
        compiler_fence(SeqCst);
        for (offset, value) in writes {
            self.map.word(*offset).store(*value, Relaxed);
        }
        compiler_fence(SeqCst);
        log.count.store(0, Release);
    }
}

/// Makes the writes that a dead holder of the lock had decided on.
pub fn recover(map: &Map, log: &Log) {
    let count = log.count.load(Acquire) as usize;
    for [at, new] in log.writes.iter().take(count) {
        let offset = at.load(Relaxed) as usize;
        if map.may_be_redone(offset) {
            map.word(offset).store(new.load(Relaxed), Relaxed);
        }
    }
    compiler_fence(SeqCst);
    log.count.store(0, Release);
}
