//! This process's names for the semaphores of the objects it has handles of.
//!
//! A semaphore belongs to the process that made it, which alone can destroy it, and ends with that process. Other
//! processes get a right to it by the hand-over, under the same name. So a name must be free in every future child: all
//! our names are above `FLOOR`, and a young process has only names below it.
//!
//! The names are private memory. They are locked while the process forks, so a child has an exact copy, and its parent an
//! exact list of what the child inherits.

use super::fork_preparation;
use super::mach::{FIFO, Mach, Name, System};
use crate::error::{Error, Result};
use std::cell::UnsafeCell;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};

/// Names count up from 1 in their upper 24 bits. A process has a few dozen before it runs any of our code.
const FLOOR: u32 = 256;

struct PortNames {
    /// By the upper bits of the name.
    names: Vec<Name>,
    count: usize,
    /// Semaphores with names below `FLOOR`, kept so that those names are taken.
    low: Vec<Name>,
    /// Forks that are under way. Rights that a child inherits are released after them.
    forks: u32,
    deferred: Vec<Right>,
    /// What the child of the last fork inherits, or in a child, what has not been handed over yet.
    inherited: Vec<Name>,
}

/// The right to an object's semaphore.
#[derive(Clone, Copy, Debug)]
pub struct Right {
    pub name: Name,
    /// This process made it and has not forked since, so no other process has it.
    pub sole: bool,
}

struct Guarded(UnsafeCell<PortNames>);
// SAFETY: only `with_names` and the fork handlers reach the inside, one thread at a time.
unsafe impl Sync for Guarded {}

static NAMES: Guarded = Guarded(UnsafeCell::new(PortNames {
    names: Vec::new(),
    count: 0,
    low: Vec::new(),
    forks: 0,
    deferred: Vec::new(),
    inherited: Vec::new(),
}));
static LOCKED: AtomicBool = AtomicBool::new(false);
/// Objects made at a smaller fork depth are not accessible here.
static ACCESSIBLE_FROM: AtomicU32 = AtomicU32::new(0);
/// The same before this process's fork.
static ACCESSIBLE_FROM_BEFORE: AtomicU32 = AtomicU32::new(0);

fn lock() {
    while LOCKED.compare_exchange_weak(false, true, Acquire, Relaxed).is_err() {
        std::thread::yield_now();
    }
}

fn unlock() {
    LOCKED.store(false, Release);
}

/// No thread may be in the middle of a change while the process is copied.
pub fn register_atfork() {
    static AT_FORK: Once = Once::new();
    // SAFETY: the handlers call nothing that is not allowed after fork.
    AT_FORK.call_once(|| unsafe {
        libc::pthread_atfork(Some(before_fork), Some(unlock_in_parent), Some(unlock_in_child));
    });
}

fn with_names<T>(action: impl FnOnce(&mut PortNames) -> T) -> T {
    register_atfork();
    lock();
    // SAFETY: LOCKED keeps all other threads out, and `action` never comes back here.
    let result = action(unsafe { &mut *NAMES.0.get() });
    unlock();
    result
}

extern "C" fn before_fork() {
    lock();
    // SAFETY: LOCKED, as above.
    let names = unsafe { &mut *NAMES.0.get() };
    if fork_preparation::is_mine() {
        names.inherited = names.all();
    }
}

extern "C" fn unlock_in_parent() {
    unlock();
}

extern "C" fn unlock_in_child() {
    // SAFETY: LOCKED was taken by the parent's thread, which this one is a copy of.
    let names = unsafe { &mut *NAMES.0.get() };
    names.inherited = names.all();
    names.names.fill(0);
    names.low.clear();
    names.deferred.clear();
    (names.count, names.forks) = (0, 0);
    unlock();
}

/// A new semaphore at 0.
///
/// # Errors
/// `System` if the kernel has no more ports or semaphores.
pub fn create_semaphore() -> Result<Name> {
    loop {
        let name = System::semaphore_create(System::task_self(), FIFO, 0)
            .map_err(|_| Error::System { attempt: "creating a Mach semaphore", errno: libc::ENOSPC })?;
        let low = index(name) < FLOOR as usize;
        with_names(|names| if low { names.low.push(name) } else { names.insert(name) });
        if !low {
            return Ok(name);
        }
    }
}

/// Releases the right to the semaphore of an object that this process has no handle of any more.
pub fn release(right: Right) {
    let now = with_names(|names| {
        names.remove(right.name);
        if names.forks > 0 {
            names.deferred.push(right);
        }
        names.forks == 0
    });
    if now {
        release_now(right);
    }
}

fn release_now(right: Right) {
    // A failure means that the semaphore is gone already.
    let _ = if right.sole {
        System::semaphore_destroy(System::task_self(), right.name)
    } else {
        System::port_deallocate(System::task_self(), right.name)
    };
}

/// Whether a child would inherit nothing.
pub fn is_empty() -> bool {
    with_names(|names| names.count == 0)
}

/// A fork with hand-over begins.
pub fn fork_begins() {
    with_names(|names| names.forks += 1);
}

/// A fork with hand-over is over, in the parent.
pub fn fork_ends() {
    let deferred = with_names(|names| {
        names.forks -= 1;
        if names.forks == 0 { std::mem::take(&mut names.deferred) } else { Vec::new() }
    });
    deferred.into_iter().for_each(release_now);
}

/// What the child of the fork that this thread just made inherits.
pub fn take_inherited() -> Vec<Name> {
    with_names(|names| std::mem::take(&mut names.inherited))
}

/// In a child: all that it inherits has been handed over.
pub fn inherited_all() {
    with_names(|names| {
        for name in std::mem::take(&mut names.inherited) {
            names.insert(name);
        }
    });
    ACCESSIBLE_FROM.store(ACCESSIBLE_FROM_BEFORE.load(Relaxed), Relaxed);
}

/// In a child, first thing: objects made at a smaller fork depth than `fork_depth` are not accessible.
pub fn make_older_inaccessible(fork_depth: u32) {
    ACCESSIBLE_FROM_BEFORE.store(ACCESSIBLE_FROM.load(Relaxed), Relaxed);
    ACCESSIBLE_FROM.store(fork_depth, Relaxed);
}

/// Whether this process has the rights of objects that were made at fork depth `made_at`.
#[inline]
pub fn is_accessible(made_at: u32) -> bool {
    made_at >= ACCESSIBLE_FROM.load(Relaxed)
}

fn index(name: Name) -> usize {
    (name >> 8) as usize
}

impl PortNames {
    fn insert(&mut self, name: Name) {
        if self.names.len() <= index(name) {
            self.names.resize(index(name) + 1, 0);
        }
        self.count += usize::from(self.names[index(name)] == 0);
        self.names[index(name)] = name;
    }

    fn remove(&mut self, name: Name) {
        if self.names.get(index(name)) == Some(&name) {
            self.names[index(name)] = 0;
            self.count -= 1;
        }
    }

    fn all(&self) -> Vec<Name> {
        self.names.iter().copied().filter(|&name| name != 0).collect()
    }
}
