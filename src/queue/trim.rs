//! Memory goes back to the system as the queue drains, in large steps and without the queue's lock.
//!
//! | a free block is in | meaning                                                                      |
//! |--------------------|------------------------------------------------------------------------------|
//! | `dirty`            | has memory; the next to be used                                              |
//! | `trimming`         | its memory is being given back, by the holder of `trimmer`                   |
//! | `clean`            | has none                                                                     |
//!
//! Some free blocks keep their memory: a fixed number, and a quarter of what is in use. The others lose it when there are
//! twice as many, so that a queue whose length goes up and down does not give back what it takes again. A trimmer that dies
//! leaves its blocks in `trimming`; the next one gives their memory back, perhaps for the second time.

use super::blocks::Chain;
use super::refusal::Refusal;
use super::words::List;
use super::{Critical, Queue};
use crate::kernel::Kernel;
use std::sync::atomic::Ordering::Relaxed;

/// How many blocks are given back at a time.
const BATCH: u32 = 256;

impl<K: Kernel> Critical<'_, K> {
    /// Makes blocks of a dead trimmer's free again. True if there were any.
    pub(super) fn recover_trimming(&self) -> Result<bool, Refusal> {
        let header = self.header();
        let list = self.queue.list(header.trimming.load(Relaxed));
        if list.count == 0 || !header.trimmer.try_lock(self.kernel) {
            return Ok(false);
        }
        header.trimmer.make_consistent();
        let freed = self.free_trimming(list);
        header.trimmer.unlock(self.kernel);
        freed.map(|()| true)
    }

    fn free_trimming(&self, list: List) -> Result<(), Refusal> {
        let count = list.count.min(BATCH);
        let mut last = list.first;
        for _ in 1..count {
            last = self.queue.next_block(last)?;
        }
        let mut redo = self.queue.redo();
        self.release(&mut redo, Chain { first: list.first, last, count })?;
        redo.set(&self.header().trimming, 0)?;
        redo.commit();
        Ok(())
    }
}

impl Queue {
    /// How many free blocks keep their memory.
    fn kept_blocks(&self) -> u32 {
        let header = self.header();
        let free = [&header.dirty, &header.clean].map(|list| self.list(list.load(Relaxed)).count);
        let touched = header.touched.load(Relaxed).min(u64::from(self.layout.blocks)) as u32;
        let used = touched.saturating_sub(free[0].saturating_add(free[1]));
        self.layout.kept + used / 4
    }

    /// Whether so much memory is free that `trim` is due. Costs two or three loads.
    #[inline]
    pub fn should_trim(&self) -> bool {
        let free = self.list(self.header().dirty.load(Relaxed)).count;
        self.gives_back && free / 2 > self.layout.kept && free / 2 > self.kept_blocks()
    }

    /// Gives the memory of free blocks back to the system, unless somebody else is doing so. Takes some 0.2 ms for
    /// each megabyte.
    ///
    /// # Errors
    /// `Corrupt`.
    #[cold]
    pub fn trim<K: Kernel>(&self, kernel: &K) -> Result<(), Refusal> {
        let trimmer = &self.header().trimmer;
        if !trimmer.try_lock(kernel) {
            return Ok(());
        }
        if trimmer.is_abandoned() {
            trimmer.make_consistent();
        }
        let mut rounds = self.layout.blocks / BATCH + 1;
        let result = loop {
            match self.trim_some(kernel) {
                Ok(true) if rounds > 0 => rounds -= 1,
                Ok(_) => break Ok(()),
                Err(refusal) => break Err(refusal),
            }
        };
        trimmer.unlock(kernel);
        result
    }

    /// True if there is more to do.
    fn trim_some<K: Kernel>(&self, kernel: &K) -> Result<bool, Refusal> {
        if !self.detach(kernel)? {
            return Ok(false);
        }
        let header = self.header();
        let list = self.list(header.trimming.load(Relaxed));
        let mut blocks = Vec::with_capacity(BATCH as usize);
        let mut block = list.first;
        for _ in 0..list.count.min(BATCH) {
            self.link(block)?;
            blocks.push(block);
            block = self.next_block(block).unwrap_or(0); // the last one's link means nothing
        }
        let last = blocks.last().copied();
        blocks.sort_unstable();
        for run in blocks.chunk_by(|one, other| one + 1 == *other) {
            self.give_back(run);
        }
        let Ok(critical) = self.enter(kernel, None) else { return Ok(false) };
        if let Some(last) = last {
            let clean = self.list(header.clean.load(Relaxed));
            critical.set_next(last, clean.first)?;
            let mut redo = self.redo();
            redo.set(&header.clean, List { first: list.first, count: clean.count + list.count }.pack())?;
            redo.set(&header.trimming, 0)?;
            critical.signal_room(|| redo.commit());
        }
        Ok(true)
    }

    /// Moves a batch from `dirty` to `trimming`. False if there is nothing to give back.
    fn detach<K: Kernel>(&self, kernel: &K) -> Result<bool, Refusal> {
        let Ok(_critical) = self.enter(kernel, None) else { return Ok(false) };
        let header = self.header();
        if self.list(header.trimming.load(Relaxed)).count > 0 {
            return Ok(true); // a dead trimmer's
        }
        let dirty = self.list(header.dirty.load(Relaxed));
        let count = dirty.count.saturating_sub(self.kept_blocks()).min(BATCH);
        if count == 0 {
            return Ok(false);
        }
        let mut last = dirty.first;
        for _ in 1..count {
            last = self.next_block(last)?;
        }
        let rest = if count < dirty.count { self.next_block(last)? } else { 0 };
        let mut redo = self.redo();
        redo.set(&header.dirty, List { first: rest, count: dirty.count - count }.pack())?;
        redo.set(&header.trimming, List { first: dirty.first, count }.pack())?;
        redo.commit();
        Ok(true)
    }

    #[cfg(target_os = "linux")]
    fn give_back(&self, run: &[u32]) {
        let (Some(first), length) = (run.first(), run.len() * self.layout.block as usize) else { return };
        let start = self.layout.blocks_at + *first as usize * self.layout.block as usize;
        // SAFETY: the blocks are inside the memory and in nobody's use. Where the system cannot do it, they keep theirs.
        unsafe { libc::madvise(self.memory.as_ptr().add(start).cast(), length, libc::MADV_REMOVE) };
    }

    #[cfg(not(target_os = "linux"))]
    fn give_back(&self, _run: &[u32]) {}
}
