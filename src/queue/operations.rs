//! What can be done with a queue. All of it comes in two forms: for the holder of the lock, without any waiting, and for
//! those that wait.

use super::gate::Look;
use super::in_flight::Taken;
use super::log::Payload;
use super::refusal::Refusal;
use super::shared::{Critical, Queue};
use super::writers::Reservation;
use crate::deadline::Deadline;
use crate::kernel::Kernel;
use crate::lock::Outcome;
use crate::spin::PAUSE;
use crate::word::Word;
use std::sync::atomic::{Ordering::*, compiler_fence};

/// What became of an item to be pushed.
#[derive(Debug)]
#[must_use]
pub enum Pushed {
    /// It is in the queue.
    Done,
    /// It is large, and there is room for it: to be written, and then published.
    Reserved(Reservation),
}

/// An item that was taken for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Popped {
    pub tag: u32,
    /// How often it has been taken, this time included.
    pub deliveries: u32,
}

impl<K: Kernel> Critical<'_, K> {
    /// Adds an item, or reserves room for a large one.
    ///
    /// # Errors
    /// `Full`, `Closed`, `TooLarge`.
    #[inline]
    pub fn push(&self, tag: u32, bytes: &[u8]) -> Result<Pushed, Refusal> {
        self.may_push(false, 1)?;
        self.push_anyway(tag, bytes)
    }

    #[inline]
    fn push_anyway(&self, tag: u32, bytes: &[u8]) -> Result<Pushed, Refusal> {
        if bytes.len() > self.queue.largest_small() {
            return self.push_large(tag, bytes.len() as u64);
        }
        let item = [(tag, bytes)];
        match self.append(&item)? || (self.make_room()? && self.append(&item)?) {
            true => Ok(Pushed::Done),
            false => Err(Refusal::Full),
        }
    }

    #[cold]
    fn push_large(&self, tag: u32, length: u64) -> Result<Pushed, Refusal> {
        if length > self.queue.layout.bytes {
            return Err(Refusal::TooLarge);
        }
        match self.reserve(tag, length) {
            Err(Refusal::Full) if self.make_room()? => self.reserve(tag, length),
            reserved => reserved,
        }
        .map(Pushed::Reserved)
    }

    /// Adds small items, all in one step if there is room for all; else as many as there is room for. Returns how many.
    /// Stops before an item that is large.
    ///
    /// # Errors
    /// `Full` if there is room for none, `Closed`.
    pub fn push_all(&self, items: &[(u32, &[u8])]) -> Result<usize, Refusal> {
        self.may_push(false, 1)?;
        self.push_all_anyway(items)
    }

    fn push_all_anyway(&self, items: &[(u32, &[u8])]) -> Result<usize, Refusal> {
        let small = items.iter().take_while(|(_, bytes)| bytes.len() <= self.queue.largest_small()).count();
        let mut count = small.min(self.allowed());
        if count == 0 {
            return Ok(0);
        }
        while !self.append(&items[..count])? {
            if count == 1 {
                return if self.make_room()? && self.append(&items[..1])? {
                    Ok(1)
                } else {
                    Err(Refusal::Full)
                };
            }
            count /= 2;
        }
        Ok(count)
    }

    /// Adds a large item whose bytes have been written.
    ///
    /// # Errors
    /// `Closed`: the room has been given back. `NotHeld` if it is not this thread's, or not all bytes were written.
    pub fn publish(&self, reservation: Reservation) -> Result<(), Refusal> {
        if self.is_closed() {
            self.give_up(&reservation)?;
            return Err(Refusal::Closed);
        }
        self.publish_reserved(&reservation)
    }

    /// Gives the room for a large item back.
    ///
    /// # Errors
    /// `NotHeld` if it is not this thread's.
    pub fn abandon(&self, reservation: Reservation) -> Result<(), Refusal> {
        self.give_up(&reservation)
    }

    fn may_push(&self, in_line: bool, items: usize) -> Result<(), Refusal> {
        let header = self.header();
        if self.is_closed() {
            return Err(Refusal::Closed);
        }
        if self.has_max(items - 1) {
            self.reap_reserved()?;
        }
        if self.has_max(items - 1) || !self.can_count(items) {
            return Err(Refusal::Full);
        }
        // One that needs much room must not wait for ever because those that need little take it.
        if !in_line && header.room.is_waited_at::<K>() { Err(Refusal::Full) } else { Ok(()) }
    }

    /// Large items that are being copied count; those of dead writers end here.
    fn reap_reserved(&self) -> Result<(), Refusal> {
        if self.header().reserved.load(Relaxed) > 0 {
            self.reap_writers()?;
        }
        Ok(())
    }

    /// Whether there are as many items as there may be, or would be with so many more.
    pub(super) fn has_max(&self, more: usize) -> bool {
        let max = self.header().max.load(Relaxed);
        max != 0 && self.counted().saturating_add(more as u64) >= max
    }

    fn counted(&self) -> u64 {
        (self.size() as u64).saturating_add(self.header().reserved.load(Relaxed))
    }

    fn allowed(&self) -> usize {
        match self.header().max.load(Relaxed) {
            0 => super::words::COUNTS as usize - 1 - self.logged() as usize,
            max => max.saturating_sub(self.counted()) as usize,
        }
    }

    /// Room from dead writers, and from blocks that few small items in flight need. False if there is none to be had.
    #[cold]
    fn make_room(&self) -> Result<bool, Refusal> {
        let freed = self.reap_writers()? | self.recover_trimming()?;
        Ok(self.gather()? || freed)
    }

    /// Takes the first item for good; its bytes are appended to `buffer`.
    ///
    /// # Errors
    /// `Empty`, `Closed`; `NeedsMember` for a large item, which is to be taken, read, and finished.
    #[inline]
    pub fn pop(&self, buffer: &mut Vec<u8>) -> Result<Popped, Refusal> {
        self.reap_some_members()?;
        let returned = self.queue.list(self.header().returned.load(Relaxed));
        if returned.count > 0 {
            let (tag, deliveries) = self.pop_returned(returned, buffer)?;
            return Ok(Popped { tag, deliveries });
        }
        let Some(record) = self.front()? else {
            return self.when_empty(|critical| critical.pop(buffer));
        };
        let Payload::Small(mut cursor) = record.payload else { return Err(Refusal::NeedsMember) };
        cursor.read_into(self.queue, buffer, record.length as usize)?;
        match self.step_over(&record) {
            Some(head) => {
                compiler_fence(SeqCst);
                self.signal_room(|| self.header().head.store(head, Release));
            }
            None => {
                let mut redo = self.queue.redo();
                self.advance(&mut redo, &record)?;
                self.signal_room(|| redo.commit());
            }
        }
        Ok(Popped { tag: record.tag, deliveries: 1 })
    }

    /// Takes the first item for a time: it is in flight until it is finished or put back, or the member dies. The bytes of a
    /// small one are appended to `buffer`; those of a large one are to be read.
    ///
    /// # Errors
    /// `Empty`, `Closed`, `TooMany`.
    pub fn take(&self, member: u32, buffer: &mut Vec<u8>) -> Result<Taken, Refusal> {
        self.reap_some_members()?;
        match self.take_first(member, buffer) {
            Err(Refusal::Empty) => self.when_empty(|critical| critical.take_first(member, buffer)),
            taken => taken,
        }
    }

    /// Removes the first item.
    fn discard_first(&self) -> Result<(), Refusal> {
        let returned = self.queue.list(self.header().returned.load(Relaxed));
        if returned.count > 0 { self.discard_returned(returned) } else { self.discard_logged() }
    }

    /// Looks at all members, which may be dead, and takes what comes back by `take`.
    #[cold]
    fn when_empty<T>(&self, take: impl FnOnce(&Self) -> Result<T, Refusal>) -> Result<T, Refusal> {
        self.reap_members()?;
        match self.queue.list(self.header().returned.load(Relaxed)).count {
            0 if self.is_closed() => Err(Refusal::Closed),
            0 => Err(Refusal::Empty),
            _ => take(self),
        }
    }

    /// The item in flight is done.
    ///
    /// # Errors
    /// `NotHeld` if it is not in flight for its member any more.
    pub fn finish(&self, taken: &Taken) -> Result<(), Refusal> {
        self.finish_taken(taken)
    }

    /// The item in flight goes back, before all that were not taken yet.
    ///
    /// # Errors
    /// `NotHeld` if it is not in flight for its member any more.
    pub fn put_back(&self, taken: &Taken) -> Result<(), Refusal> {
        self.put_back_taken(taken)
    }

    /// The item in flight goes back as if it had not been taken: the taker never saw it.
    ///
    /// # Errors
    /// `NotHeld` if it is not in flight for its member any more.
    pub fn give_back(&self, taken: &Taken) -> Result<(), Refusal> {
        self.give_back_taken(taken)
    }

    /// Whether there is something to take, and takes nothing.
    ///
    /// # Errors
    /// `Empty`, `Closed`.
    pub fn has_item(&self) -> Result<(), Refusal> {
        if self.size() > 0 { Ok(()) } else { self.when_empty(|_| Ok(())) }
    }

    /// No more items: for everybody, for ever.
    pub fn close(&self) {
        self.signal_item(|| self.header().closed.store(1, Release));
        self.wake_all();
    }

    #[inline]
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }

    /// How many items can be taken.
    #[inline]
    pub fn size(&self) -> usize {
        let returned = self.queue.list(self.header().returned.load(Relaxed)).count;
        self.logged() as usize + returned as usize
    }

    /// Sets how many items there may be; 0: any number.
    pub fn set_max(&self, max: u64) {
        self.signal_room(|| self.header().max.store(max, Relaxed));
    }
}

