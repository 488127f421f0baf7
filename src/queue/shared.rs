//! A queue's memory as this process sees it, and the holder of its lock.

use super::cursor::Cursor;
use super::gate::Gate;
use super::layout::{Entry, Header, Layout, MAGIC, MEMBERS, REDO, WRITERS};
use super::members::Member;
use super::refusal::{Corrupt, Refusal};
use super::words::{List, Position};
use super::writers::Writer;
use crate::deadline::Deadline;
use crate::kernel::Kernel;
use crate::lock::{Lock, Outcome};
use crate::redo::Memory;
use crate::spin::{LONG_PAUSE, SpinBudget};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering::*};

/// A queue in memory that processes share, perhaps at different addresses.
#[derive(Debug)]
pub struct Queue {
    pub(super) memory: NonNull<u8>,
    pub(super) layout: Layout,
    /// Whether free blocks' memory may go back to the system.
    pub(super) gives_back: bool,
    pub(super) spin: SpinBudget,
    pub(super) spin_for_item: SpinBudget,
    pub(super) spin_for_memory: SpinBudget,
}

// SAFETY: the memory outlives it, as its maker promised, and is used by atomic operations, or under the queue's lock.
unsafe impl Send for Queue {}
// SAFETY: as above.
unsafe impl Sync for Queue {}

impl Queue {
    /// How much memory a queue for `bytes` takes. `None` if there can be no such queue.
    pub fn memory_for(bytes: u64) -> Option<usize> {
        Layout::for_bytes(bytes).map(|layout| layout.size)
    }

    /// Makes a queue for `bytes`, with at most `max` items if that is not 0, in `length` zeroes that nobody else knows
    /// yet. If `gives_back`, free memory goes back to the system.
    ///
    /// # Errors
    /// `TooLarge` if the memory is too short for it, or not aligned to 64 bytes.
    ///
    /// # Safety
    /// The memory is mapped, readable and writable, as long as the queue is used.
    pub unsafe fn create(
        memory: NonNull<u8>,
        length: usize,
        bytes: u64,
        max: u64,
        gives_back: bool,
    ) -> Result<Self, Refusal> {
        let layout = Layout::for_bytes(bytes).filter(|layout| layout.size <= length);
        let layout = layout.filter(|_| memory.cast::<Header>().is_aligned()).ok_or(Refusal::TooLarge)?;
        let queue = Queue {
            memory,
            layout,
            gives_back,
            spin: SpinBudget::default(),
            spin_for_item: SpinBudget::default(),
            spin_for_memory: SpinBudget::default(),
        };
        queue.header().bytes.store(bytes, Relaxed);
        queue.header().max.store(max, Relaxed);
        queue.header().magic.store(MAGIC, Release);
        Ok(queue)
    }

    /// A queue that another process made in `length` bytes.
    ///
    /// # Errors
    /// `Corrupt` if there is none.
    ///
    /// # Safety
    /// As for `create`.
    pub unsafe fn attach(memory: NonNull<u8>, length: usize, gives_back: bool) -> Result<Self, Refusal> {
        if length < size_of::<Header>() || !memory.cast::<Header>().is_aligned() {
            return Err(Corrupt);
        }
        // SAFETY: mapped, long enough, aligned; any bytes are a `Header`.
        let header = unsafe { memory.cast::<Header>().as_ref() };
        let layout = Layout::for_bytes(header.bytes.load(Relaxed)).filter(|layout| layout.size <= length);
        match layout {
            Some(layout) if header.magic.load(Acquire) == MAGIC => Ok(Queue {
                memory,
                layout,
                gives_back,
                spin: SpinBudget::default(),
                spin_for_item: SpinBudget::default(),
                spin_for_memory: SpinBudget::default(),
            }),
            _ => Err(Corrupt),
        }
    }

