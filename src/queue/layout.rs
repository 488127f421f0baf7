//! Where everything is in a queue's memory.
//!
//! | part      | what                                                                                     |
//! |-----------|------------------------------------------------------------------------------------------|
//! | `Header`  | lock, both ends of the log, limits, free lists, redo log, gates                          |
//! | members   | the processes that have items in flight                                                  |
//! | writers   | the threads that are copying a large item into the queue                                 |
//! | links     | a word for each block: the next block, and the items in flight that need this one        |
//! | entries   | the items in flight, and those that came back                                            |
//! | blocks    | the log and the large items                                                              |
//!
//! Nothing in the memory is trusted: the geometry comes from its length and the number of bytes asked for, every number
//! that is read is compared with it before it is used, and every loop ends by a count of its own.

use super::gate::Gate;
use super::members::Member;
use super::words::{LARGEST_BLOCK, MOST_BLOCKS};
use super::writers::Writer;
use crate::lock::Lock;
use crate::redo::Log;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// How many processes can have items in flight at a time.
pub const MEMBERS: u32 = 1024;
/// How many threads can copy large items into the queue at a time: as many as `futex_waitv` watches with one word more.
pub const WRITERS: u32 = 127;
/// How many words one operation changes at most.
pub const REDO: usize = 16;

const BLOCK: u64 = 4096;
/// Blocks grow before there are more than this, because each costs 8 bytes that do not go back to the system.
const FEW_BLOCKS: u64 = 1 << 16;
/// Beside the blocks for one item of full size: the log's own, one for its next, and one to move items in flight to.
const SPARE_BLOCKS: u64 = 4;
/// How many bytes an empty queue may cost, with the links of all its blocks, and twice as many free blocks as are to be kept.
const EMPTY: u64 = 900 << 10;
const ENTRIES: (u64, u64) = (1024, 1 << 16);

pub const MAGIC: u64 = u64::from_le_bytes(*b"psqueue1");

/// The beginning of the memory. The first 64 bytes are all that a push or pop within a block writes, beside the item.
#[repr(C, align(64))]
pub struct Header {
    pub lock: Lock,
    /// The place of the next item to be taken.
    pub head: AtomicU64,
    /// The place of the next item to be pushed.
    pub tail: AtomicU64,
    /// The items that came back, oldest first.
    pub returned: AtomicU64,

    pub magic: AtomicU64,
    pub bytes: AtomicU64,
    /// The most items, or 0.
    pub max: AtomicU64,
    pub closed: AtomicU32,
    /// Members from here on were never used.
    pub members_used: AtomicU32,
    /// Writers from here on were never used.
    pub writers_used: AtomicU32,
    /// The blocks that the pusher at the gate needs.
    pub wanted: AtomicU32,
    /// When somebody asked the system last which members live, in milliseconds, where it does not tell.
    pub asked: AtomicU64,
    _line: [u64; 2],

    /// Free blocks that have memory; used first.
    pub dirty: AtomicU64,
    /// Free blocks whose memory went back to the system.
    pub clean: AtomicU64,
    /// Free blocks on their way from the first list to the second.
    pub trimming: AtomicU64,
    /// How many blocks were ever used, beside the first.
    pub touched: AtomicU64,
    /// Free entries, and how many were ever used.
    pub free_entries: AtomicU64,
    pub used_entries: AtomicU64,
    /// How many large items are being copied into the queue.
    pub reserved: AtomicU64,
    /// Where small items in flight are moved to.
    pub parking: AtomicU64,

    pub redo: Log<REDO>,

    pub items: Gate,
    pub room: Gate,
    pub trimmer: Lock,
}

/// An item in flight, or one that came back.
#[repr(C, align(64))]
pub struct Entry {
    pub state: AtomicU64,
    pub next: AtomicU64,
    /// Which use of this entry it is.
    pub ticket: AtomicU64,
    pub ordinal: AtomicU64,
    /// Block and offset of the payload; for a large item its first and its last block.
    pub place: AtomicU64,
    pub length: AtomicU64,
    pub tag: AtomicU64,
    _unused: u64,
}

