//! The hand-over of port rights to a forked child, over the model of the Mach kernel: what arrives, what happens when
//! parent or child are killed at each of its steps, when a call fails, when threads fork at once.

#![cfg(feature = "simulated-mach")]
#![allow(clippy::unwrap_used, clippy::panic)]

use process_shared_core::platform::handover::{Handover, Unprepared, prepare};
use process_shared_core::platform::mach::{BOOTSTRAP, Mach, System};
use process_shared_core::platform::simulated::{die_at, fail_at};
use process_shared_core::{
    Deadline, Map, Mutex, Outcome, Queue, Semaphore, SemaphoreKind, SharedObject, Thread,
};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The bootstrap port belongs to the whole process, so these tests run one at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ready() -> Option<Handover> {
    loop {
        match prepare() {
            Ok(handover) => return handover,
            Err(Unprepared::Busy) => std::thread::yield_now(),
            Err(Unprepared::Failed(code)) => panic!("{code:?}"),
        }
    }
}

/// Forks as the Ruby hook does, with something to do right before the child's part and before the parent's.
fn fork_with(child: impl FnOnce() -> i32, in_child: impl FnOnce(), in_parent: impl FnOnce()) -> libc::pid_t {
    let handover = ready();
    // SAFETY: the child runs one function and leaves by _exit.
    match unsafe { libc::fork() } {
        0 => {
            in_child();
            let received = handover.is_none_or(|handover| handover.receive().is_ok());
            die_at(0);
            fail_at(0);
            let status = if received { child() } else { 99 };
            // SAFETY: ends this process at once.
            unsafe { libc::_exit(status) }
        }
        pid => {
            assert!(pid > 0, "{}", std::io::Error::last_os_error());
            in_parent();
            if let Some(handover) = handover {
                handover.serve(Some(pid as u32));
            }
            die_at(0);
            fail_at(0);
            pid
        }
    }
}

fn fork(child: impl FnOnce() -> i32) -> libc::pid_t {
    fork_with(child, || {}, || {})
}

/// The exit status, or minus the signal that ended it.
fn reap(pid: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: `pid` is a child of this process.
    unsafe { libc::waitpid(pid, &mut status, 0) };
    if libc::WIFSIGNALED(status) { -libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) }
}

fn bootstrap() -> u32 {
    let name = System::task_get_special_port(System::task_self(), BOOTSTRAP).unwrap();
    System::port_deallocate(System::task_self(), name).unwrap();
    name
}

/// Waits for a post, for at most 10 s. Returns 0 if it came, else 1.
fn wait_for(semaphore: &Semaphore) -> i32 {
    let thread = Thread::current().unwrap();
    match semaphore.wait(&thread, Deadline::after(Duration::from_secs(10))) {
        Outcome::Acquired => 0,
        _ => 1,
    }
}

#[test]
fn a_child_can_use_what_was_made_before_the_fork() {
    let _alone = alone();
    let (there, back) = (Semaphore::new(0).unwrap(), Semaphore::new(0).unwrap());
    let own = bootstrap();
    let child = fork(|| {
        back.post(&Thread::current().unwrap(), 1).unwrap();
        let own_again = System::bootstrap_port() == bootstrap();
        wait_for(&there) + 2 * i32::from(!own_again)
    });
    assert_eq!(bootstrap(), own);
    assert_eq!(wait_for(&back), 0);
    there.post(&Thread::current().unwrap(), 1).unwrap();
    assert_eq!(reap(child), 0);
}

#[test]
fn signals_go_through_the_semaphore_and_not_by_the_clock() {
    let _alone = alone();
    let (ping, pong) = (Semaphore::new(0).unwrap(), Semaphore::new(0).unwrap());
    const ROUNDS: u32 = 300;
    let child = fork(|| {
        (0..ROUNDS)
            .map(|_| wait_for(&ping) + i32::from(pong.post(&Thread::current().unwrap(), 1).is_err()))
            .sum()
    });
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        ping.post(&Thread::current().unwrap(), 1).unwrap();
        assert_eq!(wait_for(&pong), 0);
    }
    assert_eq!(reap(child), 0);
    // The clock alone would make it about a millisecond for each of 600 hand-overs, and more when they are long.
    assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
}

#[test]
fn a_fork_within_a_fork() {
    let _alone = alone();
    let semaphore = Semaphore::new(0).unwrap();
    let child = fork(|| {
        let own = Semaphore::new(0).unwrap();
        let grandchild = fork(|| {
            own.post(&Thread::current().unwrap(), 1).unwrap();
            wait_for(&semaphore)
        });
        let came = wait_for(&own);
        semaphore.post(&Thread::current().unwrap(), 1).unwrap();
        came + reap(grandchild)
    });
    assert_eq!(reap(child), 0);
}

