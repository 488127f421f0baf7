//! Items that were taken and are not done: each has an entry, which says where its bytes are and whose it is.
//!
//! | an entry's state               | meaning                                                                  |
//! |--------------------------------|--------------------------------------------------------------------------|
//! | FREE                           | in the list of free entries, or never used                               |
//! | IN_FLIGHT, member, deliveries  | that process has it; taken so many times before this one                 |
//! | RETURNED, deliveries           | in the list of those that came back; taken so many times                 |
//!
//! The items that came back are taken before those of the log, in the order in which they were pushed.
//!
//! The bytes stay where they are: those of a large item are its own blocks, those of a small one are in one or two blocks of
//! the log, which are pinned. When blocks run short, `gather` moves small ones together.

use super::cursor::Cursor;
use super::layout::Entry;
use super::log::{Payload, Record};
use super::refusal::{Corrupt, Refusal};
use super::shared::Redo;
use super::short::Short;
use super::words::{List, distance};
use super::{Critical, Queue};
use crate::kernel::Kernel;
use std::sync::atomic::Ordering::Relaxed;

const FREE: u64 = 0;
const IN_FLIGHT: u64 = 1;
const RETURNED: u64 = 2;

/// An entry's state.
#[derive(Clone, Copy)]
struct State {
    kind: u64,
    member: u32,
    deliveries: u32,
}

impl State {
    #[inline]
    fn pack(self) -> u64 {
        self.kind | (u64::from(self.member) << 8) | (u64::from(self.deliveries) << 32)
    }

    #[inline]
    fn unpack(word: u64) -> Self {
        State { kind: word & 0xff, member: (word >> 8) as u32 & 0xff_ffff, deliveries: (word >> 32) as u32 }
    }
}

/// An item in flight, as its process knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    entry: u32,
    ticket: u64,
    member: u32,
    pub tag: u32,
    /// In bytes.
    pub length: u64,
    /// How often it has been taken, this time included.
    pub deliveries: u32,
    /// Whether its bytes are to be read by `Queue::read`: those of small items came with it.
    pub is_large: bool,
}

/// In the tag's upper half: the payload is a large item's.
const LARGE: u64 = 1 << 32;

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | (u64::from(high) << 32)
}

