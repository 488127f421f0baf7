//! A map's memory as this process sees it, and the holder of a shard's lock.

use super::Refusal;
use super::blocks::Place;
use super::computing::Mark;
use super::entry::{self, Key};
use super::layout::{Block, CELLS, Cell, Header, Layout, MAGIC, MARKS, REDO, Shard};
use super::slot::Bucket;
use crate::kernel::Kernel;
use crate::lock::{Lock, Outcome};
use crate::redo::Memory;
use crate::spin::{LONG_PAUSE, SpinBudget};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

/// A map in memory that processes share, perhaps at different addresses.
#[derive(Debug)]
pub struct Map {
    memory: NonNull<u8>,
    pub(super) layout: Layout,
    pub(super) evicts: bool,
    seed: u64,
    spin: SpinBudget,
}

// SAFETY: the memory outlives it, as its maker promised, and is used by atomic operations, under a shard's lock, or by
// readers that look afterwards whether what they read was there.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

/// How long a caller waits for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// A few microseconds, and no long work is begun: `Refusal::Busy` then.
    Hasty,
    /// Until the lock is free, or a signal is handled: `Refusal::Interrupted` then.
    Patient,
}

impl Map {
    /// How much memory a map takes that has room for `bytes`. `None` if there can be no such map.
    pub fn memory_for(bytes: u64, evicts: bool) -> Option<usize> {
        Layout::for_bytes(bytes, evicts).map(|layout| layout.size)
    }

    /// Makes a map in `length` zeroes that nobody else knows yet. `seed` is a random number.
    ///
    /// # Errors
    /// `TooLarge` if the memory is too short for it, or not aligned to 64 bytes.
    ///
    /// # Safety
    /// The memory is mapped, readable and writable, as long as the map is used.
    pub unsafe fn create(
        memory: NonNull<u8>,
        length: usize,
        bytes: u64,
        evicts: bool,
        seed: u64,
    ) -> Result<Self, Refusal> {
        let layout = Layout::for_bytes(bytes, evicts).filter(|layout| layout.size <= length);
        let layout = layout.filter(|_| memory.cast::<Header>().is_aligned()).ok_or(Refusal::TooLarge)?;
        let map = Map { memory, layout, evicts, seed, spin: SpinBudget::default() };
        map.header().bytes.store(bytes, Relaxed);
        map.header().evicts.store(u64::from(evicts), Relaxed);
        map.header().seed.store(seed, Relaxed);
        map.header().magic.store(MAGIC, Release);
        Ok(map)
    }

    /// A map that another process made in `length` bytes.
    ///
    /// # Errors
    /// `Corrupt` if there is none.
    ///
    /// # Safety
    /// As for `create`.
    pub unsafe fn attach(memory: NonNull<u8>, length: usize) -> Result<Self, Refusal> {
        if length < size_of::<Header>() || !memory.cast::<Header>().is_aligned() {
            return Err(Refusal::Corrupt);
        }
        // SAFETY: mapped, long enough, aligned; any bytes are a `Header`.
        let header = unsafe { memory.cast::<Header>().as_ref() };
        let evicts = header.evicts.load(Relaxed) != 0;
        let layout = Layout::for_bytes(header.bytes.load(Relaxed), evicts);
        match layout.filter(|layout| layout.size <= length) {
            Some(layout) if header.magic.load(Acquire) == MAGIC => {
                let seed = header.seed.load(Relaxed);
                Ok(Map { memory, layout, evicts, seed, spin: SpinBudget::default() })
            }
            _ => Err(Refusal::Corrupt),
        }
    }

    /// Puts a map for `bytes` in order that no process uses. What the dead held is seen to by the next to enter.
    ///
    /// # Errors
    /// `Corrupt` if there is none.
    ///
    /// # Safety
    /// As for `create`.
    pub unsafe fn recover(
        memory: NonNull<u8>,
        length: usize,
        bytes: u64,
        evicts: bool,
    ) -> Result<(), Refusal> {
        // SAFETY: the caller's promise.
        let map = unsafe { Self::attach(memory, length)? };
        if (map.bytes(), map.evicts()) != (bytes, evicts) {
            return Err(Refusal::Corrupt);
        }
        [&map.header().lock, &map.header().marking].into_iter().for_each(Lock::recover);
        (0..MARKS).for_each(|index| map.mark(index).recover());
        (0..map.shards()).for_each(|index| map.shard(index).lock.recover());
        Ok(())
    }

    /// Where it is.
    pub fn memory(&self) -> NonNull<u8> {
        self.memory
    }

