//! The semaphore between real processes.

#![cfg(target_os = "linux")] // its children are seen through /proc
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use process_shared_core::semaphore::MAX;
use process_shared_core::{Deadline, Outcome, Semaphore, SemaphoreArrival, SemaphoreRefusal, Thread};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;
use support::{Child, fork};

fn contender(semaphore: &Semaphore) -> Child {
    let child = fork(|| i32::from(semaphore.wait(&Thread::current().unwrap(), None) == Outcome::Acquired));
    child.until_asleep();
    child
}

#[test]
fn counts_up_to_its_maximum() {
    let (semaphore, thread) = (Semaphore::new(1).unwrap(), Thread::current().unwrap());
    assert!(semaphore.try_wait() && !semaphore.try_wait());
    assert_eq!(semaphore.post(&thread, 1), Ok(()));
    assert_eq!(semaphore.post(&thread, 1), Err(SemaphoreRefusal::Overflow));
    assert_eq!(semaphore.value(), 1);
    let full = Semaphore::new(MAX).unwrap();
    assert_eq!(full.post(&thread, MAX), Err(SemaphoreRefusal::Overflow));
    assert_eq!(full.value(), i64::from(MAX));
}

#[test]
fn each_post_lets_one_through() {
    let (semaphore, thread) = (Semaphore::new(0).unwrap(), Thread::current().unwrap());
    let children = [contender(&semaphore), contender(&semaphore), contender(&semaphore)];
    assert_eq!(semaphore.waiters(), 3);
    for _ in 0..3 {
        semaphore.post(&thread, MAX).unwrap();
    }
    assert!(children.into_iter().all(|child| child.reap() == 1));
    assert_eq!((semaphore.value(), semaphore.waiters()), (0, 0));
}

#[test]
fn a_killed_waiter_leaves_the_permit_to_the_next() {
    let (semaphore, thread) = (Semaphore::new(0).unwrap(), Thread::current().unwrap());
    let (first, second) = (contender(&semaphore), contender(&semaphore));
    first.signal(libc::SIGSTOP);
    support::until("the first stops", || support::state(first.pid) == 'T');
    semaphore.post(&thread, MAX).unwrap();
    first.kill();
    assert_eq!(second.reap(), 1);
    assert_eq!(semaphore.value(), 0);
}

#[test]
fn a_deadline_ends_the_wait() {
    let semaphore = Semaphore::new(0).unwrap();
    let deadline = Deadline::after(Duration::from_millis(20));
    assert_eq!(semaphore.wait(&Thread::current().unwrap(), deadline), Outcome::TimedOut);
    assert_eq!(semaphore.value(), 0);
}

#[test]
fn nothing_is_lost_between_processes() {
    let (full, empty) = (Semaphore::new(0).unwrap(), Semaphore::new(2).unwrap());
    let pass = |from: &Semaphore, to: &Semaphore| {
        let thread = Thread::current().unwrap();
        for _ in 0..20_000 {
            if !from.try_wait() {
                assert_eq!(from.wait(&thread, None), Outcome::Acquired);
            }
            to.post(&thread, 2).unwrap();
        }
        0
    };
    let children = [
        fork(|| pass(&empty, &full)),
        fork(|| pass(&full, &empty)),
        fork(|| pass(&empty, &full)),
        fork(|| pass(&full, &empty)),
    ];
    assert!(children.into_iter().all(|child| child.reap() == 0));
    assert_eq!((full.value(), empty.value()), (0, 2));
}

/// A child that wants two permits, says so in `served` when it has them, and counts in `interrupts` the signals that
/// interrupt it.
fn in_line(semaphore: &Semaphore, place: u32, served: &AtomicU32, interrupts: &AtomicU32) -> Child {
    extern "C" fn handle(_: i32) {}
    let child = fork(|| {
        // SAFETY: the handler does nothing. Without SA_RESTART it ends the waits of this process.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handle as *const () as usize;
            libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut());
        }
        let (thread, arrival) = (Thread::current().unwrap(), SemaphoreArrival::default());
        while semaphore.acquire_since(&thread, &arrival, 2, None) != Ok(Outcome::Acquired) {
            interrupts.fetch_add(1, SeqCst);
        }
        served.store(served.load(SeqCst) * 10 + place, SeqCst);
        semaphore.post_many(&thread, 2, MAX).unwrap();
        0
    });
    child.until_asleep_in_line();
    child
}

/// The second of three is interrupted again and again, and another is killed.
#[test]
fn those_who_want_several_are_served_in_the_order_they_came() {
    let (semaphore, thread) = (Semaphore::new(0).unwrap(), Thread::current().unwrap());
    let (served, interrupts) = (support::shared::<AtomicU32>(), support::shared::<AtomicU32>());
    let [first, second, killed, third] =
        [1, 2, 9, 3].map(|place| in_line(&semaphore, place, served, interrupts));
    for number in 1..=20 {
        support::until("it is interrupted", || {
            second.signal(libc::SIGUSR1); // again if it did not sleep just then
            interrupts.load(SeqCst) >= number
        });
        support::until("it waits again", || semaphore.waiters() == 4);
        second.until_asleep_in_line();
    }
    killed.kill();
    semaphore.post_many(&thread, 2, MAX).unwrap();
    assert!([first, second, third].into_iter().all(|child| child.reap() == 0));
    assert_eq!((served.load(SeqCst), semaphore.value(), semaphore.waiters()), (123, 2, 0));
}
