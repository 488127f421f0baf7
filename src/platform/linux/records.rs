//! A record for each native thread that uses locks: its identity, and what it holds.
//!
//! The records are in private pages that the kernel empties in every child process, however the child was made
//! (`MADV_WIPEONFORK`, Linux 4.14). A record whose name is 0 belongs to no thread of this process, so a child never
//! takes itself for its parent, and one load tells. Older kernels leave the pages as they are: there the fork handler
//! empties them (`wipe`), and a child whose fork runs no handlers goes unnoticed.
//!
//! The fork depth and the list of free records are in these pages too. So in a new child the list is empty and
//! unlocked, whatever its parent's threads were doing.
//!
//! Invariant: a thread-local never leads to the record of another thread. A child whose fork ran no handlers may still
//! have its parent's pointers in thread-locals, so such a child does not use its parent's records again.

use super::robust_list::{Head, Tally};
use crate::error::{Error, Result};
use std::cell::Cell;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering::*};

/// A cache line of its own: its thread writes to it at every lock and unlock.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Record {
    /// The thread's number, and its process's in the other half; 0 for none.
    pub name: Cell<u64>,
    /// The thread's robust list.
    pub head: Cell<*mut Head>,
    /// What is on that list.
    pub tally: Tally,
    next_free: Cell<Option<&'static Record>>,
}

/// The record of no thread. It is never written to.
pub const NOBODY: &Record = {
    struct Shared(Record);
    // SAFETY: only `name` is read, by any thread, and nothing is ever written.
    unsafe impl Sync for Shared {}
    static SHARED: Shared = Shared(Record {
        name: Cell::new(0),
        head: Cell::new(ptr::null_mut()),
        tally: Tally::new(),
        next_free: Cell::new(None),
    });
    &SHARED.0
};

/// The first place of the first block.
#[repr(C, align(64))]
pub struct Header {
    /// See `forks::fork_depth`; 0 in a process that has not looked at it yet.
    pub fork_depth: AtomicU32,
    busy: AtomicBool,
    free: Cell<Option<&'static Record>>,
}

// SAFETY: only `with_header` reaches `free`, one thread at a time.
unsafe impl Sync for Header {}

const _: () = assert!(size_of::<Header>() == size_of::<Record>());

/// Until there is a page for it, and where none can be had. The kernel does not empty this one.
static UNMAPPED: Header =
    Header { fork_depth: AtomicU32::new(0), busy: AtomicBool::new(false), free: Cell::new(None) };
static HEADER: AtomicPtr<Header> = AtomicPtr::new((&raw const UNMAPPED).cast_mut());

/// Block n has places for 64 * 2^n records. Together they have more than Linux lets threads live (PID_MAX_LIMIT).
const FIRST_BLOCK: usize = 64;
static BLOCKS: [AtomicPtr<Record>; 17] = [const { AtomicPtr::new(ptr::null_mut()) }; 17];

/// Places from here on were never used in this process.
static FRESH: AtomicU32 = AtomicU32::new(1);

#[inline]
pub fn header() -> &'static Header {
    // SAFETY: `UNMAPPED`, or the start of a block, which stays mapped. All zeroes is a valid header.
    unsafe { &*HEADER.load(Relaxed) }
}

/// Sees to it that the header is in a page that the kernel empties, if one can be had.
pub fn map_header() {
    if let Ok(start) = block(0) {
        HEADER.store(start.as_ptr().cast(), Relaxed);
    }
}

/// Calls `action` with the list of free records locked. It must not come back here.
pub fn with_header<T>(action: impl FnOnce(&Header) -> T) -> T {
    let header = header();
    while header.busy.compare_exchange_weak(false, true, Acquire, Relaxed).is_err() {
        std::thread::yield_now();
    }
    let result = action(header);
    header.busy.store(false, Release);
    result
}