    /// How many bytes of entries it was made for.
    pub fn bytes(&self) -> u64 {
        self.layout.bytes
    }

    /// Whether it drops entries to make room.
    pub fn evicts(&self) -> bool {
        self.evicts
    }

    /// The key of these bytes.
    #[inline]
    pub fn key<'a>(&self, class: u8, form: u8, bytes: &'a [u8]) -> Key<'a> {
        Key { hash: entry::hash(self.seed, class, bytes), class, form, bytes }
    }

    #[inline]
    pub(super) fn header(&self) -> &Header {
        // SAFETY: the memory begins with it.
        unsafe { self.memory.cast::<Header>().as_ref() }
    }

    /// The `index`-th of the `T` that begin at `start`.
    ///
    /// # Safety
    /// There are as many, and any bytes are a `T`.
    #[inline]
    unsafe fn nth<T>(&self, start: usize, index: usize) -> &T {
        // SAFETY: inside the memory, as the caller promises; the layout aligns each part.
        unsafe { self.memory.add(start).cast::<T>().add(index).as_ref() }
    }

    #[inline]
    pub(super) fn cell(&self, index: u32) -> &Cell {
        // SAFETY: the remainder is below the number there are.
        unsafe { self.nth(self.layout.cells_at, index as usize % CELLS) }
    }

    pub(super) fn mark(&self, index: usize) -> &Mark {
        // SAFETY: the remainder is below the number there are.
        unsafe { self.nth(self.layout.marks_at, index % MARKS) }
    }

    pub(super) fn shards(&self) -> u32 {
        self.layout.shards
    }

    #[inline]
    pub(super) fn shard_of(&self, hash: u64) -> u32 {
        (hash >> 58) as u32 & (self.layout.shards - 1)
    }

    #[inline]
    pub(super) fn shard(&self, index: u32) -> &Shard {
        // SAFETY: the remainder is below the number there are.
        unsafe { self.nth(self.layout.shards_at, (index & (self.layout.shards - 1)) as usize) }
    }

    /// Which bucket of a shard is the first one for a hash.
    #[inline]
    pub(super) fn home(&self, hash: u32) -> u32 {
        ((u64::from(hash) * u64::from(self.layout.buckets)) >> 32) as u32
    }

    /// The first bucket for a hash in a shard.
    #[inline]
    pub(super) fn bucket(&self, shard: u32, hash: u32) -> &Bucket {
        self.nth_bucket(shard, self.home(hash))
    }

    /// `index` is below the number of buckets in a shard.
    #[inline]
    pub(super) fn nth_bucket(&self, shard: u32, index: u32) -> &Bucket {
        let index = u64::from(shard) * u64::from(self.layout.buckets) + u64::from(index);
        // SAFETY: shard and index are below the numbers there are.
        unsafe { self.nth(self.layout.buckets_at, index as usize) }
    }

    pub(super) fn buckets_of_a_block(&self) -> u32 {
        self.layout.block / size_of::<Bucket>() as u32
    }

    /// The bucket with that number, which is in a block.
    #[inline]
    pub(super) fn bucket_in_block(&self, number: u64) -> Option<&Bucket> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        let there = self.layout.blocks as usize * self.buckets_of_a_block() as usize;
        // SAFETY: the blocks hold so many.
        (index < there).then(|| unsafe { self.nth(self.layout.blocks_at, index) })
    }

    /// Where the hash of a dropped entry is remembered.
    pub(super) fn ghost(&self, shard: u32, hash: u32) -> Option<&AtomicU32> {
        let ghosts = u64::from(self.layout.ghosts);
        let index = u64::from(shard) * ghosts + ((u64::from(hash) * ghosts) >> 32);
        // SAFETY: shard and remainder are below the numbers there are.
        (ghosts > 0).then(|| unsafe { self.nth(self.layout.ghosts_at, index as usize) })
    }

    #[inline]
    pub(super) fn block(&self, index: u32) -> Result<&Block, Refusal> {
        if index >= self.layout.blocks {
            return Err(Refusal::Corrupt);
        }
        // SAFETY: there are so many.
        Ok(unsafe { self.nth(self.layout.table_at, index as usize) })
    }

    /// The memory at a place that has at least one byte before its block's end.
    #[inline]
    pub(super) fn bytes_at(&self, place: Place) -> Option<*mut u8> {
        if place.block >= self.layout.blocks || place.offset >= self.layout.block {
            return None;
        }
        let offset = place.block as usize * self.layout.block as usize + place.offset as usize;
        // SAFETY: inside the memory.
        Some(unsafe { self.memory.as_ptr().add(self.layout.blocks_at + offset) })
    }

    /// Takes a lock that is held for short times only.
    pub(super) fn take<K: Kernel>(&self, kernel: &K, lock: &Lock, patience: Patience) -> Result<(), Refusal> {
        if lock.try_lock(kernel) || self.spin.run(LONG_PAUSE, || lock.try_lock(kernel)) {
            return Ok(());
        }
        match patience {
            Patience::Hasty => Err(Refusal::Busy),
            Patience::Patient => match lock.lock(kernel, None) {
                Outcome::Acquired => Ok(()),
                _ => Err(Refusal::Interrupted),
            },
        }
    }

    /// Takes the lock of a shard.
    ///
    /// # Errors
    /// `Busy` or `Interrupted`.
    #[inline]
    pub(super) fn enter<'m, K: Kernel>(
        &'m self,
        kernel: &'m K,
        index: u32,
        patience: Patience,
    ) -> Result<Critical<'m, K>, Refusal> {
        let index = index & (self.layout.shards - 1);
        let lock = &self.shard(index).lock;
        if !lock.try_lock(kernel) {
            self.take(kernel, lock, patience)?;
        }
        let mut critical = Critical { map: self, kernel, index, patience, in_order: true };
        if lock.is_abandoned() {
            critical.in_order = false;
            critical.recover()?;
            critical.in_order = true;
        }
        Ok(critical)
    }
}

