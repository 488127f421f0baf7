//! What a process knows of the threads of its own that hold an object in a file, whatever the file says. All its handles
//! of the object have the same.

use crate::participants::Tally;
use crate::platform::ProcessLocal;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

#[derive(Debug, Default)]
pub struct Holder {
    /// The thread of this process that has the lock on its list, with its process: see `objects::Mutex`.
    pub thread: AtomicU64,
    /// How many entries of the table threads of this process have on their lists.
    pub entries: Tally,
    /// How many other words of the file. Not of an object whose only one is named by `thread`.
    pub words: Tally,
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
    pub list: ProcessLocal<Vec<Reading>>,
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
    /// Whether threads of the process `pid`, this one, have words of the file on their lists, so that its memory must not go.
    pub fn is_listed(&self, pid: u32) -> bool {
        self.entries.count(pid) > 0 || self.words.count(pid) > 0
    }

    /// Calls `see` with each fiber that it refers to.
    pub fn each_fiber(&self, mut see: impl FnMut(usize)) {
        for holding in [&self.binding, &self.upgrader] {
            see(holding.fiber.load(Relaxed));
        }
        self.readings.list.with(|list| list.iter().for_each(|reading| see(reading.fiber)));
    }
}
