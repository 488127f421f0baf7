//! The 64-bit state of every object: a futex word, which the kernel reads, and writes when its owner dies, and 32 bits
//! beside it that only we use (`aux`). Both change in one step. With the state goes the entry that puts it on a robust
//! list.

use crate::atomic::{AtomicU64, Ordering::*};
pub use crate::platform::{Entry, OWNER, OWNER_DIED, WAITERS, WORD_FROM_NEXT};

/// All classes of waiters.
pub const ANY_CLASS: u32 = u32::MAX;

/// Offset of the futex word in the state. The `next` of an `Entry` is 32 bytes from the state's start.
const WORD_OFFSET: usize = (32 + WORD_FROM_NEXT) as usize;
const WORD_SHIFT: u32 = if (WORD_OFFSET == 0) == cfg!(target_endian = "little") { 0 } else { 32 };

/// A state that threads sleep on, and that outlives each of them. All zeroes is valid. The layout is what the kernel and
/// the C library expect of a robust mutex.
#[derive(Default)]
#[repr(C)]
pub struct Word {
    pub(crate) state: AtomicU64,
    /// The holder's thread and process: the futex word has the thread alone.
    pub(crate) note: AtomicU64,
    /// For the protocol's own use.
    pub(crate) spare: AtomicU64,
    entry: Entry,
}

#[cfg(not(loom))]
const _: () = assert!(Word::ENTRY == 24 && size_of::<Word>() == 40);

// SAFETY: `entry` is atomics, or touched only by the thread that the word names, in its own `robust_push` and
// `robust_remove`.
unsafe impl Sync for Word {}
// SAFETY: nothing in it belongs to a thread while it names none, and it never moves while it names one.
unsafe impl Send for Word {}

/// As `participants::layout`.
#[cfg(test)]
pub fn layout() -> Vec<(&'static str, usize)> {
    use std::mem::offset_of;
    vec![
        ("state", offset_of!(Word, state)),
        ("note", offset_of!(Word, note)),
        ("spare", offset_of!(Word, spare)),
        ("entry", offset_of!(Word, entry)),
    ]
}

impl Word {
    /// Offset of the entry.
    pub const ENTRY: usize = std::mem::offset_of!(Word, entry);

    /// What is on the robust list while a thread holds the word.
    #[inline]
    pub fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The state, for a kernel that marks it.
    #[inline]
    pub fn state(&self) -> &AtomicU64 {
        &self.state
    }

    /// Sets the state when no process uses the word, and forgets all else.
    pub fn recover(&self, state: u64) {
        self.state.store(state, Relaxed);
        self.note.store(0, Relaxed);
        self.spare.store(0, Relaxed);
    }

    /// A word for the protocol's own use.
    #[inline]
    pub fn spare(&self) -> &AtomicU64 {
        &self.spare
    }

    /// The process of `owner`, the thread that holds it, or 0 if that thread has not said.
    #[inline]
    pub fn pid_of(&self, owner: u32) -> u32 {
        let note = self.note.load(Relaxed);
        if futex_word(note) == owner { aux(note) } else { 0 }
    }

    /// The address of the futex word, for the kernel.
    #[inline]
    pub fn futex(&self) -> *const u32 {
        (&raw const self.state).cast::<u32>().wrapping_byte_add(WORD_OFFSET)
    }
}

/// The half of a state that the kernel knows.
#[inline]
pub const fn futex_word(state: u64) -> u32 {
    (state >> WORD_SHIFT) as u32
}

/// The half that the kernel does not know.
#[inline]
pub const fn aux(state: u64) -> u32 {
    (state >> (32 - WORD_SHIFT)) as u32
}

/// A state of both halves.
#[inline]
pub const fn pack(word: u32, aux: u32) -> u64 {
    ((word as u64) << WORD_SHIFT) | ((aux as u64) << (32 - WORD_SHIFT))
}