/// What follows from the number of bytes asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub bytes: u64,
    pub block: u32,
    pub blocks: u32,
    pub entries: u32,
    /// How many free blocks keep their memory while no other is in use.
    pub kept: u32,
    pub members_at: usize,
    pub writers_at: usize,
    pub links_at: usize,
    pub entries_at: usize,
    pub blocks_at: usize,
    pub size: usize,
}

impl Layout {
    /// For a queue that an item of `bytes` fits in. `None` if there can be no such queue.
    pub fn for_bytes(bytes: u64) -> Option<Layout> {
        let mut block = BLOCK;
        while bytes.div_ceil(block) > FEW_BLOCKS && block < u64::from(LARGEST_BLOCK) {
            block *= 2;
        }
        let blocks = bytes.div_ceil(block).checked_add(SPARE_BLOCKS)?;
        if bytes == 0 || blocks > MOST_BLOCKS {
            return None;
        }
        let entries = blocks.clamp(ENTRIES.0, ENTRIES.1);
        let members_at = size_of::<Header>();
        let writers_at = members_at + MEMBERS as usize * size_of::<Member>();
        let links_at = writers_at + (WRITERS as usize + 1) * size_of::<Writer>();
        let entries_at = (links_at + blocks as usize * size_of::<AtomicU64>()).next_multiple_of(64);
        let blocks_at =
            (entries_at + entries as usize * size_of::<Entry>()).next_multiple_of(LARGEST_BLOCK as usize);
        let links = blocks * size_of::<AtomicU64>() as u64;
        let kept = (EMPTY.saturating_sub(links) / 2 / block).max(1);
        let size = blocks_at.checked_add(usize::try_from(blocks * block).ok()?)?;
        Some(Layout {
            bytes,
            block: block as u32,
            blocks: blocks as u32,
            entries: entries as u32,
            kept: kept as u32,
            members_at,
            writers_at,
            links_at,
            entries_at,
            blocks_at,
            size,
        })
    }
}

const _: () = {
    use std::mem::offset_of;
    assert!(offset_of!(Header, magic) == 64 && offset_of!(Header, dirty) == 128);
    assert!(offset_of!(Header, redo) == 192);
    assert!(size_of::<Entry>() == 64 && size_of::<Member>() == 64 && size_of::<Writer>() == 64);
};

/// As `participants::layout`.
#[cfg(test)]
pub fn layout() -> Vec<(&'static str, usize)> {
    use std::mem::offset_of;
    let smallest = Layout::for_bytes(1).map_or(0, |layout| layout.size);
    vec![
        ("queue's head", offset_of!(Header, head)),
        ("tail", offset_of!(Header, tail)),
        ("returned", offset_of!(Header, returned)),
        ("max", offset_of!(Header, max)),
        ("closed", offset_of!(Header, closed)),
        ("dirty", offset_of!(Header, dirty)),
        ("parking", offset_of!(Header, parking)),
        ("redo", offset_of!(Header, redo) + Log::<REDO>::WRITES_AT),
        ("items", offset_of!(Header, items)),
        ("room", offset_of!(Header, room)),
        ("trimmer", offset_of!(Header, trimmer)),
        ("entry's place", offset_of!(Entry, place)),
        ("queue's header", size_of::<Header>()),
        ("smallest queue", smallest),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_and_the_largest_have_a_layout() {
        for bytes in [1, 100, 4096, 64 << 20, 1 << 30, 100 << 30] {
            let layout = Layout::for_bytes(bytes).unwrap_or_else(|| unreachable!("{bytes}"));
            assert!(u64::from(layout.block) * u64::from(layout.blocks - 3) >= bytes);
            assert_eq!(layout.blocks_at % layout.block as usize, 0);
        }
        assert!(Layout::for_bytes(0).is_none() && Layout::for_bytes(u64::MAX).is_none());
    }
}
