//! An entry: a key and its value, as bytes with tags that say what the bytes are.
//!
//! ```text
//! | hash 32, class 8, form 8, tag 16 | key's length 22, value's 41, expires 1 | instant, if it expires | key | value |
//! ```
//!
//! A value of at most 8 bytes stands before the key, at a multiple of 8: a number can change by one store, and be read by
//! one load. An entry takes a multiple of 8 bytes.

const KEY_BITS: u32 = 22;
const VALUE_BITS: u32 = 41;

/// The longest key.
pub const LONGEST_KEY: usize = (1 << KEY_BITS) - 1;
const LONGEST_VALUE: u64 = (1 << VALUE_BITS) - 1;

/// Values up to here stand before the key.
pub const WORD: u64 = 8;
/// Before instant, key and value.
pub const HEAD: u64 = 16;

/// A key: keys of one class with the same bytes are equal. `form` is for whoever reads the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'a> {
    pub hash: u64,
    pub class: u8,
    pub form: u8,
    pub bytes: &'a [u8],
}

/// A value; what `tag` means is the caller's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    pub tag: u16,
    pub bytes: &'a [u8],
    /// When it is no longer there, in nanoseconds of `now`; 0: never.
    pub expiry: u64,
}

/// The first words of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The lower half of the key's hash.
    pub hash: u32,
    pub class: u8,
    pub form: u8,
    pub tag: u16,
    pub key: u64,
    pub value: u64,
    pub expires: bool,
}

impl Head {
    /// `None` if it is too long for an entry.
    pub fn of(key: &Key, value: &Value) -> Option<Head> {
        let fits = key.bytes.len() <= LONGEST_KEY && value.bytes.len() as u64 <= LONGEST_VALUE;
        fits.then_some(Head {
            hash: key.hash as u32,
            class: key.class,
            form: key.form,
            tag: value.tag,
            key: key.bytes.len() as u64,
            value: value.bytes.len() as u64,
            expires: value.expiry != 0,
        })
    }

    pub fn pack(self) -> [u64; 2] {
        let first = u64::from(self.hash)
            | u64::from(self.class) << 32
            | u64::from(self.form) << 40
            | u64::from(self.tag) << 48;
        [first, self.key | self.value << KEY_BITS | u64::from(self.expires) << (KEY_BITS + VALUE_BITS)]
    }

    #[inline]
    pub fn unpack([first, second]: [u64; 2]) -> Head {
        Head {
            hash: first as u32,
            class: (first >> 32) as u8,
            form: (first >> 40) as u8,
            tag: (first >> 48) as u16,
            key: second & LONGEST_KEY as u64,
            value: (second >> KEY_BITS) & LONGEST_VALUE,
            expires: second >> (KEY_BITS + VALUE_BITS) != 0,
        }
    }

    /// Where the parts begin that follow.
    #[inline]
    fn body(self) -> u64 {
        HEAD + if self.expires { 8 } else { 0 }
    }

    fn value_is_first(self) -> bool {
        self.value <= WORD
    }

    #[inline]
    pub fn key_at(self) -> u64 {
        self.body() + if self.value_is_first() { self.value.next_multiple_of(8) } else { 0 }
    }

    #[inline]
    pub fn value_at(self) -> u64 {
        self.body() + if self.value_is_first() { 0 } else { self.key }
    }

    /// How many bytes the entry takes.
    #[inline]
    pub fn size(self) -> u64 {
        let first = if self.value_is_first() { self.value.next_multiple_of(8) } else { self.value };
        (self.body() + first + self.key).next_multiple_of(8)
    }
}

/// A hash of `bytes` that those who do not know the seed cannot foresee: multiply and fold.
#[inline]
pub fn hash(seed: u64, class: u8, bytes: &[u8]) -> u64 {
    const FIRST: u64 = 0xa076_1d64_78bd_642f;
    const SECOND: u64 = 0xe703_7ed1_a0b4_28db;
    fn fold(a: u64, b: u64) -> u64 {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    }
    let mut state = fold(seed ^ u64::from(class), FIRST) ^ seed;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        state = fold(state ^ u64::from_le_bytes(word), SECOND);
    }
    let rest = chunks.remainder();
    let mut word = [0; 8];
    word[..rest.len()].copy_from_slice(rest);
    fold(fold(state ^ u64::from_le_bytes(word), SECOND) ^ bytes.len() as u64, FIRST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_keep_every_part() {
        for value in [0, 1, 8, 9, LONGEST_VALUE] {
            for key in [0, 1, LONGEST_KEY as u64] {
                for expires in [false, true] {
                    let head = Head { hash: 7, class: 255, form: 1, tag: 65_535, key, value, expires };
                    assert_eq!(Head::unpack(head.pack()), head);
                    assert!(head.size() % 8 == 0);
                    assert!(head.size() >= head.key_at() + key && head.size() >= head.value_at() + value);
                    assert!(value > 8 || head.value_at() % 8 == 0);
                    assert!(head.size() < HEAD + 8 + key + value + 16);
                }
            }
        }
    }

    #[test]
    fn hashes_differ_by_seed_class_length_and_bytes() {
        let all = [
            hash(1, 0, b"a"),
            hash(2, 0, b"a"),
            hash(1, 1, b"a"),
            hash(1, 0, b"a\0"),
            hash(1, 0, b"b"),
            hash(1, 0, b""),
            hash(1, 0, b"aaaaaaaa"),
            hash(1, 0, b"aaaaaaaa\0"),
        ];
        let mut sorted = all.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), all.len());
    }
}