/// A record of zeroes for the calling thread.
///
/// # Errors
/// `System` if there is no memory for it.
pub fn claim() -> Result<&'static Record> {
    with_header(|header| {
        if let Some(record) = header.free.get() {
            header.free.set(record.next_free.take());
            return Ok(record);
        }
        let index = FRESH.load(Relaxed);
        let record = place(index as usize)?;
        FRESH.store(index + 1, Relaxed);
        Ok(record)
    })
}

/// Gives a record back, whose thread ends.
pub fn release(record: &'static Record) {
    record.clear();
    with_header(|header| record.next_free.set(header.free.replace(Some(record))));
}

/// In a child, called by its fork handler in the only thread there is, with all its thread-locals reset: makes every
/// record free, and the fork depth unknown.
pub fn wipe() {
    let used = FRESH.swap(1, Relaxed);
    let header = header();
    if header.fork_depth.load(Relaxed) == 0 {
        return; // the kernel has done it
    }
    (1..used).filter_map(|index| place(index as usize).ok()).for_each(Record::clear);
    header.free.set(None);
    header.busy.store(false, Relaxed);
    header.fork_depth.store(0, Relaxed);
}

impl Record {
    fn clear(&self) {
        self.name.set(0);
        self.head.set(ptr::null_mut());
        self.tally.clear();
        self.next_free.set(None);
    }
}

fn place(index: usize) -> Result<&'static Record> {
    let number = (index / FIRST_BLOCK + 1).ilog2();
    let offset = index - FIRST_BLOCK * ((1 << number) - 1);
    // SAFETY: inside the block, which stays mapped. All zeroes is a valid record.
    Ok(unsafe { block(number as usize)?.add(offset).as_ref() })
}

/// The block with this number, mapped if it is not there yet.
fn block(number: usize) -> Result<NonNull<Record>> {
    let full = Error::System { attempt: "too many threads", errno: libc::EAGAIN };
    let block = BLOCKS.get(number).ok_or(full)?;
    if let Some(start) = NonNull::new(block.load(Acquire)) {
        return Ok(start);
    }
    let size = (FIRST_BLOCK << number) * size_of::<Record>();
    let start = map_wiped(size)?;
    match block.compare_exchange(ptr::null_mut(), start.as_ptr(), AcqRel, Acquire) {
        Ok(_) => Ok(start),
        Err(other) => {
            // SAFETY: just mapped, and nobody knows of it.
            unsafe { libc::munmap(start.as_ptr().cast(), size) };
            NonNull::new(other).ok_or(Error::System { attempt: "mmap", errno: libc::ENOMEM })
        }
    }
}

/// Private pages of zeroes, which are zeroes again in every child.
fn map_wiped(size: usize) -> Result<NonNull<Record>> {
    // SAFETY: a new anonymous mapping disturbs nothing.
    let start = unsafe {
        libc::mmap(
            ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if start == libc::MAP_FAILED {
        return Err(Error::last_os("mmap of pages for threads"));
    }
    // SAFETY: the mapping above. Kernels before 4.14 refuse: see the top of this file.
    unsafe { libc::madvise(start, size, libc::MADV_WIPEONFORK) };
    NonNull::new(start.cast()).ok_or(Error::System { attempt: "mmap", errno: libc::ENOMEM })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::Thread;

    #[test]
    fn every_place_is_its_own() {
        let places: Vec<usize> = (0..1000)
            .map(|index| place(index).map(|record| ptr::from_ref(record).addr()).unwrap_or(0))
            .collect();
        let mut distinct = places.clone();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), places.len());
        assert!(distinct.iter().all(|address| address % align_of::<Record>() == 0 && *address != 0));
    }

    #[test]
    fn threads_that_end_leave_their_records_to_others() {
        let used = FRESH.load(Relaxed);
        for _ in 0..1000 {
            let introduced = std::thread::spawn(|| Thread::current().is_ok()).join();
            assert!(matches!(introduced, Ok(true)));
        }
        // Other tests of this program may run at the same time, in a few threads.
        assert!(FRESH.load(Relaxed) < used + 100, "{} records more", FRESH.load(Relaxed) - used);
    }
}