impl Queue {
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.header().closed.load(Acquire) != 0
    }

    /// The most items there may be, or 0.
    pub fn max(&self) -> u64 {
        self.header().max.load(Relaxed)
    }

    /// Adds an item, as soon as there is room: waits until then. A large one is copied without the lock.
    ///
    /// # Errors
    /// `Err(Ok(refusal))`: `Closed`, `TooLarge`. `Err(Err(outcome))`: `TimedOut` or `Interrupted`, and nothing was added.
    pub fn push<K: Kernel>(
        &self,
        kernel: &K,
        tag: u32,
        bytes: &[u8],
        deadline: Option<Deadline>,
    ) -> Result<(), Result<Refusal, Outcome>> {
        let first = self.enter(kernel, deadline).map_err(Err)?.push(tag, bytes);
        let pushed = match first {
            Err(Refusal::Full) => {
                let wanted = self.wanted(bytes.len() as u64);
                self.await_room(kernel, deadline, wanted, |critical| critical.push_anyway(tag, bytes))
            }
            pushed => pushed.map_err(Ok),
        }?;
        match pushed {
            Pushed::Done => {
                if self.should_fetch() {
                    self.fetch(kernel);
                }
                Ok(())
            }
            Pushed::Reserved(reservation) => self.complete(kernel, reservation, bytes).map_err(Ok),
        }
    }

    /// Writes a large item into the room that the calling thread has reserved for it, and adds it.
    ///
    /// # Errors
    /// `Closed`: the room has been given back.
    pub fn complete<K: Kernel>(
        &self,
        kernel: &K,
        mut reservation: Reservation,
        bytes: &[u8],
    ) -> Result<(), Refusal> {
        let written = self.write(&mut reservation, bytes);
        let critical = self.enter_anyway(kernel);
        match written {
            Ok(()) => critical.publish(reservation),
            Err(refusal) => critical.abandon(reservation).and(Err(refusal)),
        }
    }

    /// Takes the first item for good as soon as there is one: waits until then. For a large one, `member` says which
    /// this process is; see `Participant`.
    ///
    /// # Errors
    /// As `push`; `Closed` when the queue is closed and empty, `NeedsMember`.
    pub fn pop<K: Kernel>(
        &self,
        kernel: &K,
        member: Option<u32>,
        buffer: &mut Vec<u8>,
        deadline: Option<Deadline>,
    ) -> Result<Popped, Result<Refusal, Outcome>> {
        let mut popped = self.enter(kernel, deadline).map_err(Err)?.pop(buffer).map_err(Ok);
        if popped == Err(Ok(Refusal::Empty)) {
            popped = self.await_item(kernel, deadline, |critical| critical.pop(buffer));
        }
        if self.should_trim() {
            self.trim(kernel).map_err(Ok)?;
        }
        match (popped, member) {
            (Err(Ok(Refusal::NeedsMember)), Some(member)) => {
                let taken = self.take(kernel, member, buffer, deadline)?;
                self.finish(kernel, &taken).map_err(Ok)?;
                Ok(Popped { tag: taken.tag, deliveries: taken.deliveries })
            }
            (popped, _) => popped,
        }
    }

    /// Takes the first item for a time, as soon as there is one. Its bytes are appended to `buffer`.
    ///
    /// # Errors
    /// As `pop`.
    pub fn take<K: Kernel>(
        &self,
        kernel: &K,
        member: u32,
        buffer: &mut Vec<u8>,
        deadline: Option<Deadline>,
    ) -> Result<Taken, Result<Refusal, Outcome>> {
        let taken = self.take_unread(kernel, member, buffer, deadline)?;
        let copied = if taken.is_large { self.read_into(&taken, buffer) } else { Ok(()) };
        if let Err(refusal) = copied {
            self.enter_anyway(kernel).put_back(&taken).map_err(Ok)?;
            return Err(Ok(refusal));
        }
        Ok(taken)
    }

    /// As `take`, but the bytes of a large item are left to `read`.
    ///
    /// # Errors
    /// As `pop`.
    pub fn take_unread<K: Kernel>(
        &self,
        kernel: &K,
        member: u32,
        buffer: &mut Vec<u8>,
        deadline: Option<Deadline>,
    ) -> Result<Taken, Result<Refusal, Outcome>> {
        let taken = self.enter(kernel, deadline).map_err(Err)?.take(member, buffer);
        if taken == Err(Refusal::Empty) {
            return self.await_item(kernel, deadline, |critical| critical.take(member, buffer));
        }
        taken.map_err(Ok)
    }

    /// Appends the bytes of a large item in flight to `buffer`.
    fn read_into(&self, taken: &Taken, buffer: &mut Vec<u8>) -> Result<(), Refusal> {
        let (filled, length) = (buffer.len(), taken.length as usize);
        buffer.try_reserve(length).map_err(|_| Refusal::TooLarge)?;
        // SAFETY: the room has been reserved, and is written before it is counted.
        unsafe {
            self.read(taken, buffer.as_mut_ptr().add(filled))?;
            buffer.set_len(filled + length);
        }
        Ok(())
    }

    /// The item in flight is done.
    ///
    /// # Errors
    /// `NotHeld`.
    pub fn finish<K: Kernel>(&self, kernel: &K, taken: &Taken) -> Result<(), Refusal> {
        self.enter_anyway(kernel).finish(taken)?;
        if self.should_trim() { self.trim(kernel) } else { Ok(()) }
    }

    /// The item in flight goes back.
    ///
    /// # Errors
    /// `NotHeld`.
    pub fn put_back<K: Kernel>(&self, kernel: &K, taken: &Taken) -> Result<(), Refusal> {
        self.enter_anyway(kernel).put_back(taken)
    }

    /// Removes what can be taken now. Large items that another process is copying out are not affected.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn clear<K: Kernel>(&self, kernel: &K) -> Result<(), Refusal> {
        const BATCH: usize = 1000;
        let mut left = self.enter_anyway(kernel).size();
        while left > 0 {
            let critical = self.enter_anyway(kernel);
            for _ in 0..BATCH.min(left) {
                match critical.discard_first() {
                    Ok(()) => left -= 1,
                    Err(Refusal::Empty) => left = 0,
                    Err(refusal) => return Err(refusal),
                }
                if left == 0 {
                    break;
                }
            }
        }
        if self.should_trim() { self.trim(kernel) } else { Ok(()) }
    }

    /// Takes the lock, whatever it takes: to end what has been begun.
    pub(super) fn enter_anyway<'q, K: Kernel>(&'q self, kernel: &'q K) -> Critical<'q, K> {
        loop {
            if let Ok(critical) = self.enter(kernel, None) {
                return critical;
            }
        }
    }

    /// How many blocks a push of so many bytes may need.
    fn wanted(&self, length: u64) -> u32 {
        match self.blocks_for(length) {
            Ok(count) if length as usize > self.largest_small() => count + 1,
            _ => 1,
        }
    }

    /// Waits at the gate for room until `push` does not say `Full`.
    ///
    /// # Errors
    /// As `push`.
    pub fn await_room<K: Kernel, T>(
        &self,
        kernel: &K,
        deadline: Option<Deadline>,
        wanted: u32,
        mut push: impl FnMut(&Critical<K>) -> Result<T, Refusal>,
    ) -> Result<T, Result<Refusal, Outcome>> {
        let gate = &self.header().room;
        let look = || {
            let critical = self.enter(kernel, deadline)?;
            match critical.may_push(true, 1).and_then(|()| push(&critical)) {
                Err(Refusal::Full) => {
                    self.header().wanted.store(wanted, Relaxed);
                    gate.arm();
                    Ok(Look::Armed)
                }
                result => Ok(Look::Found(result)),
            }
        };
        let sleep = |word: &Word, expected| {
            kernel.wait_for_any_or_recheck(word, expected, self.watched_writers(), deadline)
        };
        gate.wait(kernel, deadline, look, sleep).map_err(Err)?.map_err(Ok)
    }

    /// Waits at the gate for an item until `take` does not say `Empty`.
    ///
    /// # Errors
    /// As `pop`.
    pub fn await_item<K: Kernel, T>(
        &self,
        kernel: &K,
        deadline: Option<Deadline>,
        mut take: impl FnMut(&Critical<K>) -> Result<T, Refusal>,
    ) -> Result<T, Result<Refusal, Outcome>> {
        let gate = &self.header().items;
        if !gate.is_waited_at::<K>() && self.spin_for_item.run(PAUSE, || self.seems_to_have_items()) {
            match take(&self.enter(kernel, deadline).map_err(Err)?) {
                Err(Refusal::Empty) => {}
                result => return result.map_err(Ok),
            }
        }
        let look = || {
            let critical = self.enter(kernel, deadline)?;
            match take(&critical) {
                Err(Refusal::Empty) => {
                    gate.arm();
                    Ok(Look::Armed)
                }
                result => Ok(Look::Found(result)),
            }
        };
        let sleep = |word: &Word, expected| {
            kernel.wait_for_any_or_recheck(word, expected, self.watched_members(), deadline)
        };
        gate.wait(kernel, deadline, look, sleep).map_err(Err)?.map_err(Ok)
    }
}
