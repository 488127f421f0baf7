//! The 64-bit words of a queue's header that change in one store: a place in the log with the number of items before it,
//! and a list of blocks or entries.

/// A place in the log. `offset` can be the block's whole size: what follows is in the next block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    pub block: u32,
    pub offset: u32,
    /// How many items were pushed before it, modulo `COUNTS`.
    pub ordinal: u32,
}

/// Items are counted modulo this; a queue holds fewer.
pub const COUNTS: u32 = 1 << ORDINAL_BITS;
const ORDINAL_BITS: u32 = 28;
const OFFSET_BITS: u32 = 16;
/// More blocks than this have no number.
pub const MOST_BLOCKS: u64 = 1 << 20;
/// Offsets in the log are multiples of this.
pub const GRAIN: usize = 8;
/// Larger blocks have offsets without a number.
pub const LARGEST_BLOCK: u32 = 256 << 10;

const _: () = assert!(LARGEST_BLOCK as usize / GRAIN < 1 << OFFSET_BITS);
const _: () = assert!(ORDINAL_BITS + OFFSET_BITS + MOST_BLOCKS.ilog2() <= 64);

impl Position {
    #[inline]
    pub fn pack(self) -> u64 {
        (u64::from(self.block) << (ORDINAL_BITS + OFFSET_BITS))
            | ((u64::from(self.offset) / GRAIN as u64) << ORDINAL_BITS)
            | u64::from(self.ordinal % COUNTS)
    }

    #[inline]
    pub fn unpack(word: u64) -> Self {
        Position {
            block: (word >> (ORDINAL_BITS + OFFSET_BITS)) as u32,
            offset: ((word >> ORDINAL_BITS) as u32 % (1 << OFFSET_BITS)) * GRAIN as u32,
            ordinal: word as u32 % COUNTS,
        }
    }
}

/// How many items lie between two ordinals.
#[inline]
pub fn distance(from: u32, to: u32) -> u32 {
    to.wrapping_sub(from) % COUNTS
}

/// A list that ends by its count: the link of its last element means nothing and may be written at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct List {
    pub first: u32,
    pub count: u32,
}

impl List {
    #[inline]
    pub fn pack(self) -> u64 {
        u64::from(self.first) | (u64::from(self.count) << 32)
    }

    #[inline]
    pub fn unpack(word: u64) -> Self {
        List { first: word as u32, count: (word >> 32) as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_keep_every_part() {
        let largest = MOST_BLOCKS as u32 - 1;
        for position in [
            Position { block: 0, offset: 0, ordinal: 0 },
            Position { block: largest, offset: LARGEST_BLOCK, ordinal: COUNTS - 1 },
            Position { block: 7, offset: 4096, ordinal: 1 },
        ] {
            assert_eq!(Position::unpack(position.pack()), position);
        }
        assert_eq!(distance(COUNTS - 1, 2), 3);
    }
}