    /// Puts a queue for `bytes` in order that no process uses. Those that used it are dead: what they held is seen to by the
    /// next to enter.
    ///
    /// # Errors
    /// `Corrupt` if there is none.
    ///
    /// # Safety
    /// As for `create`.
    pub unsafe fn recover(memory: NonNull<u8>, length: usize, bytes: u64) -> Result<(), Refusal> {
        // SAFETY: the caller's promise.
        let queue = unsafe { Self::attach(memory, length, false)? };
        if queue.bytes() != bytes {
            return Err(Corrupt);
        }
        let header = queue.header();
        [&header.lock, &header.trimmer].into_iter().for_each(Lock::recover);
        [&header.items, &header.room].into_iter().for_each(Gate::recover);
        (0..MEMBERS).for_each(|index| queue.member(index).holder.recover());
        (0..WRITERS).for_each(|index| queue.writer(index).holder.recover());
        Ok(())
    }

    /// Where it is.
    pub fn memory(&self) -> NonNull<u8> {
        self.memory
    }

    /// How many bytes it is for: those of the largest item.
    pub fn bytes(&self) -> u64 {
        self.layout.bytes
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

    /// `index` is below `MEMBERS`.
    #[inline]
    pub(super) fn member(&self, index: u32) -> &Member {
        // SAFETY: the remainder is below the number there are.
        unsafe { self.nth(self.layout.members_at, (index % MEMBERS) as usize) }
    }

    pub(super) fn is_member(&self, index: u32) -> bool {
        index < MEMBERS
    }

    /// `index` is below `WRITERS`.
    pub(super) fn writer(&self, index: u32) -> &Writer {
        // SAFETY: the remainder is below the number there are.
        unsafe { self.nth(self.layout.writers_at, (index % WRITERS) as usize) }
    }

    /// A change of several words that has no writes yet.
    pub(super) fn redo(&self) -> Redo<'_> {
        Redo::new(self, &self.header().redo)
    }

    /// The link word of a block.
    #[inline]
    pub(super) fn link(&self, block: u32) -> Result<&AtomicU64, Refusal> {
        if block >= self.layout.blocks {
            return Err(Corrupt);
        }
        // SAFETY: there is one for each block.
        Ok(unsafe { self.nth(self.layout.links_at, block as usize) })
    }

    pub(super) fn entry(&self, index: u32) -> Result<&Entry, Refusal> {
        if index >= self.layout.entries {
            return Err(Corrupt);
        }
        // SAFETY: there are so many.
        Ok(unsafe { self.nth(self.layout.entries_at, index as usize) })
    }

    /// A list, of blocks or entries, from a word of the memory: with no more elements than there are.
    #[inline]
    pub(super) fn list(&self, word: u64) -> List {
        let list = List::unpack(word);
        List { count: list.count.min(self.layout.blocks.max(self.layout.entries)), ..list }
    }

    /// The memory at a place that has at least one byte before its block's end.
    #[inline]
    pub(super) fn bytes_at(&self, place: Cursor) -> Result<*mut u8, Refusal> {
        if place.block >= self.layout.blocks || place.offset >= self.layout.block {
            return Err(Corrupt);
        }
        let offset = place.block as usize * self.layout.block as usize + place.offset as usize;
        // SAFETY: inside the memory.
        Ok(unsafe { self.memory.as_ptr().add(self.layout.blocks_at + offset) })
    }

    /// Whether there is an item, at a glance, without the lock.
    pub(super) fn seems_to_have_items(&self) -> bool {
        let ordinal = |word: &AtomicU64| Position::unpack(word.load(Relaxed)).ordinal;
        let header = self.header();
        ordinal(&header.head) != ordinal(&header.tail) || self.list(header.returned.load(Relaxed)).count > 0
    }

    /// How many items there seem to be, without the lock.
    pub fn size_at_a_glance(&self) -> usize {
        let ordinal = |word: &AtomicU64| Position::unpack(word.load(Relaxed)).ordinal;
        let header = self.header();
        let logged = super::words::distance(ordinal(&header.head), ordinal(&header.tail));
        logged as usize + self.list(header.returned.load(Relaxed)).count as usize
    }

    /// Takes the queue's lock if it comes free soon.
    #[inline]
    pub fn try_enter<'q, K: Kernel>(&'q self, kernel: &'q K) -> Option<Critical<'q, K>> {
        let lock = &self.header().lock;
        (lock.try_lock(kernel) || self.spin.run(LONG_PAUSE, || lock.try_lock(kernel)))
            .then(|| self.entered(kernel))
    }

