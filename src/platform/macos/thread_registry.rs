//! Who the threads are that take locks, and whether they are alive.
//!
//! macOS tells nobody of a death, so a waiter that has waited for long looks whether the lock's owner lives. A lock word
//! has room for a number only: the low bits of the system's number of the thread, which no other thread of the machine
//! has had since half a billion threads. Two things tell which thread that is:
//! - The word's entry. The holder writes there who it is, right after it took the word. Every process can look there,
//!   also one that is not related.
//! - The registry, in memory that all descendants share. It answers for a holder that died before it wrote into the
//!   entry. A thread takes a slot in one step, by writing its process. Slots of dead processes are taken over only when
//!   no other slot is left.
//!
//! A holder that is in neither belongs to another family of processes, and has not written into the entry yet. If it
//! has not done so a second later, it is dead.
//!
//! | slot          | contents                                                                            |
//! |---------------|-------------------------------------------------------------------------------------|
//! | `process`     | 0: free. Else the process: its pid in the upper 24 bits, its start in the lower 40   |
//! | `thread`      | the system's number of the thread, or `UNVERIFIED` and its lock words' number        |

use super::mach::{Mach, Start, System};
use crate::deadline;
use crate::error::{Error, Result};
use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::*};
use std::time::Duration;

const SLOTS: usize = 1 << 16;
/// Slots that a thread may have, from the one that its number leads to on. Numbers are given one after the other, so
/// threads are spread well.
const CHOICE: usize = 1024;
/// Numbers stay below this: `condition` uses the bit above for itself.
const BITS: u32 = 29;
/// All upper bits of a thread that the system does not know, though it exists: nobody can look whether it lives.
const UNVERIFIED: u64 = !0 << BITS;
/// How long a word may name a thread that nothing tells of.
const PATIENCE: Duration = Duration::from_secs(1);

/// A thread of a process, told from all that were before and that come after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub process: u64,
    pub thread: u64,
}

#[repr(C)]
struct ThreadSlot {
    process: AtomicU64,
    thread: AtomicU64,
}

/// All zeroes is an empty registry.
#[repr(C)]
struct Registry {
    slots: [ThreadSlot; SLOTS],
}

/// A word whose holder nothing tells of, as it was seen first.
struct Doubt {
    seen: AtomicU64,
    /// Milliseconds.
    since: AtomicU64,
}

static DOUBTS: [Doubt; 64] = [const { Doubt { seen: AtomicU64::new(0), since: AtomicU64::new(0) } }; 64];

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

impl Identity {
    /// The number in lock words. Never 0.
    pub fn number(self) -> u32 {
        ((self.thread & !UNVERIFIED) as u32).max(1)
    }

    /// As far as the system says.
    fn is_alive(self) -> bool {
        let is_verified = self.thread & UNVERIFIED != UNVERIFIED;
        is_running(self.process) && (!is_verified || System::has_thread(pid_of(self.process), self.thread))
    }
}

/// The place of a thread in the registry.
#[derive(Clone, Copy)]
pub struct Registration {
    pub identity: Identity,
    slot: usize,
}

/// Enters the calling thread, of process `pid`.
///
/// # Errors
/// `System` if there is no memory for the table, or a thousand living threads have numbers that are nearly the same.
pub fn register(pid: u32) -> Result<Registration> {
    open()?;
    let full = Error::System { attempt: "too many threads use locks", errno: libc::EAGAIN };
    let Some(registry) = registry() else { return Err(full) };
    let Start::At(start) = System::start_of(pid) else {
        return Err(Error::System { attempt: "proc_pidinfo", errno: libc::ENOSYS });
    };
    let thread = System::current_thread();
    // Where the system does not even know this thread, its word about others means nothing.
    let known = System::has_thread(pid, thread) && thread & UNVERIFIED != UNVERIFIED;
    let identity =
        Identity { process: key(pid, start), thread: if known { thread } else { thread | UNVERIFIED } };
    let slot = registry.take_free(identity).or_else(|| registry.take_dead(identity)).ok_or(full)?;
    registry.slots[slot].thread.store(identity.thread, Release);
    Ok(Registration { identity, slot })
}

/// The thread ends.
pub fn unregister(registration: Registration) {
    if let Some(registry) = registry() {
        let slot = &registry.slots[registration.slot];
        slot.thread.store(0, Relaxed);
        slot.process.store(0, Release);
    }
}

/// Whether a thread can have that number.
pub fn is_number(number: u32) -> bool {
    number != 0 && number >> BITS == 0
}

/// Whether the holder of a word is alive, whose `state` names it by `number`, and whose entry says `identity`.
pub fn is_alive(number: u32, identity: Identity, word: usize, state: u64) -> bool {
    if identity.thread != 0 && identity.number() == number {
        return identity.is_alive();
    }
    let registered = registered(number);
    match registered.clone().next() {
        Some(_) => registered.clone().any(Identity::is_alive),
        None => !is_left(word, state ^ identity.thread.rotate_left(7) ^ identity.process.rotate_left(13)),
    }
}

/// Whether a word has been as it is for so long that its holder cannot be about to say who it is.
fn is_left(word: usize, seen: u64) -> bool {
    let doubt = &DOUBTS[word / size_of::<crate::word::Word>() % DOUBTS.len()];
    let now = deadline::now().as_millis() as u64;
    if doubt.seen.load(Acquire) == seen {
        return now.saturating_sub(doubt.since.load(Relaxed)) >= PATIENCE.as_millis() as u64;
    }
    doubt.since.store(now, Relaxed);
    doubt.seen.store(seen, Release); // so that who sees it sees the time too
    false
}

/// The process of the thread with this number, if it is alive.
pub fn process_of(number: u32) -> Option<u32> {
    registered(number).find(|identity| identity.is_alive()).map(|identity| pid_of(identity.process))
}

/// The threads in the registry with this number: one, and maybe dead ones.
fn registered(number: u32) -> impl Iterator<Item = Identity> + Clone {
    let slots = registry().into_iter().flat_map(move |registry| registry.slots_for(number));
    slots.filter_map(move |(_, slot)| {
        let process = slot.process.load(Acquire);
        let identity = Identity { process, thread: slot.thread.load(Acquire) };
        (process != 0 && identity.thread != 0 && identity.number() == number).then_some(identity)
    })
}

impl Registry {
    /// The slots that a thread of this number may have.
    fn slots_for(&self, number: u32) -> impl Iterator<Item = (usize, &ThreadSlot)> + Clone {
        let indexes = (number as usize..).take(CHOICE).map(|index| index % SLOTS);
        indexes.map(|index| (index, &self.slots[index]))
    }

    fn take_free(&self, identity: Identity) -> Option<usize> {
        let mut slots = self.slots_for(identity.number());
        slots.find(|(_, slot)| slot.take(0, identity.process)).map(|(index, _)| index)
    }

    fn take_dead(&self, identity: Identity) -> Option<usize> {
        let mut slots = self.slots_for(identity.number());
        let dead = slots.find(|(_, slot)| {
            let process = slot.process.load(Acquire);
            // Not of a living process: a thread that is just taking the slot has not written its number yet.
            !is_running(process) && slot.take(process, identity.process)
        });
        dead.map(|(index, _)| index)
    }
}

impl ThreadSlot {
    fn take(&self, from: u64, key: u64) -> bool {
        self.process.load(Relaxed) == from
            && self.process.compare_exchange(from, key, AcqRel, Relaxed).is_ok()
    }
}
