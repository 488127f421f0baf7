//! A number for every thread that takes locks, which tells whether the thread is alive.
//!
//! macOS tells nobody of a death, so a waiter that has waited for long looks whether the lock's owner lives. A lock word
//! has room for a number only; the registry, in memory that all descendants share, says which thread the number is.
//! A number is a slot and the slot's generation. A thread takes a slot in one step, by writing its process; then it
//! raises the generation, so that a word left by an earlier thread of the slot names nobody any more. Slots of dead
//! processes are taken over only when no other slot is left.
//!
//! | slot          | contents                                                                            |
//! |---------------|-------------------------------------------------------------------------------------|
//! | `process`     | 0: free. Else the process: its pid in the upper 24 bits, its start in the lower 40   |
//! | `generation`  | times it was taken                                                                  |
//! | `thread`      | the system's number of the thread; 0: not known                                     |

use super::mach::{Mach, Start, System};
use crate::error::{Error, Result};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};

const SLOT_BITS: u32 = 16;
const SLOTS: usize = 1 << SLOT_BITS;
/// Numbers stay below this: `condition` uses the bit above for itself.
const BITS: u32 = 29;
const GENERATIONS: u32 = 1 << (BITS - SLOT_BITS);

#[repr(C)]
struct ThreadSlot {
    process: AtomicU64,
    thread: AtomicU64,
    generation: AtomicU32,
}

/// All zeroes is an empty registry. Slot 0 is never taken, so no number is 0.
#[repr(C)]
struct Registry {
    next: AtomicU32,
    slots: [ThreadSlot; SLOTS],
}

struct Shared(NonNull<Registry>);
// SAFETY: shared memory of atomics, never unmapped.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

static REGISTRY: OnceLock<Shared> = OnceLock::new();

/// Maps the registry, unless this process or an ancestor has. To be called before anything that could be shared exists.
pub fn open() -> Result<()> {
    if REGISTRY.get().is_none() {
        let table = super::map(size_of::<Registry>())?.cast();
        if REGISTRY.set(Shared(table)).is_err() {
            // SAFETY: another thread was quicker; nobody knows of this mapping.
            unsafe { super::unmap(table.cast(), size_of::<Registry>()) };
        }
    }
    Ok(())
}

fn registry() -> Option<&'static Registry> {
    // SAFETY: mapped for good; zeroes were a valid table.
    REGISTRY.get().map(|shared| unsafe { shared.0.as_ref() })
}

fn key(pid: u32, start: u64) -> u64 {
    u64::from(pid) << 40 | start & 0xff_ffff_ffff
}

fn pid_of(key: u64) -> u32 {
    (key >> 40) as u32
}

/// Whether the process with this key is there, as far as the system says.
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
pub fn register(pid: u32) -> Result<u32> {
    open()?;
    let full = Error::System { attempt: "too many threads use locks", errno: libc::EAGAIN };
    let Some(registry) = registry() else { return Err(full) };
    let Start::At(start) = System::start_of(pid) else {
        return Err(Error::System { attempt: "proc_pidinfo", errno: libc::ENOSYS });
    };
    let key = key(pid, start);
    let index = registry.take_free(key).or_else(|| registry.take_dead(key)).ok_or(full)?;
    let slot = &registry.slots[index];
    let generation = slot.generation.fetch_add(1, AcqRel) + 1;
    let thread = System::current_thread();
    // Where the system does not even know this thread, its word about others means nothing.
    let known = if System::has_thread(pid, thread) { thread } else { 0 };
    slot.thread.store(known, Release);
    Ok((generation % GENERATIONS) << SLOT_BITS | index as u32)
}

/// Gives back a number: from here on it names nobody.
pub fn unregister(number: u32) {
    if let Some(registry) = registry() {
        registry.slots[number as usize % SLOTS].process.store(0, Release);
    }
}

/// Whether the thread with this number is alive. True for anything that is not a number of the registry.
pub fn is_alive(number: u32) -> bool {
    let Some((slot, process)) = look_up(number) else { return number >> BITS != 0 };
    let thread = slot.thread.load(Acquire);
    is_running(process) && (thread == 0 || System::has_thread(pid_of(process), thread))
}

/// The process of the thread with this number, if it is alive.
pub fn process_of(number: u32) -> Option<u32> {
    look_up(number).filter(|(_, process)| is_running(*process)).map(|(_, process)| pid_of(process))
}

/// The slot that this number names, and the process that has it.
fn look_up(number: u32) -> Option<(&'static ThreadSlot, u64)> {
    let slot = &registry()?.slots[number as usize % SLOTS];
    let process = slot.process.load(Acquire);
    let generation = slot.generation.load(Acquire) % GENERATIONS;
    (process != 0 && generation == number >> SLOT_BITS).then_some((slot, process))
}

impl Registry {
    fn take_free(&self, key: u64) -> Option<usize> {
        (0..SLOTS).find_map(|_| {
            let index = self.next.fetch_add(1, Relaxed) as usize % SLOTS;
            (index != 0 && self.slots[index].take(0, key)).then_some(index)
        })
    }

    fn take_dead(&self, key: u64) -> Option<usize> {
        (1..SLOTS).find(|&index| {
            let process = self.slots[index].process.load(Acquire);
            // Not of a living process: a thread that is just taking the slot has not written its number yet.
            !is_running(process) && self.slots[index].take(process, key)
        })
    }
}

impl ThreadSlot {
    fn take(&self, from: u64, key: u64) -> bool {
        self.process.load(Relaxed) == from
            && self.process.compare_exchange(from, key, AcqRel, Relaxed).is_ok()
    }
}
