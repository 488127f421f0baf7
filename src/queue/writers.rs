//! Large items on their way in: room is reserved under the lock, the bytes are copied without it, and then the item is added to
//! the log under the lock again. So the order of large items is that in which they were complete.
//!
//! | a writer's slot      | meaning                                                               |
//! |----------------------|-----------------------------------------------------------------------|
//! | nobody's             | free                                                                  |
//! | a thread's, no chain | it is about to reserve, or has published                              |
//! | a thread's, a chain  | it copies into those blocks                                           |
//! | a dead thread's      | its chain, if it has one, is free for whoever needs room              |
//!
//! The slot is held by the copying thread itself, not by its process: it is dead only when it can write no more.
//! The first block of the chain is not for the item: the log gets it if it needs one to say where the item is.

use super::blocks::{Chain, LEFT};
use super::cursor::Cursor;
use super::layout::WRITERS;
use super::refusal::{Corrupt, Refusal};
use super::robust::{Holder, Robust};
use super::{Critical, Queue};
use crate::kernel::Kernel;
use crate::word::Word;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A thread that copies a large item into the queue.
#[repr(C)]
pub struct Writer {
    pub holder: Robust,
    /// First and last block.
    pub blocks: AtomicU64,
    /// How many blocks, or 0: no chain.
    pub count: AtomicU64,
    _unused: u64,
}

/// Room for a large item: the calling thread's, to be written and then published or given up by it.
#[derive(Debug)]
#[must_use]
pub struct Reservation {
    slot: u32,
    tag: u32,
    length: u64,
    written: u64,
    cursor: Cursor,
}

impl Reservation {
    /// How many bytes it is for.
    pub fn length(&self) -> u64 {
        self.length
    }
}

impl<K: Kernel> Critical<'_, K> {
    /// Reserves room for an item of `length` bytes.
    pub(super) fn reserve(&self, tag: u32, length: u64) -> Result<Reservation, Refusal> {
        let (index, slot) = self.claim_writer().ok_or(Refusal::Full)?;
        let reserved = self.reserve_in(index, slot, tag, length);
        if reserved.is_err() {
            slot.holder.release(self.kernel);
        }
        reserved
    }

    fn reserve_in(&self, index: u32, slot: &Writer, tag: u32, length: u64) -> Result<Reservation, Refusal> {
        let count = self.queue.blocks_for(length)? + 1;
        let mut redo = self.queue.redo();
        let chain = self.allocate(&mut redo, count, LEFT)?.ok_or(Refusal::Full)?;
        redo.set(&slot.blocks, u64::from(chain.first) | (u64::from(chain.last) << 32))?;
        redo.set(&slot.count, u64::from(count))?;
        let reserved = &self.header().reserved;
        redo.set(reserved, reserved.load(Relaxed).wrapping_add(1))?;
        let block = self.queue.next_block(chain.first)?;
        redo.commit();
        Ok(Reservation { slot: index, tag, length, written: 0, cursor: Cursor { block, offset: 0 } })
    }

    fn claim_writer(&self) -> Option<(u32, &Writer)> {
        for index in 0..WRITERS {
            let slot = self.queue.writer(index);
            if slot.holder.holder() == Holder::Nobody {
                slot.count.store(0, Relaxed);
                slot.holder.hold(self.kernel, 0);
                let used = &self.header().writers_used;
                used.store(used.load(Relaxed).max(index + 1), Relaxed);
                return Some((index, slot));
            }
        }
        None
    }

    /// Adds the item, whose bytes have all been written, to the queue.
    pub(super) fn publish_reserved(&self, reservation: &Reservation) -> Result<(), Refusal> {
        let slot = self.queue.writer(reservation.slot);
        if reservation.written != reservation.length {
            return self.give_up(reservation).and(Err(Refusal::NotHeld));
        }
        let published = self.publish_from(slot, reservation);
        slot.holder.let_go(self.kernel);
        published
    }

    fn publish_from(&self, slot: &Writer, reservation: &Reservation) -> Result<(), Refusal> {
        if !slot.holder.is_held_by(self.kernel) {
            return Err(Refusal::NotHeld);
        }
        let header = self.header();
        let chain = self.reserved_chain(slot)?;
        let data =
            Chain { first: self.queue.next_block(chain.first)?, last: chain.last, count: chain.count - 1 };
        let mut redo = self.queue.redo();
        self.append_large(&mut redo, reservation.tag, data, reservation.length, chain.first)?;
        redo.set(&slot.count, 0)?;
        redo.set(&header.reserved, header.reserved.load(Relaxed).wrapping_sub(1))?;
        self.signal_item(|| redo.commit());
        Ok(())
    }

    /// Gives the room back.
    pub(super) fn give_up(&self, reservation: &Reservation) -> Result<(), Refusal> {
        let slot = self.queue.writer(reservation.slot);
        let is_held = slot.holder.is_held_by(self.kernel);
        let freed = if is_held { self.free_reserved(slot) } else { Err(Refusal::NotHeld) };
        slot.holder.let_go(self.kernel);
        freed
    }

    /// Gives back the room of writers that died. True if there were any.
    pub(super) fn reap_writers(&self) -> Result<bool, Refusal> {
        let mut freed = false;
        for index in 0..self.header().writers_used.load(Relaxed).min(WRITERS) {
            let slot = self.queue.writer(index);
            slot.holder.reap_if_owner_dead::<K>();
            if slot.holder.holder() == Holder::Dead {
                self.free_reserved(slot)?;
                slot.holder.bury();
                freed = true;
            }
        }
        Ok(freed)
    }

    fn free_reserved(&self, slot: &Writer) -> Result<(), Refusal> {
        if slot.count.load(Relaxed) == 0 {
            return Ok(());
        }
        let reserved = &self.header().reserved;
        let mut redo = self.queue.redo();
        self.release(&mut redo, self.reserved_chain(slot)?)?;
        redo.set(&slot.count, 0)?;
        redo.set(reserved, reserved.load(Relaxed).wrapping_sub(1))?;
        self.signal_room(|| redo.commit());
        Ok(())
    }

    fn reserved_chain(&self, slot: &Writer) -> Result<Chain, Refusal> {
        let blocks = slot.blocks.load(Relaxed);
        let (first, last) = (blocks as u32, (blocks >> 32) as u32);
        let count = slot.count.load(Relaxed) as u32;
        if first.max(last) >= self.queue.layout.blocks || count < 1 || count > self.queue.layout.blocks {
            return Err(Corrupt);
        }
        Ok(Chain { first, last, count })
    }
}

impl Queue {
    /// The words of the writers that have room reserved.
    pub(super) fn watched_writers(&self) -> impl Iterator<Item = (&Word, u32)> {
        let used = self.header().writers_used.load(Relaxed).min(WRITERS);
        (0..used).filter_map(|index| self.writer(index).holder.watched())
    }

    /// Writes the next bytes of a large item. No lock is held: others go on.
    ///
    /// # Errors
    /// `TooLarge` if there is no room reserved for so many.
    pub fn write(&self, reservation: &mut Reservation, bytes: &[u8]) -> Result<(), Refusal> {
        let written = reservation.written.saturating_add(bytes.len() as u64);
        if written > reservation.length {
            return Err(Refusal::TooLarge);
        }
        // SAFETY: the blocks are this reservation's until it is published or given up.
        unsafe { reservation.cursor.write(self, bytes)? };
        reservation.written = written;
        Ok(())
    }
}
