//! How many entries of a table the threads of this process hold: whether a file may be unmapped depends on it.

use crate::word::{aux, futex_word, pack};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How many entries of a table the threads of a process hold, with the process in the other half: a child holds none of
/// its parent's. Private memory, so it is right whatever others write into the file.
#[derive(Debug, Default)]
pub struct Tally(AtomicU64);

impl Tally {
    pub fn add(&self, pid: u32, change: i32) {
        let next = |now| Some(pack(pid, Self::of(now, pid).saturating_add_signed(change)));
        let _ = self.0.fetch_update(Relaxed, Relaxed, next);
    }

    pub fn count(&self, pid: u32) -> u32 {
        Self::of(self.0.load(Relaxed), pid)
    }

    fn of(tally: u64, pid: u32) -> u32 {
        if futex_word(tally) == pid { aux(tally) } else { 0 }
    }
}