impl<K: Kernel> Critical<'_, K> {
    /// Takes the first item; the bytes of a small one are appended to `buffer`.
    pub(super) fn take_first(&self, member: u32, buffer: &mut Vec<u8>) -> Result<Taken, Refusal> {
        if !self.queue.is_member(member) {
            return Err(Refusal::NotHeld);
        }
        let returned = self.queue.list(self.header().returned.load(Relaxed));
        if returned.count > 0 {
            return self.take_returned(returned, member, buffer);
        }
        let record = self.front()?.ok_or(Refusal::Empty)?;
        self.take_record(&record, member, buffer)
    }

    fn take_returned(&self, list: List, member: u32, buffer: &mut Vec<u8>) -> Result<Taken, Refusal> {
        let entry = self.queue.entry(list.first)?;
        let before = State::unpack(entry.state.load(Relaxed));
        if before.kind != RETURNED {
            return Err(Corrupt);
        }
        self.copy_small(entry, buffer)?;
        let mut redo = self.queue.redo();
        self.unlink_first(&mut redo, list, entry)?;
        let deliveries = before.deliveries.saturating_add(1);
        redo.set(&entry.state, State { kind: IN_FLIGHT, member, deliveries }.pack())?;
        self.count_held(member, 1);
        self.signal_room(|| redo.commit());
        Ok(self.taken(list.first, entry, member, deliveries))
    }

    /// Takes the oldest item of the log, a short one in a block. `redo` has moved the head.
    #[inline]
    pub(super) fn take_from_log(
        &self,
        redo: &mut Redo,
        place: Cursor,
        short: &Short,
        member: u32,
    ) -> Option<Taken> {
        if !self.queue.is_member(member) {
            return None;
        }
        let index = self.allocate_entry(redo).ok()?;
        let entry = self.queue.entry(index).ok()?;
        self.pin_first(redo, place.block).ok()?;
        let (tag, length) = (u64::from(short.tag), short.bytes().len() as u64);
        entry.fill(self.head().ordinal, pair(place.block, place.offset), length, tag);
        self.fly(redo, entry, member).ok()?;
        Some(self.taken(index, entry, member, 1))
    }

    fn take_record(&self, record: &Record, member: u32, buffer: &mut Vec<u8>) -> Result<Taken, Refusal> {
        let mut redo = self.queue.redo();
        let index = self.allocate_entry(&mut redo)?;
        let entry = self.queue.entry(index)?;
        let tag = u64::from(record.tag);
        match record.payload {
            Payload::Small(cursor) => {
                entry.fill(record.ordinal, pair(cursor.block, cursor.offset), record.length, tag);
                self.pin_small(&mut redo, cursor, record.length)?;
                self.copy_small(entry, buffer)?;
            }
            Payload::Large(chain) => {
                entry.fill(record.ordinal, pair(chain.first, chain.last), record.length, tag | LARGE);
            }
        }
        self.advance(&mut redo, record)?;
        self.fly(&mut redo, entry, member)?;
        Ok(self.taken(index, entry, member, 1))
    }

    /// The item of `entry`, which was in the log, is in flight.
    #[inline]
    fn fly(&self, redo: &mut Redo, entry: &Entry, member: u32) -> Result<(), Refusal> {
        redo.add(&entry.state, State { kind: IN_FLIGHT, member, deliveries: 1 }.pack())?;
        self.count_held(member, 1);
        self.signal_room(|| redo.commit());
        Ok(())
    }

    #[inline]
    fn taken(&self, index: u32, entry: &Entry, member: u32, deliveries: u32) -> Taken {
        let tag = entry.tag.load(Relaxed);
        Taken {
            entry: index,
            ticket: entry.ticket.load(Relaxed),
            member,
            tag: tag as u32,
            length: entry.length.load(Relaxed),
            deliveries,
            is_large: tag & LARGE != 0,
        }
    }

    /// Takes the first of the items that came back for good.
    ///
    /// # Errors
    /// `NeedsMember` if it is large.
    pub(super) fn pop_returned(&self, list: List, buffer: &mut Vec<u8>) -> Result<(u32, u32), Refusal> {
        let entry = self.queue.entry(list.first)?;
        if entry.tag.load(Relaxed) & LARGE != 0 {
            return Err(Refusal::NeedsMember);
        }
        self.copy_small(entry, buffer)?;
        let deliveries = State::unpack(entry.state.load(Relaxed)).deliveries.saturating_add(1);
        self.discard_returned(list)?;
        Ok((entry.tag.load(Relaxed) as u32, deliveries))
    }

    /// Removes the first of the items that came back.
    pub(super) fn discard_returned(&self, list: List) -> Result<(), Refusal> {
        let entry = self.queue.entry(list.first)?;
        if State::unpack(entry.state.load(Relaxed)).kind != RETURNED {
            return Err(Corrupt);
        }
        let mut redo = self.queue.redo();
        self.unlink_first(&mut redo, list, entry)?;
        self.free_payload(&mut redo, entry)?;
        self.free_entry(&mut redo, list.first, entry)?;
        self.signal_room(|| redo.commit());
        Ok(())
    }

    fn unlink_first(&self, redo: &mut Redo, list: List, entry: &Entry) -> Result<(), Refusal> {
        let first = entry.next.load(Relaxed) as u32;
        redo.set(&self.header().returned, List { first, count: list.count - 1 }.pack())
    }

    /// The item is done: it is gone for good.
    #[inline]
    pub(super) fn finish_taken(&self, taken: &Taken) -> Result<(), Refusal> {
        let entry = self.held(taken)?;
        let mut redo = self.queue.redo();
        let is_unpinned = match self.only_block(entry) {
            Some(block) => self.unpin_first(&mut redo, block)?,
            None => false,
        };
        if !is_unpinned {
            self.free_payload(&mut redo, entry)?;
        }
        let free = &self.header().free_entries;
        let list = self.queue.list(free.load(Relaxed));
        // No list leads to an item in flight, so its link is written directly.
        entry.next.store(u64::from(list.first), Relaxed);
        redo.add(&entry.state, FREE)?;
        redo.add(free, List { first: taken.entry, count: list.count.saturating_add(1) }.pack())?;
        self.signal_room(|| redo.commit());
        self.count_held(taken.member, -1);
        Ok(())
    }

    /// The block of a small item that lies in one.
    #[inline]
    fn only_block(&self, entry: &Entry) -> Option<u32> {
        let (place, length) = (small_place(entry), entry.length.load(Relaxed));
        let is_small = entry.tag.load(Relaxed) & LARGE == 0;
        let end = u64::from(place.offset).saturating_add(length);
        (is_small && end <= u64::from(self.queue.layout.block)).then_some(place.block)
    }

    /// The item comes back, before all that were not taken.
    pub(super) fn put_back_taken(&self, taken: &Taken) -> Result<(), Refusal> {
        self.return_taken(taken, taken.deliveries)
    }

    /// The item comes back, and its being taken does not count.
    pub(super) fn give_back_taken(&self, taken: &Taken) -> Result<(), Refusal> {
        self.return_taken(taken, taken.deliveries.saturating_sub(1))
    }

    fn return_taken(&self, taken: &Taken, deliveries: u32) -> Result<(), Refusal> {
        let entry = self.held(taken)?;
        let after = self.place_in_line(entry, None)?;
        self.put_back_entry(taken.entry, entry, after, deliveries)?;
        self.count_held(taken.member, -1);
        Ok(())
    }

    #[inline]
    fn held(&self, taken: &Taken) -> Result<&Entry, Refusal> {
        let entry = self.queue.entry(taken.entry)?;
        let state = State::unpack(entry.state.load(Relaxed));
        let is_ours = state.kind == IN_FLIGHT
            && state.member == taken.member
            && entry.ticket.load(Relaxed) == taken.ticket;
        if is_ours { Ok(entry) } else { Err(Refusal::NotHeld) }
    }

    #[inline]
    fn count_held(&self, member: u32, change: i64) {
        let held = &self.queue.member(member).held;
        held.store(held.load(Relaxed).saturating_add_signed(change), Relaxed);
    }

    /// How long ago it was pushed, in items.
    fn age(&self, entry: &Entry) -> u32 {
        distance(entry.ordinal.load(Relaxed) as u32, self.head().ordinal)
    }

    /// The entry of those that came back behind which `entry` belongs; `None` for the front. Looks from `from` on.
    fn place_in_line(&self, entry: &Entry, from: Option<u32>) -> Result<Option<u32>, Refusal> {
        let list = self.queue.list(self.header().returned.load(Relaxed));
        let (mut after, mut next) = match from {
            Some(index) => (from, self.queue.entry(index)?.next.load(Relaxed) as u32),
            None => (None, list.first),
        };
        let age = self.age(entry);
        for _ in 0..list.count.min(self.queue.layout.entries) {
            match self.queue.entry(next) {
                Ok(other)
                    if self.age(other) > age && State::unpack(other.state.load(Relaxed)).kind == RETURNED =>
                {
                    (after, next) = (Some(next), other.next.load(Relaxed) as u32);
                }
                _ => break,
            }
        }
        Ok(after)
    }

    /// Puts the entry into the list of those that came back, behind `after`.
    fn put_back_entry(
        &self,
        index: u32,
        entry: &Entry,
        after: Option<u32>,
        deliveries: u32,
    ) -> Result<(), Refusal> {
        let mut redo = self.queue.redo();
        let list = self.queue.list(self.header().returned.load(Relaxed));
        let count = list.count.saturating_add(1);
        match after {
            None => {
                entry.next.store(u64::from(list.first), Relaxed);
                redo.set(&self.header().returned, List { first: index, count }.pack())?;
            }
            Some(after) => {
                let before = &self.queue.entry(after)?.next;
                entry.next.store(before.load(Relaxed), Relaxed);
                redo.set(before, u64::from(index))?;
                redo.set(&self.header().returned, List { first: list.first, count }.pack())?;
            }
        }
        redo.set(&entry.state, State { kind: RETURNED, member: 0, deliveries }.pack())?;
        self.signal_item(|| redo.commit());
        Ok(())
    }

    /// All that the member has in flight comes back.
    pub(super) fn put_back_all(&self, member: u32) -> Result<(), Refusal> {
        let mut all: Vec<(u32, u32)> = Vec::new();
        for index in 0..self.used_entries() {
            let entry = self.queue.entry(index)?;
            let state = State::unpack(entry.state.load(Relaxed));
            if state.kind == IN_FLIGHT && state.member == member {
                all.push((self.age(entry), index));
            }
        }
        // Oldest first, so that the place of each is behind that of the one before.
        all.sort_unstable_by(|one, other| other.cmp(one));
        let mut after = None;
        for (_, index) in all {
            let entry = self.queue.entry(index)?;
            after = self.place_in_line(entry, after)?;
            let deliveries = State::unpack(entry.state.load(Relaxed)).deliveries;
            self.put_back_entry(index, entry, after, deliveries)?;
            after = Some(index);
        }
        self.queue.member(member).held.store(0, Relaxed);
        Ok(())
    }

    #[inline]
    pub(super) fn used_entries(&self) -> u32 {
        self.header().used_entries.load(Relaxed).min(u64::from(self.queue.layout.entries)) as u32
    }

    #[inline]
    fn allocate_entry(&self, redo: &mut Redo) -> Result<u32, Refusal> {
        let header = self.header();
        let list = self.queue.list(header.free_entries.load(Relaxed));
        if list.count > 0 {
            let first = self.queue.entry(list.first)?.next.load(Relaxed) as u32;
            redo.add(&header.free_entries, List { first, count: list.count - 1 }.pack())?;
            return Ok(list.first);
        }
        let used = self.used_entries();
        if used == self.queue.layout.entries {
            return Err(Refusal::TooMany);
        }
        redo.add(&header.used_entries, u64::from(used) + 1)?;
        Ok(used)
    }

    #[inline]
    fn free_entry(&self, redo: &mut Redo, index: u32, entry: &Entry) -> Result<(), Refusal> {
        let free = &self.header().free_entries;
        let list = self.queue.list(redo.get(free));
        redo.set(&entry.next, u64::from(list.first))?;
        redo.set(&entry.state, FREE)?;
        redo.set(free, List { first: index, count: list.count.saturating_add(1) }.pack())
    }

    #[inline]
    pub(super) fn free_payload(&self, redo: &mut Redo, entry: &Entry) -> Result<(), Refusal> {
        let (place, length) = (entry.place.load(Relaxed), entry.length.load(Relaxed));
        if entry.tag.load(Relaxed) & LARGE != 0 {
            return self.release(redo, self.queue.chain(place, length)?);
        }
        let (first, last) = self.small_blocks(small_place(entry), length)?;
        if last != first {
            self.unpin(redo, last)?;
        }
        self.unpin(redo, first)
    }

    /// The blocks of a small item in flight, or one that came back.
    pub(super) fn pinned_blocks(&self, entry: &Entry) -> Result<Option<(u32, u32)>, Refusal> {
        let is_free = State::unpack(entry.state.load(Relaxed)).kind == FREE;
        if is_free || entry.tag.load(Relaxed) & LARGE != 0 {
            return Ok(None);
        }
        self.small_blocks(small_place(entry), entry.length.load(Relaxed)).map(Some)
    }

    fn pin_small(&self, redo: &mut Redo, cursor: Cursor, length: u64) -> Result<(), Refusal> {
        let (first, last) = self.small_blocks(cursor, length)?;
        self.pin(redo, first)?;
        if last != first { self.pin(redo, last) } else { Ok(()) }
    }

    /// The first and the last block of a small payload.
    #[inline]
    fn small_blocks(&self, cursor: Cursor, length: u64) -> Result<(u32, u32), Refusal> {
        if length > self.queue.largest_small() as u64 {
            return Err(Corrupt);
        }
        if u64::from(cursor.offset) + length <= u64::from(self.queue.layout.block) {
            return Ok((cursor.block, cursor.block));
        }
        let mut end = cursor;
        end.skip(self.queue, length as usize)?;
        Ok((cursor.block, end.block))
    }

    pub(super) fn copy_small(&self, entry: &Entry, buffer: &mut Vec<u8>) -> Result<(), Refusal> {
        if entry.tag.load(Relaxed) & LARGE != 0 {
            return Ok(());
        }
        let length = entry.length.load(Relaxed) as usize;
        if length > self.queue.largest_small() {
            return Err(Corrupt);
        }
        small_place(entry).read_into(self.queue, buffer, length)
    }

    /// How many items each process has in flight.
    pub fn in_flight(&self) -> Result<Vec<(u32, usize)>, Refusal> {
        self.reap_members()?;
        let mut counts: Vec<(u32, usize)> = Vec::new();
        for index in 0..self.used_entries() {
            let state = State::unpack(self.queue.entry(index)?.state.load(Relaxed));
            if state.kind != IN_FLIGHT || !self.queue.is_member(state.member) {
                continue;
            }
            let pid = self.queue.member(state.member).holder.pid();
            match counts.iter_mut().find(|(other, _)| *other == pid) {
                Some((_, count)) => *count += 1,
                None => counts.push((pid, 1)),
            }
        }
        Ok(counts)
    }
}

