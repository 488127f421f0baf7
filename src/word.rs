//! The 64-bit state of every object: a futex word, which the kernel reads and at a death writes, and beside it 32
//! bits that only we use, so that both change in one step.

use crate::atomic::AtomicU64;
pub use crate::platform::{Entry, OWNER, OWNER_DIED, WAITERS, WORD_FROM_NEXT};

/// Every class of waiter.
pub const ANY_CLASS: u32 = u32::MAX;

/// Where the futex word is in the state, in bytes: an `Entry`'s `next` is 32 bytes from the state's start.
const WORD_OFFSET: usize = (32 + WORD_FROM_NEXT) as usize;
const WORD_SHIFT: u32 = if (WORD_OFFSET == 0) == cfg!(target_endian = "little") { 0 } else { 32 };

/// The futex word.
#[inline]
pub const fn word(state: u64) -> u32 {
    (state >> WORD_SHIFT) as u32
}

/// The half that is ours.
#[inline]
pub const fn other(state: u64) -> u32 {
    (state >> (32 - WORD_SHIFT)) as u32
}

#[inline]
pub const fn join(word: u32, other: u32) -> u64 {
    ((word as u64) << WORD_SHIFT) | ((other as u64) << (32 - WORD_SHIFT))
}

/// The address of the futex word of `state`, for the kernel.
#[inline]
pub fn futex(state: &AtomicU64) -> *const u32 {
    (&raw const *state).cast::<u32>().wrapping_byte_add(WORD_OFFSET)
}
