//! Where everything is in a map's memory.
//!
//! | part      | what                                                                                  |
//! |-----------|---------------------------------------------------------------------------------------|
//! | `Header`  | what kind of map it is, the free blocks, and the lock and redo log of those           |
//! | cells     | hits and misses, counted by readers: a cache line for each of some threads            |
//! | marks     | the keys whose values are being computed                                              |
//! | shards    | each with a lock, a redo log, and logs of segments                                    |
//! | ghosts    | hashes of entries that were dropped early (`Cache` alone)                             |
//! | buckets   | the index: each shard has as many                                                     |
//! | `Block`s  | what is known about each block                                                        |
//! | blocks    | entries, and buckets that did not fit into the index                                  |
//!
//! Nothing in the memory is trusted: the geometry comes from its length and the number of bytes asked for, every number
//! that is read is compared with it before it is used, and every loop ends by a count of its own.

use super::computing::Mark;
use super::slot::Bucket;
use crate::lock::Lock;
use crate::redo::Log;
use std::sync::atomic::{AtomicU32, AtomicU64};

pub const MAGIC: u64 = u64::from_le_bytes(*b"psmap\0\0\x01");

/// Cache lines that readers count in.
pub const CELLS: usize = 64;
/// Keys whose values can be computed at a time.
pub const MARKS: usize = 256;
/// How many words one operation changes at most.
pub const REDO: usize = 12;
/// A segment is closed when it has so many blocks; an entry that needs more has a segment of its own.
pub const SEGMENT: u32 = 16;
/// Blocks that only moving entries may take, beside those for the bytes asked for.
pub const SPARE: u32 = 4 * SEGMENT;
/// Logs of a shard: of entries that are new, and of those that proved their worth.
pub const LOGS: usize = 2;

const BLOCK: (u64, u64) = (256, 4096);
const FEW_BLOCKS: u64 = 256;
const MANY_BLOCKS: u64 = 1 << 18;
const BLOCKS_OF_A_SHARD: u64 = 512;
const SHARDS: u64 = 64;
/// Bytes of an entry, for the size of the index.
const TYPICAL: u64 = 96;
/// The most bytes: what a slot's location can say.
pub const MOST: u64 = 120 << 30;
/// Ghosts for each bucket.
const GHOSTS: u64 = 4;

#[repr(C, align(64))]
pub struct Header {
    pub magic: AtomicU64,
    pub bytes: AtomicU64,
    /// Whether it drops entries.
    pub evicts: AtomicU64,
    /// The hash function's.
    pub seed: AtomicU64,
    _line: [u64; 4],

    /// Of what follows.
    pub lock: Lock,
    /// Free blocks.
    pub free: AtomicU64,
    /// Blocks from here on were never used.
    pub touched: AtomicU64,
    _rest: u64,
    pub redo: Log<REDO>,
    _end_of_redo: [u64; 7],
    /// Of the marks.
    pub marking: Lock,
}

/// In the `log` of a segment: it has one entry and gets no other.
pub const LARGE: u64 = 1 << 8;
/// It gets no more entries.
pub const CLOSED: u64 = 1 << 9;

/// What one thread's readers have counted.
#[repr(C, align(64))]
pub struct Cell {
    pub hits: AtomicU64,
    pub misses: AtomicU64,
}

#[repr(C, align(64))]
pub struct Shard {
    pub lock: Lock,
    /// Entries.
    pub count: AtomicU64,
    /// Blocks of this shard that have nothing in them.
    pub free: AtomicU64,
    /// The next bucket in a block that was never used since the block has buckets, and how many there are.
    pub spare_buckets: AtomicU64,

    /// For each log: its oldest segment, its newest, which entries are added to, and how many blocks it has. Segments
    /// are numbered from 1 by their first block; 0 is none.
    pub oldest: [AtomicU64; LOGS],
    pub newest: [AtomicU64; LOGS],
    pub blocks: [AtomicU64; LOGS],
    /// No entry expires before this instant; 0: none ever does.
    pub expiry: AtomicU64,
    /// The number of a bucket in a block that has left its chain, or 0.
    pub vacant_bucket: AtomicU64,

    pub stores: AtomicU64,
    pub evictions: AtomicU64,
    pub expirations: AtomicU64,
    /// Bytes of entries.
    pub live: AtomicU64,
    /// How many entries were dropped for which no chain has been looked at yet, and which chain is the next.
    pub dropped: AtomicU64,
    pub next_chain: AtomicU64,
    _line: [u64; 2],
    pub redo: Log<REDO>,
}

/// What is known about a block; and about a segment, at its first block.
#[repr(C, align(64))]
pub struct Block {
    /// The next block of its list or segment, and the first block of its segment. Of a block with buckets: what the shard's
    /// `spare_buckets` was before it.
    pub link: AtomicU64,
    /// How many bytes of the segment have been written.
    pub used: AtomicU64,
    /// How many of them are entries that the index leads to.
    pub live: AtomicU64,
    /// The segment's last block, and how many there are.
    pub extent: AtomicU64,
    /// The segments after it and before it in its log, as numbers from 1.
    pub order: AtomicU64,
    /// As a shard's.
    pub expiry: AtomicU64,
    /// Which log it is in; `LARGE`, `CLOSED`.
    pub log: AtomicU64,
    _unused: u64,
}

