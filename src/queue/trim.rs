//! Memory goes back to the system as the queue drains, and is fetched as it fills, in large steps and without the queue's lock.
//!
//! | a free block is in | meaning                                                                        |
//! |--------------------|--------------------------------------------------------------------------------|
//! | `dirty`            | has memory; the next to be used                                                |
//! | `trimming`         | its memory is being given back or fetched, by the holder of `trimmer`          |
//! | `clean`, or none   | has none                                                                       |
//!
//! The first write to a block without memory takes the system some microseconds. Under the lock it would hold up the takers:
//! the queue would grow the more, and each further item would need fresh memory too.
//!
//! Some free blocks keep their memory: a fixed number, and a quarter of what is in use. The others lose it when there are
//! twice as many, so that a queue whose length goes up and down does not give back what it takes again. A trimmer that dies
//! leaves its blocks in `trimming`; the next one gives their memory back, perhaps for the second time.

use super::blocks::{Chain, LEFT};
use super::cursor::Cursor;
use super::refusal::Refusal;
use super::words::List;
use super::{Critical, Queue};
use crate::kernel::Kernel;
use crate::spin::PAUSE;
use std::sync::atomic::Ordering::Relaxed;

/// How many blocks are given back at a time.
const BATCH: u32 = 256;
/// How many bytes are fetched at most at a time, and what a page takes at least.
const FETCHED: u32 = 128 << 10;
const PAGE: usize = 4096;
/// With fewer blocks that have memory, more are fetched.
const FEW: u32 = 4;

impl<K: Kernel> Critical<'_, K> {
    /// Makes blocks that a trimmer left free again. True if there were any.
    pub(super) fn recover_trimming(&self) -> Result<bool, Refusal> {
        let header = self.header();
        let list = self.queue.list(header.trimming.load(Relaxed));
        if list.count == 0 || !header.trimmer.try_lock_or_reap(self.kernel) {
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
        self.signal_room(|| redo.commit());
        Ok(())
    }

    /// Moves blocks to be used next to `trimming`: no more than were ever used, so that a queue that stays short stays small, and
    /// few of those that are free.
    fn detach_for_fetching(&self) -> Result<Option<List>, Refusal> {
        let header = self.header();
        let left = self.queue.list(header.trimming.load(Relaxed));
        if left.count > 0 {
            return self.free_trimming(left).map(|()| None);
        }
        let count = header.touched.load(Relaxed).clamp(1, self.queue.fetched_at_once()) as u32;
        let mut redo = self.queue.redo();
        let Some(chain) = self.allocate(&mut redo, count, 3 * count + LEFT)? else { return Ok(None) };
        let list = List { first: chain.first, count };
        redo.set(&header.trimming, list.pack())?;
        redo.commit();
        Ok(Some(list))
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
        if !trimmer.try_lock_or_reap(kernel) {
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

    /// Whether a block without memory will soon be used. Costs a load or two.
    #[inline]
    pub fn should_fetch(&self) -> bool {
        self.gives_back && self.list(self.header().dirty.load(Relaxed)).count < FEW
    }

    /// Fetches memory for the next blocks to be used, unless somebody else sees to them, room is short, or takers free blocks
    /// while this polls: a stream whose takers keep up stays in the processors' caches. Takes some 2 us for each 4 KB.
    #[cold]
    pub fn fetch<K: Kernel>(&self, kernel: &K) {
        let is_short = self.header().touched.load(Relaxed) < self.fetched_at_once();
        if !is_short && self.spin_for_memory.run(PAUSE, || !self.should_fetch()) {
            return;
        }
        let trimmer = &self.header().trimmer;
        if !trimmer.try_lock_or_reap(kernel) {
            return;
        }
        if trimmer.is_abandoned() {
            trimmer.make_consistent();
        }
        let _ = self.fetch_some(kernel); // what is wrong with the memory is said to those that need it
        trimmer.unlock(kernel);
    }

    /// How many blocks are fetched at once at most.
    fn fetched_at_once(&self) -> u64 {
        u64::from((FETCHED / self.layout.block).max(1))
    }

    /// Does not wait for the queue's lock. If it cannot have that in the end, the blocks are left as a dead trimmer's are.
    fn fetch_some<K: Kernel>(&self, kernel: &K) -> Result<(), Refusal> {
        let Some(critical) = self.try_enter(kernel) else { return Ok(()) };
        let Some(list) = critical.detach_for_fetching()? else { return Ok(()) };
        drop(critical);
        let mut block = list.first;
        for _ in 0..list.count {
            for offset in (0..self.layout.block).step_by(PAGE) {
                // SAFETY: inside a block that is nobody's but the trimmer's.
                unsafe { self.bytes_at(Cursor { block, offset })?.write_volatile(0) };
            }
            block = self.next_block(block).unwrap_or(0); // the last one's link means nothing
        }
        self.try_enter(kernel).map_or(Ok(()), |critical| critical.free_trimming(list))
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