/// The writes of one change. There is one log in each shard, for the shard's own words, and one for what concerns the map's
/// free blocks. A change of the second kind may have writes to a shard too; its thread holds both locks. So a thread that
/// finds a shard's lock left by a dead holder makes the writes of both logs before it looks at the shard.
pub type Redo<'m> = crate::redo::Redo<'m, Map, REDO>;

impl Memory for Map {
    type Refusal = Refusal;
    const CORRUPT: Refusal = Refusal::Corrupt;

    fn offset_of(&self, word: &AtomicU64) -> usize {
        (&raw const *word).addr() - self.memory.addr().get()
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        debug_assert!(offset % 8 == 0 && offset < self.layout.size);
        // SAFETY: inside the memory, and aligned.
        unsafe { self.memory.add(offset).cast::<AtomicU64>().as_ref() }
    }

    fn may_be_redone(&self, offset: usize) -> bool {
        use std::mem::offset_of;
        let layout = &self.layout;
        let in_shards = (layout.shards_at..layout.ghosts_at).contains(&offset);
        let in_shard = || (offset - layout.shards_at) % size_of::<Shard>();
        offset % 8 == 0
            && ((offset_of!(Header, free)..offset_of!(Header, redo)).contains(&offset)
                || (in_shards && (offset_of!(Shard, count)..offset_of!(Shard, redo)).contains(&in_shard()))
                || (layout.buckets_at..layout.size - 7).contains(&offset))
    }
}

/// The holder of a shard's lock, until it is dropped.
pub struct Critical<'m, K: Kernel> {
    pub(super) map: &'m Map,
    pub(super) kernel: &'m K,
    pub(super) index: u32,
    pub(super) patience: Patience,
    in_order: bool,
}

impl<K: Kernel> Drop for Critical<'_, K> {
    #[inline]
    fn drop(&mut self) {
        if self.in_order {
            self.shard().lock.unlock(self.kernel);
        } else {
            self.shard().lock.release_as_dead(self.kernel);
        }
    }
}

impl<'m, K: Kernel> Critical<'m, K> {
    #[inline]
    pub(super) fn shard(&self) -> &'m Shard {
        self.map.shard(self.index)
    }

    /// Puts in order what a dead holder left.
    #[cold]
    fn recover(&self) -> Result<(), Refusal> {
        self.shard().redo.recover(self.map);
        self.with_pool(|| Ok(()))?;
        self.recount();
        self.shard().lock.make_consistent();
        Ok(())
    }

    /// Runs `action` with the lock of the free blocks.
    pub(super) fn with_pool<T>(&self, action: impl FnOnce() -> Result<T, Refusal>) -> Result<T, Refusal> {
        let header = self.map.header();
        self.map.take(self.kernel, &header.lock, self.patience)?;
        if header.lock.is_abandoned() {
            header.redo.recover(self.map);
            header.lock.make_consistent();
        }
        let result = action();
        header.lock.unlock(self.kernel);
        result
    }
}