#[test]
fn a_fork_while_another_is_prepared_on_the_same_thread() {
    let _alone = alone();
    let semaphore = Semaphore::new(0).unwrap();
    let own = bootstrap();
    let outer = ready().unwrap();
    let inner = fork(|| wait_for(&semaphore) + 2 * i32::from(System::bootstrap_port() != bootstrap()));
    outer.serve(None);
    assert_eq!(bootstrap(), own);
    semaphore.post(&Thread::current().unwrap(), 1).unwrap();
    assert_eq!(reap(inner), 0);
}

#[test]
fn what_was_dropped_before_the_fork_is_not_copied() {
    let _alone = alone();
    let kept = Semaphore::new(0).unwrap();
    let dropped = Semaphore::new(0).unwrap();
    drop(dropped);
    // The child's next semaphore gets the lowest free name: that of the dropped one, unless it was copied.
    let name_of_next = || System::semaphore_create(System::task_self(), 0, 0).unwrap();
    let child = fork(|| {
        let mut names: Vec<u32> = (0..400).map(|_| name_of_next()).collect();
        names.dedup();
        kept.post(&Thread::current().unwrap(), 1).unwrap();
        i32::from(names.len() != 400)
    });
    assert_eq!(wait_for(&kept), 0);
    assert_eq!(reap(child), 0);
}

#[test]
fn what_is_dropped_during_the_fork_is_still_handed_over() {
    let _alone = alone();
    let semaphore = Semaphore::new(0).unwrap();
    let handover = ready().unwrap();
    // SAFETY: as in `fork_with`.
    let child = match unsafe { libc::fork() } {
        0 => {
            handover.receive().unwrap();
            let came =
                semaphore.wait(&Thread::current().unwrap(), Deadline::after(Duration::from_millis(50)));
            // SAFETY: ends this process at once.
            unsafe { libc::_exit(i32::from(came != Outcome::TimedOut)) }
        }
        pid => {
            assert!(pid > 0, "{}", std::io::Error::last_os_error());
            pid
        }
    };
    drop(semaphore);
    handover.serve(Some(child as u32));
    assert_eq!(reap(child), 0);
}

#[test]
fn threads_that_fork_at_once_do_not_mix() {
    let _alone = alone();
    let semaphores: Vec<Semaphore> = (0..4).map(|_| Semaphore::new(0).unwrap()).collect();
    let own = bootstrap();
    std::thread::scope(|scope| {
        for semaphore in &semaphores {
            scope.spawn(move || {
                for _ in 0..10 {
                    let child = fork(|| wait_for(semaphore));
                    semaphore.post(&Thread::current().unwrap(), 1).unwrap();
                    assert_eq!(reap(child), 0);
                }
            });
        }
    });
    assert_eq!(bootstrap(), own);
}

#[test]
fn a_child_killed_at_any_step_does_not_hang_the_parent() {
    let _alone = alone();
    let semaphore = Semaphore::new(0).unwrap();
    let own = bootstrap();
    for step in 1.. {
        let begun = Instant::now();
        let child = fork_with(|| 0, || die_at(step), || {});
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(2), "step {step}: {took:?}");
        assert_eq!(bootstrap(), own);
        match reap(child) {
            0 => {
                println!("{} steps", step - 1);
                assert!(step > 5, "only {step} steps");
                break;
            }
            status => assert_eq!(status, -libc::SIGKILL, "step {step}"),
        }
    }
    semaphore.post(&Thread::current().unwrap(), 1).unwrap();
    assert_eq!(wait_for(&semaphore), 0);
}