impl Entry {
    /// Says which item it is for, while it is nobody's.
    #[inline]
    fn fill(&self, ordinal: u32, place: u64, length: u64, tag: u64) {
        self.ticket.store(self.ticket.load(Relaxed).wrapping_add(1), Relaxed);
        self.ordinal.store(u64::from(ordinal), Relaxed);
        self.place.store(place, Relaxed);
        self.length.store(length, Relaxed);
        self.tag.store(tag, Relaxed);
    }
}

#[inline]
fn small_place(entry: &Entry) -> Cursor {
    let place = entry.place.load(Relaxed);
    Cursor { block: place as u32, offset: (place >> 32) as u32 }
}

impl Queue {
    /// Copies the bytes of a large item in flight to `to`. No lock is held. The item stays in flight.
    ///
    /// # Errors
    /// `NotHeld` if it is not in flight for this member.
    ///
    /// # Safety
    /// `to` has room for `taken.length` bytes.
    pub unsafe fn read(&self, taken: &Taken, to: *mut u8) -> Result<(), Refusal> {
        let entry = self.entry(taken.entry)?;
        if entry.ticket.load(Relaxed) != taken.ticket || !taken.is_large {
            return Err(Refusal::NotHeld);
        }
        let chain = self.chain(entry.place.load(Relaxed), taken.length)?;
        let mut cursor = Cursor { block: chain.first, offset: 0 };
        // SAFETY: the caller's promise.
        unsafe { cursor.read(self, to, taken.length as usize) }
    }
}
