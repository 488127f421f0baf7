//! What a process knows of the threads of its own that hold an object in a file, whatever the file says. All its handles
//! of the object have the same.

use crate::participants::Tally;
use crate::platform::Thread;
use crate::word::{aux, futex_word, pack};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
pub struct Holder {
    /// The thread of this process that has the lock on its list, with its process: see `objects::Mutex`.
    pub thread: AtomicU64,
    /// How many words in the file threads of this process have on their lists, and the process. See `list`.
    listed: AtomicU64,
    /// How many entries of the table are on lists of threads.
    pub entries: Tally,
    /// The holder of a mutex, the writer of a read-write lock.
    pub binding: Holding,
    /// The fiber that has the turn to become the writer.
    pub upgrader: Holding,
    pub readings: Readings,
}

/// What a binding knows of a holder.
#[derive(Debug, Default)]
pub struct Holding {
    /// Which of the thread's fibers it is.
    pub fiber: AtomicUsize,
    /// How often it has taken the lock.
    pub levels: AtomicU32,
    /// How far it has repaired what the last holder left.
    pub repair: AtomicU8,
}

/// What a binding knows of fibers that read, beside what is in their threads' entries.
#[derive(Debug, Default)]
pub struct Readings {
    list: Mutex<Vec<Reading>>,
    /// Whether there are any.
    pub is_used: AtomicBool,
}

#[derive(Debug)]
pub struct Reading {
    /// The number of the thread.
    pub thread: u32,
    pub fiber: usize,
    /// How often it reads.
    pub levels: u64,
}

impl Holder {
    /// A thread of this process has one more word in the file on its list, and does not take it off before `unlist`. Without
    /// this, the memory of a word that others have written to could go while the word is on a list.
    pub fn list(&self, thread: &Thread) {
        self.add_listed(thread.pid(), 1);
    }

    /// It has taken it off.
    pub fn unlist(&self, thread: &Thread) {
        self.add_listed(thread.pid(), -1);
    }

    /// In a forked child the count is the parent's: the child has nothing on a list.
    fn add_listed(&self, pid: u32, change: i32) {
        let _ = self.listed.fetch_update(Relaxed, Relaxed, |before| {
            Some(pack(self.count_in(before, pid).saturating_add_signed(change), pid))
        });
    }

    fn count_in(&self, listed: u64, pid: u32) -> u32 {
        if aux(listed) == pid { futex_word(listed) } else { 0 }
    }

    /// How many words of the file the threads of the process `pid`, this one, have on their lists.
    pub fn listed(&self, pid: u32) -> u32 {
        self.count_in(self.listed.load(Relaxed), pid)
    }

    /// Calls `see` with each fiber that it refers to.
    pub fn each_fiber(&self, mut see: impl FnMut(usize)) {
        for holding in [&self.binding, &self.upgrader] {
            see(holding.fiber.load(Relaxed));
        }
        self.readings.list().iter().for_each(|reading| see(reading.fiber));
    }
}

impl Readings {
    pub fn list(&self) -> MutexGuard<'_, Vec<Reading>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
