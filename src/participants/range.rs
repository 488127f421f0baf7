//! The range of an object's entries, as one word: a version, a length and a start. Entries go round at the end of the
//! table.

pub const VERSION: u64 = 0xffff_ffff_0000_0000;
pub const ONE_VERSION: u64 = 1 << 32;
pub const LENGTH: u64 = 0xffff_0000;

/// Entries from `start`, going round at the end of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub start: usize,
    pub length: usize,
}

impl Range {
    /// Whether it has the entry at `index`.
    pub fn has(self, index: usize, size: usize) -> bool {
        index < size && self.offset(index, size) < self.length
    }

    pub fn of(bits: u64, size: usize) -> Self {
        Range { start: bits as u16 as usize % size, length: ((bits >> 16) as u16 as usize).min(size) }
    }

    /// How far `index` is from the start.
    fn offset(self, index: usize, size: usize) -> usize {
        if index >= self.start { index - self.start } else { index + size - self.start }
    }

    /// Those of `all` entries that are in the range, with their indices.
    pub fn entries<T>(self, all: &[T]) -> impl Iterator<Item = (usize, &T)> {
        let end = self.start + self.length;
        let (round, end) = (end.saturating_sub(all.len()), end.min(all.len()));
        let part = move |from: usize, to: usize| {
            all[from..to].iter().enumerate().map(move |(i, one)| (from + i, one))
        };
        part(self.start, end).chain(part(0, round))
    }

    /// The smallest range that has `index` too, as bits without a version.
    pub fn with(self, index: usize, size: usize) -> u64 {
        let ahead = self.offset(index, size);
        let behind = size - ahead;
        let (start, length) = match self.length {
            0 => (index, 1),
            length if ahead < length => (self.start, length),
            length if ahead < behind + length => (self.start, ahead + 1),
            length => (index, (behind + length).min(size)),
        };
        start as u64 | (length as u64) << 16
    }
}
