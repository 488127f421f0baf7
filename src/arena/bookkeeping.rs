//! Which slots of a process's own homes are in use, and which homes it has mapped. Private to the process, so no crash of
//! another one leaves it half done.
//!
//! Rules: a slot handed out before a fork is never handed out again, by either side, since the other may still use it.
//! (Only the child knows of a fork that ran no handlers. The parent may then hand out again what it drops itself.)
//! A process lets go of a home once all slots it knew of there are dropped, and what is deferred is done.
//! The slot in a file is handed out over and over: each handle of the process is one.

use super::home::{Home, Layout, PARTICIPANTS};
use super::{Deferred, Holder, Place, Slot};
use crate::error::Result;
use crate::file::File;
use crate::participants::Tally;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Slots in the first home that a process makes, and in all others: few mappings, since each makes forks slower, and
/// little address space where few objects are made.
const FIRST: usize = 4096;
const OTHERS: usize = 65536;

/// What this process knows of a home that it, or the process it was forked from, has made.
struct Chunk {
    home: Arc<Home>,
    /// This process made it, and may hand out its slots.
    own: bool,
    /// Slots from here on were never handed out.
    fresh: usize,
    /// Slots handed out and given back between the same two forks.
    free: Vec<u16>,
    /// Slots this process has handles of.
    live: usize,
}

/// Where a home of this process is.
struct Span {
    address: usize,
    size: usize,
    place: Place,
    /// The addresses of its slots that have something of the system's.
    attached: Range<usize>,
}

pub struct Bookkeeping {
    /// In the order of their addresses.
    chunks: Vec<Chunk>,
    /// The addresses of chunks that have a slot to hand out: one with something of the system's, or a bare one.
    open: [Vec<usize>; 2],
    /// In the order of their addresses.
    homes: Vec<Span>,
    deferred: Vec<Deferred>,
}

impl Bookkeeping {
    pub const fn new() -> Self {
        Bookkeeping {
            chunks: Vec::new(),
            open: [Vec::new(), Vec::new()],
            homes: Vec::new(),
            deferred: Vec::new(),
        }
    }

    /// The position of the chunk at `address`, or of the first one behind it.
    fn find(&self, address: usize) -> std::result::Result<usize, usize> {
        self.chunks.binary_search_by_key(&address, |chunk| chunk.home.span().0)
    }

    /// The chunk to hand out slots of, made if there is none.
    fn open(&mut self, is_bare: bool) -> Result<&mut Chunk> {
        let position = match self.open[usize::from(is_bare)].last() {
            Some(&address) => self.find(address).unwrap_or_else(|position| position),
            None => {
                let is_like = |chunk: &Chunk| chunk.own && chunk.home.is_bare() == is_bare;
                let slots = if self.chunks.iter().any(is_like) { OTHERS } else { FIRST };
                let layout = Layout { participants: PARTICIPANTS, slots, behind: 0, is_bare };
                let home = Home::anonymous(layout)?;
                self.note_home(&home);
                let address = home.span().0;
                let position = self.find(address).unwrap_or_else(|position| position);
                let chunk = Chunk { home: Arc::new(home), own: true, fresh: 0, free: Vec::new(), live: 0 };
                self.chunks.insert(position, chunk);
                self.open[usize::from(is_bare)].push(address);
                position
            }
        };
        Ok(&mut self.chunks[position])
    }

    /// A slot of zeroes.
    pub fn hand_out(&mut self, is_bare: bool) -> Result<Slot> {
        let chunk = self.open(is_bare)?;
        let slot = chunk.hand_out();
        if !chunk.has_room() {
            self.open[usize::from(is_bare)].pop();
        }
        Ok(slot)
    }

    /// The slot of a home of its own.
    pub fn hand_out_alone(&mut self, layout: Layout) -> Result<Slot> {
        let home = Home::anonymous(layout)?;
        self.note_home(&home);
        let position = self.find(home.span().0).unwrap_or_else(|position| position);
        let chunk = Chunk { home: Arc::new(home), own: true, fresh: 0, free: Vec::new(), live: 0 };
        self.chunks.insert(position, chunk);
        Ok(self.chunks[position].hand_out())
    }

    /// The slot in a file. Returns `file` too if its home is known already.
    pub fn hand_out_in_file(&mut self, file: Arc<File>, layout: Layout) -> (Slot, Option<Arc<File>>) {
        let (position, spare) = match self.find(file.bytes().addr().get()) {
            Ok(position) => (position, Some(file)),
            Err(position) => {
                let home = Arc::new(Home::in_file(file, layout));
                self.note_home(&home);
                self.chunks.insert(position, Chunk { home, own: false, fresh: 0, free: Vec::new(), live: 0 });
                (position, None)
            }
        };
        let chunk = &mut self.chunks[position];
        chunk.live += 1;
        (Slot::at_index(chunk.home.clone(), 0), spare)
    }

    pub fn has_others(&self, slot: &Slot) -> bool {
        self.find(slot.home.span().0).is_ok_and(|position| self.chunks[position].live > 1)
    }

    /// Forgets a handle for a slot in a file, unless it is the last one.
    pub fn leave_to_others(&mut self, slot: &Slot) -> bool {
        let Ok(position) = self.find(slot.home.span().0) else { return false };
        let chunk = &mut self.chunks[position];
        let others = chunk.live > 1;
        chunk.live -= usize::from(others);
        others
    }

