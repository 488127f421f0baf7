//! The semaphores this process has rights to: one for each object it has a handle of.
//!
//! A semaphore belongs to the process that made it, which alone can destroy it; it ends with that process. All others
//! have rights to it, under the same name, by the hand-over. So names must be free in every future child: all of ours are
//! above `FLOOR`, and what a young process has by itself is below.
//!
//! All of this is private memory. It is locked while the process forks, so a child has an exact copy, and its parent an
//! exact list of what that child needs (`Rights::needed`).

use super::mach::{FIFO, Mach, Name, System};
use crate::error::{Error, Result};
use std::cell::UnsafeCell;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};

/// Names count up from 1 in their upper 24 bits. A process has a few dozen before it runs any of our code.
const FLOOR: u32 = 256;

/// What this process has.
struct Rights {
    /// By the upper bits of the name.
    names: Vec<Name>,
    count: usize,
    /// Semaphores with names below `FLOOR`, kept so that those names are taken.
    low: Vec<Name>,
    /// Forks that are under way: what they need is given up only after them.
    forks: u32,
    given_up: Vec<Right>,
    /// What the child of the last fork needs, or in a child, what has not been handed to it.
    needed: Vec<Name>,
}

/// A right that an object had.
#[derive(Clone, Copy, Debug)]
pub struct Right {
    pub name: Name,
    /// This process made it, and no fork has happened since: nobody else has it.
    pub sole: bool,
}

struct Guarded(UnsafeCell<Rights>);
// SAFETY: only `with_rights` and the fork handlers reach the inside, one thread at a time.
unsafe impl Sync for Guarded {}

static RIGHTS: Guarded = Guarded(UnsafeCell::new(Rights {
    names: Vec::new(),
    count: 0,
    low: Vec::new(),
    forks: 0,
    given_up: Vec::new(),
    needed: Vec::new(),
}));
static BUSY: AtomicBool = AtomicBool::new(false);
/// Objects born in a fork fork_depth before this one have no rights here.
static CUT: AtomicU32 = AtomicU32::new(0);
static CUT_BEFORE: AtomicU32 = AtomicU32::new(0);

fn enter() {
    while BUSY.compare_exchange_weak(false, true, Acquire, Relaxed).is_err() {
        std::thread::yield_now();
    }
}

fn exit() {
    BUSY.store(false, Release);
}

/// No thread may be halfway through it while the process is copied.
pub fn register_atfork() {
    static AT_FORK: Once = Once::new();
    // SAFETY: the handlers call nothing that is not allowed after fork.
    AT_FORK.call_once(|| unsafe {
        libc::pthread_atfork(Some(before_fork), Some(exit_in_parent), Some(exit_in_child));
    });
}

fn with_rights<T>(action: impl FnOnce(&mut Rights) -> T) -> T {
    register_atfork();
    enter();
    // SAFETY: BUSY keeps all other threads out, and `action` never comes back here.
    let result = action(unsafe { &mut *RIGHTS.0.get() });
    exit();
    result
}

extern "C" fn before_fork() {
    enter();
    // SAFETY: BUSY, as above.
    let rights = unsafe { &mut *RIGHTS.0.get() };
    if super::handover::is_mine() {
        rights.needed = rights.all();
    }
}

extern "C" fn exit_in_parent() {
    exit();
}

extern "C" fn exit_in_child() {
    // SAFETY: BUSY, which the thread that this one is a copy of has taken.
    let rights = unsafe { &mut *RIGHTS.0.get() };
    rights.needed = rights.all();
    rights.names.fill(0);
    rights.low.clear();
    rights.given_up.clear();
    (rights.count, rights.forks) = (0, 0);
    exit();
}

/// A new semaphore at 0.
///
/// # Errors
/// `System` if the kernel has no more ports or semaphores.
pub fn create() -> Result<Name> {
    loop {
        let name = System::semaphore_create(System::task_self(), FIFO, 0)
            .map_err(|_| Error::System { attempt: "no Mach semaphore is to be had", errno: libc::ENOSPC })?;
        let low = index(name) < FLOOR as usize;
        with_rights(|rights| if low { rights.low.push(name) } else { rights.put(name) });
        if !low {
            return Ok(name);
        }
    }
}

/// Gives up the right of an object that this process has no handle of any more.
pub fn give_up(right: Right) {
    let now = with_rights(|rights| {
        rights.remove(right.name);
        if rights.forks > 0 {
            rights.given_up.push(right);
        }
        rights.forks == 0
    });
    if now {
        end(right);
    }
}

fn end(right: Right) {
    // A failure means that it is gone already.
    let _ = if right.sole {
        System::semaphore_destroy(System::task_self(), right.name)
    } else {
        System::port_deallocate(System::task_self(), right.name)
    };
}

/// Whether there is anything to hand to a child.
pub fn is_empty() -> bool {
    with_rights(|rights| rights.count == 0)
}

/// A fork with hand-over begins.
pub fn fork_begins() {
    with_rights(|rights| rights.forks += 1);
}

/// It is over, in the parent.
pub fn fork_ends() {
    let given_up = with_rights(|rights| {
        rights.forks -= 1;
        if rights.forks == 0 { std::mem::take(&mut rights.given_up) } else { Vec::new() }
    });
    given_up.into_iter().for_each(end);
}

/// What the child of the fork that this thread just made needs.
pub fn needed() -> Vec<Name> {
    with_rights(|rights| std::mem::take(&mut rights.needed))
}

/// In a child: it has been handed all that it needs.
pub fn complete() {
    with_rights(|rights| {
        for name in std::mem::take(&mut rights.needed) {
            rights.put(name);
        }
    });
    CUT.store(CUT_BEFORE.load(Relaxed), Relaxed);
}

/// In a child, first thing: objects from before this fork, whose fork_depth is `forks`, are out of reach.
pub fn cut_off(forks: u32) {
    CUT_BEFORE.store(CUT.load(Relaxed), Relaxed);
    CUT.store(forks, Relaxed);
}

/// Whether this process has the rights of objects that were born in fork fork_depth `born`.
#[inline]
pub fn is_accessible(born: u32) -> bool {
    born >= CUT.load(Relaxed)
}

fn index(name: Name) -> usize {
    (name >> 8) as usize
}

impl Rights {
    fn put(&mut self, name: Name) {
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