#[test]
fn a_parent_killed_at_any_step_does_not_hang_the_child() {
    let _alone = alone();
    let semaphore = Semaphore::new(0).unwrap();
    for step in 1.. {
        let (read, write) = pipe();
        let parent = fork(|| {
            let child = fork_with(|| 0, || {}, || die_at(step));
            reap(child)
        });
        drop(write);
        // The pipe ends when the grandchild has ended too.
        let mut descriptor = libc::pollfd { fd: read.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        assert_eq!(unsafe { libc::poll(&mut descriptor, 1, 5000) }, 1, "step {step}: the child hangs");
        match reap(parent) {
            0 => {
                println!("{} steps", step - 1);
                assert!(step > 8, "only {step} steps");
                break;
            }
            status => assert_eq!(status, -libc::SIGKILL, "step {step}"),
        }
    }
    drop(semaphore);
}

fn pipe() -> (OwnedFd, OwnedFd) {
    let mut ends = [0; 2];
    // SAFETY: room for two descriptors, which nobody else owns.
    unsafe {
        assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
        (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
    }
}

#[test]
fn a_call_that_fails_leaves_the_bootstrap_port_as_it_was() {
    let _alone = alone();
    let semaphore = Semaphore::new(0).unwrap();
    let own = bootstrap();
    for step in 1.. {
        fail_at(step);
        let handover = prepare();
        fail_at(0);
        if let Ok(handover) = handover {
            handover.unwrap().serve(None);
            assert!(step > 3, "only {step} steps");
            assert_eq!(bootstrap(), own);
            break;
        }
        assert_eq!(bootstrap(), own, "step {step}");
    }
    for step in 1..12 {
        for (in_child, in_parent) in [(step, 0), (0, step)] {
            let begun = Instant::now();
            let child = fork_with(|| 0, || fail_at(in_child), || fail_at(in_parent));
            assert!([0, 99].contains(&reap(child)));
            assert_eq!(bootstrap(), own, "step {step}");
            assert!(begun.elapsed() < Duration::from_secs(1), "step {in_child}, {in_parent}");
        }
    }
    assert_eq!(reap(fork(|| 0)), 0);
    drop(semaphore);
}

#[test]
fn a_fork_around_the_hook_cannot_use_what_was_made_before_it() {
    let _alone = alone();
    let (before, mutex) = (Semaphore::new(0).unwrap(), Mutex::new().unwrap());
    assert!(before.is_accessible());
    // SAFETY: as in `fork_with`.
    let child = match unsafe { libc::fork() } {
        0 => {
            let after = Semaphore::new(1).unwrap();
            let thread = Thread::current().unwrap();
            let inner =
                fork(|| i32::from(before.is_accessible() || !after.is_accessible() || !after.try_wait()));
            let cut = !before.is_accessible() && !mutex.is_accessible() && after.is_accessible();
            let status = reap(inner) + i32::from(!cut || after.post(&thread, 9).is_err());
            drop((before, mutex)); // touches nothing of the parent's
            // SAFETY: ends this process at once.
            unsafe { libc::_exit(status) }
        }
        pid => {
            assert!(pid > 0, "{}", std::io::Error::last_os_error());
            pid
        }
    };
    assert_eq!(reap(child), 0);
    before.post(&Thread::current().unwrap(), 1).unwrap();
    assert_eq!(wait_for(&before), 0);
}

/// What needs no semaphore of Mach's lacks nothing there.
#[test]
fn a_fork_around_the_hook_can_use_queues_maps_and_robust_semaphores() {
    let _alone = alone();
    let (queue, map) = (Queue::new(1 << 16, 0).unwrap(), Map::new(1 << 16, false).unwrap());
    let permits = Semaphore::of_kind(SemaphoreKind::Robust { limit: 1 }).unwrap();
    let deadline = || Deadline::after(Duration::from_secs(10));
    // SAFETY: as in `fork_with`.
    let child = match unsafe { libc::fork() } {
        0 => {
            let thread = Thread::current().unwrap();
            let is_accessible = queue.is_accessible() && map.is_accessible() && permits.is_accessible();
            let is_pushed = queue.push(&thread, 0, b"item", deadline()).is_ok();
            let (mut bytes, taken) = (Vec::new(), |bytes: &mut _| queue.take(&thread, bytes, deadline()));
            let is_taken = matches!(taken(&mut bytes), Ok(Ok(_)));
            let is_all = is_accessible && is_pushed && is_taken && permits.prepare().is_ok();
            let is_permitted = is_all && permits.try_acquire(&thread, 1) == Ok(true);
            // SAFETY: ends this process at once.
            unsafe { libc::_exit(i32::from(!is_permitted)) }
        }
        pid => {
            assert!(pid > 0, "{}", std::io::Error::last_os_error());
            pid
        }
    };
    assert_eq!(reap(child), 0);
    let thread = Thread::current().unwrap();
    let taken = queue.take(&thread, &mut Vec::new(), deadline()).unwrap().unwrap();
    assert_eq!(taken.deliveries, 2, "the child died with the item");
    permits.prepare().unwrap();
    assert_eq!(permits.acquire(&thread, 1, deadline()), Ok(Outcome::Acquired));
}

#[test]
fn waiters_go_on_when_the_process_that_made_the_object_has_ended() {
    let _alone = alone();
    let done = Semaphore::new(0).unwrap();
    let maker = fork(|| {
        let ping = Semaphore::new(0).unwrap();
        let quick = AtomicBool::new(true);
        fork(|| {
            // SAFETY: no precondition.
            while unsafe { libc::getppid() } != 1 && quick.load(SeqCst) {
                std::thread::sleep(Duration::from_millis(1));
                quick.store(parent_is_alive(), SeqCst);
            }
            let waiter = fork(|| wait_for(&ping));
            std::thread::sleep(Duration::from_millis(30));
            ping.post(&Thread::current().unwrap(), 1).unwrap();
            let status = reap(waiter);
            done.post(&Thread::current().unwrap(), 1).unwrap();
            status
        });
        0
    });
    assert_eq!(reap(maker), 0);
    assert_eq!(wait_for(&done), 0);
}

fn parent_is_alive() -> bool {
    static FIRST: std::sync::OnceLock<i32> = std::sync::OnceLock::new();
    // SAFETY: no precondition.
    let parent = unsafe { libc::getppid() };
    *FIRST.get_or_init(|| parent) == parent
}