/// What follows from the number of bytes asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    pub bytes: u64,
    pub block: u32,
    pub blocks: u32,
    pub shards: u32,
    /// Of each shard.
    pub buckets: u32,
    /// Of each shard.
    pub ghosts: u32,
    pub cells_at: usize,
    pub marks_at: usize,
    pub shards_at: usize,
    pub ghosts_at: usize,
    pub buckets_at: usize,
    pub table_at: usize,
    pub blocks_at: usize,
    pub size: usize,
}

impl Layout {
    /// For entries of so many bytes. `None` if there can be no such map.
    pub fn for_bytes(bytes: u64, evicts: bool) -> Option<Layout> {
        if bytes == 0 || bytes > MOST {
            return None;
        }
        let mut block = (bytes / FEW_BLOCKS).next_power_of_two().clamp(BLOCK.0, BLOCK.1);
        while bytes / block > MANY_BLOCKS {
            block *= 2;
        }
        let blocks = bytes.div_ceil(block) + u64::from(SPARE);
        let shards = (blocks / BLOCKS_OF_A_SHARD).clamp(1, SHARDS);
        let shards = 1 << shards.ilog2();
        let buckets = bytes / (TYPICAL * Bucket::SLOTS as u64 * shards) + 1;
        let ghosts = if evicts { buckets * GHOSTS } else { 0 };
        let many = |size: usize, count: u64| usize::try_from(count).ok()?.checked_mul(size);
        let cells_at = size_of::<Header>();
        let marks_at = cells_at + CELLS * size_of::<Cell>();
        let shards_at = marks_at + MARKS * size_of::<Mark>();
        let ghosts_at = shards_at + many(size_of::<Shard>(), shards)?;
        let buckets_at = (ghosts_at + many(size_of::<AtomicU32>(), ghosts * shards)?).next_multiple_of(64);
        let table_at = buckets_at + many(size_of::<Bucket>(), buckets * shards)?;
        let blocks_at = (table_at + many(size_of::<Block>(), blocks)?).next_multiple_of(4096);
        Some(Layout {
            bytes,
            block: block as u32,
            blocks: blocks as u32,
            shards: shards as u32,
            buckets: buckets as u32,
            ghosts: ghosts as u32,
            cells_at,
            marks_at,
            shards_at,
            ghosts_at,
            buckets_at,
            table_at,
            blocks_at,
            size: blocks_at.checked_add(many(block as usize, blocks)?)?,
        })
    }

    /// How many bytes of entries there is room for.
    pub fn room(&self) -> u64 {
        u64::from(self.blocks - SPARE) * u64::from(self.block)
    }
}

const _: () = {
    use std::mem::offset_of;
    assert!(
        offset_of!(Header, lock) == 64
            && offset_of!(Header, redo) == 128
            && offset_of!(Header, marking) == 384
    );
    assert!(offset_of!(Shard, oldest) == 64 && size_of::<Block>() == 64);
};

/// As `participants::layout`.
#[cfg(test)]
pub fn layout() -> Vec<(&'static str, usize)> {
    use std::mem::offset_of;
    let smallest = Layout::for_bytes(1, true).map_or(0, |layout| layout.size);
    vec![
        ("map's free", offset_of!(Header, free)),
        ("touched", offset_of!(Header, touched)),
        ("redo", offset_of!(Header, redo)),
        ("marking", offset_of!(Header, marking)),
        ("mark's hash", Mark::HASH_AT),
        ("shard's count", offset_of!(Shard, count)),
        ("oldest", offset_of!(Shard, oldest)),
        ("newest", offset_of!(Shard, newest)),
        ("expiry", offset_of!(Shard, expiry)),
        ("vacant bucket", offset_of!(Shard, vacant_bucket)),
        ("dropped", offset_of!(Shard, dropped)),
        ("redo of a shard", offset_of!(Shard, redo)),
        ("bucket's next", offset_of!(Bucket, next)),
        ("block's order", offset_of!(Block, order)),
        ("map's header", size_of::<Header>()),
        ("cell", size_of::<Cell>()),
        ("mark", size_of::<Mark>()),
        ("shard", size_of::<Shard>()),
        ("block", size_of::<Block>()),
        ("smallest map", smallest),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_and_the_largest_have_a_layout() {
        for bytes in [1, 100, 4096, 64 << 10, 1 << 20, 64 << 20, 1 << 30, 100 << 30] {
            for evicts in [false, true] {
                let layout = Layout::for_bytes(bytes, evicts).unwrap_or_else(|| unreachable!("{bytes}"));
                assert!(layout.room() >= bytes);
                assert!(bytes < 1 << 20 || (layout.size as u64) < bytes + bytes / 6 + (1 << 20));
            }
        }
        assert!(Layout::for_bytes(0, false).is_none() && Layout::for_bytes(u64::MAX, true).is_none());
    }
}
