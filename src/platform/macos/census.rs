//! Who takes part: a number for every thread that takes locks, which says whether that thread is alive.
//!
//! macOS tells nobody of a death, so whoever finds a lock held for long looks whether its holder lives. A lock word has
//! room for a number only; this table, in memory that all descendants share, says which thread has it. A number is a
//! seat and the seat's fork_depth. A thread takes a seat, in one step, by writing who it is; then it raises the
//! fork_depth, so a word left by somebody who had the seat before names nobody any more. Seats of dead
//! processes are taken over only when no other is left.
//!
//! | seat          | what                                                                                |
//! |---------------|-------------------------------------------------------------------------------------|
//! | `holder`      | 0: free. Else the process: its pid in the upper 24 bits, the lower 40 of its start   |
//! | `fork_depth`  | times it was taken                                                                   |
//! | `thread`      | the system's number of the thread, 0: not known                                      |

use super::mach::{Mach, Start, System};
use crate::error::{Error, Result};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

const SEAT_BITS: u32 = 16;
const SEATS: usize = 1 << SEAT_BITS;
/// Numbers stay below this: `condition` uses the bit above for itself.
const BITS: u32 = 29;
const GENERATIONS: u32 = 1 << (BITS - SEAT_BITS);

#[repr(C)]
struct Seat {
    holder: AtomicU64,
    thread: AtomicU64,
    fork_depth: AtomicU32,
}

/// All zeroes is a census of nobody. Seat 0 is never taken, so no number is 0.
#[repr(C)]
struct Census {
    next: AtomicU32,
    seats: [Seat; SEATS],
}

struct Shared(NonNull<Census>);
// SAFETY: shared memory of atomics, never unmapped.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

static CENSUS: OnceLock<Shared> = OnceLock::new();

/// Maps the table, unless this process or an ancestor has. To be called before there is anything that could be shared.
pub fn open() -> Result<()> {
    if CENSUS.get().is_none() {
        let table = super::map(size_of::<Census>())?.cast();
        if CENSUS.set(Shared(table)).is_err() {
            // SAFETY: another thread was quicker; nobody knows of this one.
            unsafe { super::unmap(table.cast(), size_of::<Census>()) };
        }
    }
    Ok(())
}

fn census() -> Option<&'static Census> {
    // SAFETY: mapped for good; zeroes were a valid table.
    CENSUS.get().map(|shared| unsafe { shared.0.as_ref() })
}

fn key(pid: u32, start: u64) -> u64 {
    u64::from(pid) << 40 | start & 0xff_ffff_ffff
}

fn pid_of(key: u64) -> u32 {
    (key >> 40) as u32
}

/// The process with this key, if the system says that it is there.
fn is_running(key: u64) -> bool {
    match System::start_of(pid_of(key)) {
        Start::At(start) => self::key(pid_of(key), start) == key,
        Start::Hidden => true,
        Start::Gone => false,
    }
}

/// A number for the calling thread, of process `pid`.
///
/// # Errors
/// `System` if there is no memory for the table, or 65,535 living threads have numbers.
pub fn join(pid: u32) -> Result<u32> {
    open()?;
    let full = Error::System { attempt: "too many threads use locks", errno: libc::EAGAIN };
    let Some(census) = census() else { return Err(full) };
    let Start::At(start) = System::start_of(pid) else {
        return Err(Error::System { attempt: "proc_pidinfo", errno: libc::ENOSYS });
    };
    let key = key(pid, start);
    let seat = census.take_free(key).or_else(|| census.take_dead(key)).ok_or(full)?;
    let fork_depth = census.seats[seat].fork_depth.fetch_add(1, AcqRel) + 1;
    let thread = System::current_thread();
    // Where the system does not even know this thread, its word about others means nothing.
    let known = if System::has_thread(pid, thread) { thread } else { 0 };
    census.seats[seat].thread.store(known, Release);
    Ok((fork_depth % GENERATIONS) << SEAT_BITS | seat as u32)
}

/// Gives back a number: from here on it names nobody.
pub fn leave(number: u32) {
    if let Some(census) = census() {
        census.seats[number as usize % SEATS].holder.store(0, Release);
    }
}

/// Whether the thread with this number is alive. Anything that is not a number of the census is.
pub fn is_alive(number: u32) -> bool {
    let Some(holder) = holder(number) else { return number >> BITS != 0 };
    let thread = holder.0.thread.load(Acquire);
    is_running(holder.1) && (thread == 0 || System::has_thread(pid_of(holder.1), thread))
}

/// The process of the thread with this number, if it is alive.
pub fn process_of(number: u32) -> Option<u32> {
    holder(number).filter(|holder| is_running(holder.1)).map(|holder| pid_of(holder.1))
}

/// The seat that this number names, and who holds it.
fn holder(number: u32) -> Option<(&'static Seat, u64)> {
    let seat = &census()?.seats[number as usize % SEATS];
    let holder = seat.holder.load(Acquire);
    let fork_depth = seat.fork_depth.load(Acquire) % GENERATIONS;
    (holder != 0 && fork_depth == number >> SEAT_BITS).then_some((seat, holder))
}

impl Census {
    fn take_free(&self, key: u64) -> Option<usize> {
        (0..SEATS).find_map(|_| {
            let seat = self.next.fetch_add(1, Relaxed) as usize % SEATS;
            (seat != 0 && self.seats[seat].take(0, key)).then_some(seat)
        })
    }

    fn take_dead(&self, key: u64) -> Option<usize> {
        (1..SEATS).find(|&seat| {
            let holder = self.seats[seat].holder.load(Acquire);
            // Not of a living process: a thread that is just taking the seat has not written its number yet.
            !is_running(holder) && self.seats[seat].take(holder, key)
        })
    }
}

impl Seat {
    fn take(&self, from: u64, key: u64) -> bool {
        self.holder.load(Relaxed) == from && self.holder.compare_exchange(from, key, AcqRel, Relaxed).is_ok()
    }
}
