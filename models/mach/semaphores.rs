//! Semaphores: shared counting words, whose waiters sleep in a futex.

use super::faults::Step;
use super::processes::Owner;
use super::world::{Kind, Object, call};
use crate::platform::mach::{Code, Name, Result};
use std::sync::atomic::{AtomicU32, Ordering::*};
use std::time::{Duration, Instant};

/// The semaphore this process calls `name`. It stays while the process has the right.
fn semaphore(name: Name) -> Result<&'static Object> {
    let _step = Step::begin();
    call(|world, me| {
        let object = world.object(me, name).map_err(|_| Code::INVALID_NAME)?;
        let object = &raw const world.objects[object as usize];
        // SAFETY: objects never move, and the world is never unmapped.
        let object = unsafe { &*object };
        if object.kind == Kind::Semaphore { Ok(object) } else { Err(Code::INVALID_ARGUMENT) }
    })
}

/// Waits on a shared word while it is 0. False if a signal came.
fn sleep_on(word: &AtomicU32, time: Duration) -> bool {
    let time = libc::timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos().into() };
    // SAFETY: a shared futex wait on a mapped word, with a valid time.
    let result =
        unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, 0, &raw const time) };
    result == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::EINTR)
}

fn wake_all(word: &AtomicU32, how_many: i32) {
    // SAFETY: a wake uses the address as a key only.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, how_many) };
}

/// How often a waiter looks whether the semaphore's task lives. The real kernel would wake it at once.
const LOOK: Duration = Duration::from_millis(20);

pub(super) fn wait(name: Name, limit: Option<Duration>) -> Result<()> {
    let semaphore = semaphore(name)?;
    let mut until = None; // counted from the first sleep on
    loop {
        if semaphore.count.fetch_update(Acquire, Relaxed, |count| count.checked_sub(1)).is_ok() {
            return Ok(());
        }
        if !semaphore.owner.is_alive() {
            return Err(Code::TERMINATED);
        }
        let now = Instant::now();
        let until = *until.get_or_insert(limit.and_then(|limit| now.checked_add(limit)));
        let left = until.map_or(LOOK, |until| until.saturating_duration_since(now));
        if left.is_zero() {
            return Err(Code::OPERATION_TIMED_OUT);
        }
        if !sleep_on(&semaphore.count, left.min(LOOK)) {
            return Err(Code::ABORTED);
        }
    }
}

pub(super) fn create(task: Name, value: i32) -> Result<Name> {
    call(|world, me| {
        let task = world.task(me, task)?;
        let owner = world.tasks[task].owner;
        let object = world.create(Kind::Semaphore, owner);
        world.objects[object as usize].count.store(value as u32, Relaxed);
        world.retain(object);
        world.give_send(me, object)
    })
}

pub(super) fn destroy(task: Name, semaphore: Name) -> Result<()> {
    call(|world, me| {
        let task = world.task(me, task)?;
        let object = world.object(me, semaphore)?;
        let found = &mut world.objects[object as usize];
        if found.kind != Kind::Semaphore || found.owner != world.tasks[task].owner {
            return Err(Code::INVALID_ARGUMENT);
        }
        found.owner = Owner::NOBODY; // so its waiters find it terminated
        wake_all(&found.count, i32::MAX);
        world.deallocate(me, semaphore)
    })
}

pub(super) fn signal(name: Name) -> Result<()> {
    let _step = Step::begin();
    let semaphore = semaphore(name)?;
    if !semaphore.owner.is_alive() {
        return Err(Code::TERMINATED);
    }
    semaphore.count.fetch_add(1, Release);
    wake_all(&semaphore.count, 1);
    Ok(())
}

/// Not exact: threads that come within the next milliseconds pass too.
pub(super) fn signal_all(name: Name) -> Result<()> {
    let semaphore = semaphore(name)?;
    semaphore.count.fetch_add(64, Release);
    wake_all(&semaphore.count, i32::MAX);
    std::thread::sleep(Duration::from_millis(5));
    semaphore.count.store(0, Relaxed);
    Ok(())
}
