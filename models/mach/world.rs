//! What the kernel keeps: objects, and tasks that have rights to them. It is in memory that the first process to call
//! maps, and all its descendants share, under one lock.

use super::faults::{self, Step, call_begins};
use super::messages::Queued;
use super::names::Right;
use super::processes::Owner;
use crate::platform::mach::Result;
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::*};

pub(super) const TASKS: usize = 512;
pub(super) const NAMES: usize = 1 << 18;
const OBJECTS: usize = 1 << 19;
pub(super) const MESSAGES: usize = 256;

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Kind {
    Free = 0,
    Port,
    Semaphore,
    Task,
    Host,
    Clock,
}

/// The target of rights.
#[repr(C)]
pub(super) struct Object {
    pub kind: Kind,
    /// The task that receives from the port, that the semaphore belongs to, or that this is.
    pub owner: Owner,
    pub rights: u32,
    /// A semaphore's value.
    pub count: AtomicU32,
}

#[repr(C)]
pub(super) struct Task {
    pub owner: Owner,
    /// No name below this index is free; none at or above `top` was ever used.
    pub free: u32,
    pub top: u32,
    pub bootstrap: u32,
    pub task_port: u32,
    pub rights: [Right; NAMES],
}

#[repr(C)]
pub(super) struct World {
    pub lock: libc::pthread_mutex_t,
    pub sent: u64,
    pub fresh: u32, // no object at or above was ever used
    pub freed: u32, // no object below is free
    pub queue: [Queued; MESSAGES],
    pub objects: [Object; OBJECTS],
    pub tasks: [Task; TASKS],
}

struct Shared(UnsafeCell<*mut World>);
// SAFETY: the pointer is written once; what it points to is guarded by the lock in it.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

static WORLD: OnceLock<Shared> = OnceLock::new();
/// This process's task, plus 1.
pub(super) static OWN_TASK: AtomicU32 = AtomicU32::new(0);
/// The bootstrap port at the last fork, which the child gets.
pub(super) static INHERITED: AtomicU32 = AtomicU32::new(0);
pub(super) static LIBRARY_BOOTSTRAP: AtomicU32 = AtomicU32::new(0);

fn world() -> *mut World {
    let shared = WORLD.get_or_init(|| {
        // SAFETY: a new mapping; zeroes are a valid world but for the lock, which nobody uses before it is made.
        unsafe {
            let world: *mut World = libc::mmap(
                ptr::null_mut(),
                size_of::<World>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
            .cast();
            assert!(world.cast() != libc::MAP_FAILED, "no memory for the simulated kernel");
            let mut attributes: libc::pthread_mutexattr_t = std::mem::zeroed();
            libc::pthread_mutexattr_init(&mut attributes);
            libc::pthread_mutexattr_setpshared(&mut attributes, libc::PTHREAD_PROCESS_SHARED);
            libc::pthread_mutexattr_setrobust(&mut attributes, libc::PTHREAD_MUTEX_ROBUST);
            libc::pthread_mutex_init(&raw mut (*world).lock, &attributes);
            (*world).fresh = 1; // object 0 is none
            (*world).freed = 1;
            libc::pthread_atfork(Some(before_fork), Some(after_fork), Some(in_child));
            Shared(UnsafeCell::new(world))
        }
    });
    // SAFETY: written before it was shared.
    unsafe { *shared.0.get() }
}

pub(super) fn lock() {
    // SAFETY: initialised with the world.
    unsafe {
        let mutex = &raw mut (*world()).lock;
        // It never sleeps: tests take a process that sleeps for one that waits for the object under test.
        loop {
            match libc::pthread_mutex_trylock(mutex) {
                0 => return,
                libc::EOWNERDEAD => {
                    libc::pthread_mutex_consistent(mutex);
                    return;
                }
                _ => libc::sched_yield(),
            };
        }
    }
}

pub(super) fn unlock() {
    // SAFETY: as above; this thread has it.
    unsafe { libc::pthread_mutex_unlock(&raw mut (*world()).lock) };
}

extern "C" fn before_fork() {
    inside(|_, _| {}); // so that this process is a task
    lock(); // until the child is there, so that no process sees it half made and no other thread forks
    let me = OWN_TASK.load(Relaxed) as usize - 1;
    // SAFETY: the lock is held, so this is the only reference.
    let world = unsafe { &mut *world() };
    let object = world.tasks[me].bootstrap;
    world.retain(object);
    INHERITED.store(object, Relaxed);
}

extern "C" fn after_fork() {
    unlock();
}

extern "C" fn in_child() {
    OWN_TASK.store(0, Relaxed);
    faults::forget();
}

/// Runs `action` in the kernel, for this process's task.
pub(super) fn inside<T>(action: impl FnOnce(&mut World, usize) -> T) -> T {
    let _step = Step::begin();
    lock();
    // SAFETY: the lock is held, so this is the only reference.
    let world = unsafe { &mut *world() };
    let me = match OWN_TASK.load(Relaxed) {
        0 => world.register(),
        known => known as usize - 1,
    };
    let result = action(world, me);
    unlock();
    result
}

/// As `inside`, for a call that can fail.
pub(super) fn call<T>(action: impl FnOnce(&mut World, usize) -> Result<T>) -> Result<T> {
    call_begins()?;
    inside(action)
}