    /// Takes the queue's lock.
    ///
    /// # Errors
    /// `TimedOut` or `Interrupted`: the holder has been stopped, or waits for a processor.
    #[inline]
    pub fn enter<'q, K: Kernel>(
        &'q self,
        kernel: &'q K,
        deadline: Option<Deadline>,
    ) -> Result<Critical<'q, K>, Outcome> {
        if let Some(critical) = self.try_enter(kernel) {
            return Ok(critical);
        }
        match self.header().lock.lock(kernel, deadline) {
            Outcome::Acquired => Ok(self.entered(kernel)),
            outcome => Err(outcome),
        }
    }

    #[inline]
    fn entered<'q, K: Kernel>(&'q self, kernel: &'q K) -> Critical<'q, K> {
        let critical = Critical { queue: self, kernel };
        if self.header().lock.is_abandoned() {
            critical.recover();
        }
        critical
    }
}

/// The writes of one operation.
pub type Redo<'q> = crate::redo::Redo<'q, Queue, REDO>;

impl Memory for Queue {
    type Refusal = Refusal;
    const CORRUPT: Refusal = Corrupt;

    fn offset_of(&self, word: &AtomicU64) -> usize {
        (&raw const *word).addr() - self.memory.addr().get()
    }

    #[inline]
    fn word(&self, offset: usize) -> &AtomicU64 {
        debug_assert!(offset % 8 == 0 && offset < self.layout.blocks_at);
        // SAFETY: inside the memory, and aligned.
        unsafe { self.memory.add(offset).cast::<AtomicU64>().as_ref() }
    }

    fn may_be_redone(&self, offset: usize) -> bool {
        use std::mem::offset_of;
        let layout = &self.layout;
        let writers = layout.writers_at..layout.links_at;
        let in_writer = || (offset - layout.writers_at) % size_of::<Writer>() >= offset_of!(Writer, blocks);
        offset % 8 == 0
            && ((offset_of!(Header, head)..offset_of!(Header, magic)).contains(&offset)
                || (offset_of!(Header, dirty)..offset_of!(Header, redo)).contains(&offset)
                || (writers.contains(&offset) && in_writer())
                || (layout.links_at..layout.blocks_at).contains(&offset))
    }
}

/// The holder of the queue's lock, until it is dropped.
pub struct Critical<'q, K: Kernel> {
    pub(super) queue: &'q Queue,
    pub(super) kernel: &'q K,
}

impl<K: Kernel> Drop for Critical<'_, K> {
    #[inline]
    fn drop(&mut self) {
        self.lock().unlock(self.kernel);
    }
}

impl<K: Kernel> Critical<'_, K> {
    #[inline]
    pub(super) fn header(&self) -> &Header {
        self.queue.header()
    }

    fn lock(&self) -> &Lock {
        &self.header().lock
    }

    #[cold]
    fn recover(&self) {
        self.queue.header().redo.recover(self.queue);
        if self.is_closed() {
            self.wake_all();
        }
        self.lock().make_consistent();
    }

    /// Makes a change that gives takers something.
    #[inline]
    pub(super) fn signal_item(&self, commit: impl FnOnce()) {
        self.header().items.signal(self.kernel, commit, || true);
    }

    /// Makes a change that gives pushers room, or could.
    #[inline]
    pub(super) fn signal_room(&self, commit: impl FnOnce()) {
        self.header().room.signal(self.kernel, commit, || self.has_room_wanted());
    }

    fn has_room_wanted(&self) -> bool {
        self.is_closed() || self.free_blocks() >= self.header().wanted.load(Relaxed) && !self.has_max(0)
    }

    /// Wakes whoever waits, at both gates.
    pub(super) fn wake_all(&self) {
        let gates: [&Gate; 2] = [&self.header().items, &self.header().room];
        gates.into_iter().for_each(|gate| gate.signal(self.kernel, || {}, || true));
    }
}