    /// Whether no other process can know of `slot`.
    pub fn is_sole(&self, slot: &Slot) -> bool {
        let position = self.find(slot.home.span().0);
        slot.epoch == slot.home.epoch() && position.is_ok_and(|position| self.chunks[position].own)
    }

    /// A slot without a handle. Returns what the process has no use for any more, to be dropped by the caller.
    pub fn take_back(&mut self, slot: &Slot) -> Option<Arc<Home>> {
        let address = slot.home.span().0;
        let position = self.find(address).ok()?;
        let chunk = &mut self.chunks[position];
        chunk.live -= 1;
        if chunk.own && slot.epoch == slot.home.epoch() {
            if !chunk.has_room() {
                self.open[usize::from(chunk.home.is_bare())].push(address);
            }
            chunk.free.push(slot.index() as u16);
        }
        if chunk.live > 0 {
            return None;
        }
        self.open.iter_mut().for_each(|open| open.retain(|&other| other != address));
        Some(self.chunks.remove(position).home)
    }

    /// In a forked child: its parent hands out what is left here. Bookkeeping that a thread of the parent was in the
    /// middle of is not `whole`: then it is forgotten, and the homes stay mapped.
    pub fn inherit(&mut self, whole: bool) {
        if whole {
            self.chunks.iter_mut().for_each(|chunk| chunk.own = false);
            self.open.iter_mut().for_each(Vec::clear);
        } else {
            std::mem::forget(std::mem::replace(self, Bookkeeping::new()));
        }
    }

    fn note_home(&mut self, home: &Home) {
        let (address, size) = home.span();
        let place = if home.file().is_some() { Place::File } else { Place::Anonymous };
        if place == Place::File {
            super::FILES_BEGIN.fetch_min(address, Relaxed);
            super::FILES_END.fetch_max(address + size, Relaxed);
        }
        let position = self.homes.partition_point(|home| home.address < address);
        self.homes.insert(position, Span { address, size, place, attached: home.attached() });
    }

    /// The holder of what is in the file that `address` is in, if it is in one.
    pub fn holder_at(&self, address: usize) -> Option<&Holder> {
        self.file_at(address).map(|home| home.holder())
    }

    /// What counts the word at `address` while it is on a thread's list, if it is in a file.
    pub fn tally_at(&self, address: usize) -> Option<&Tally> {
        let home = self.file_at(address)?;
        let is_in_table = address < home.slot(0).addr().get();
        Some(if is_in_table { &home.holder().entries } else { &home.holder().words })
    }

    fn file_at(&self, address: usize) -> Option<&Home> {
        let behind = self.chunks.partition_point(|chunk| chunk.home.span().0 <= address);
        let home = &self.chunks[behind.checked_sub(1)?].home;
        let is_inside = home.file().is_some() && address - home.span().0 < home.span().1;
        is_inside.then_some(home)
    }

    pub fn holders(&self) -> impl Iterator<Item = &Holder> {
        let homes = self.chunks.iter().map(|chunk| &chunk.home);
        homes.filter(|home| home.file().is_some()).map(|home| home.holder())
    }

    /// Forgets one home there. A file's is noted anew at the same address where the file is opened again before its last
    /// handle is gone.
    pub fn forget_home(&mut self, address: usize) {
        if let Ok(position) = self.homes.binary_search_by_key(&address, |home| home.address) {
            self.homes.remove(position);
        }
    }

    /// What is at `address`.
    pub fn place(&self, address: usize) -> Place {
        match self.home_before(address) {
            Some(home) if address - home.address < home.size => home.place,
            _ => Place::Elsewhere,
        }
    }

    /// Whether `address` is in a slot that has something of the system's.
    pub fn is_attached(&self, address: usize) -> bool {
        self.home_before(address).is_some_and(|home| home.attached.contains(&address))
    }

    /// The last home that does not begin behind `address`.
    fn home_before(&self, address: usize) -> Option<&Span> {
        let behind = self.homes.partition_point(|home| home.address <= address);
        behind.checked_sub(1).map(|position| &self.homes[position])
    }

    pub fn defer(&mut self, deferred: Deferred) {
        self.deferred.push(deferred);
    }

    pub fn take_deferred(&mut self, is_due: impl FnMut(&Deferred) -> bool) -> Vec<Deferred> {
        let (due, left) = std::mem::take(&mut self.deferred).into_iter().partition(is_due);
        self.deferred = left;
        due
    }
}

impl Chunk {
    fn has_room(&self) -> bool {
        self.fresh < self.home.slots() || !self.free.is_empty()
    }

    /// A slot of zeroes. There is room.
    fn hand_out(&mut self) -> Slot {
        self.live += 1;
        let used = self.free.pop();
        let index = used.map_or(self.fresh, usize::from);
        let address = self.home.slot(index);
        if used.is_some() {
            // SAFETY: the slot is mapped, and nobody else has it.
            unsafe { address.write_bytes(0, super::SLOT) };
        } else {
            self.fresh += 1; // zero as it was mapped
        }
        Slot::at_index(self.home.clone(), index as u32)
    }
}
