//! The latch between real processes.

#![cfg(target_os = "linux")] // its children are seen through /proc
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use process_shared_core::{CountDownLatch, Deadline, Outcome, Thread};
use std::time::Duration;
use support::{Child, fork};

fn me() -> Thread {
    Thread::current().unwrap()
}

fn waiter(latch: &CountDownLatch) -> Child {
    let child = fork(|| i32::from(latch.wait(&me(), None) == Outcome::Acquired));
    child.until_asleep();
    child
}

#[test]
fn opens_when_it_has_been_counted_down() {
    let latch = CountDownLatch::new(2).unwrap();
    let children = [waiter(&latch), waiter(&latch), waiter(&latch)];
    latch.count_down(&me());
    assert_eq!((latch.count(), latch.waiters()), (1, 3));
    latch.count_down(&me());
    latch.count_down(&me());
    assert!(children.into_iter().all(|child| child.reap() == 1));
    assert_eq!((latch.count(), latch.waiters()), (0, 0));
    assert_eq!(latch.wait(&me(), None), Outcome::Acquired);
}

#[test]
fn each_count_counts() {
    for _ in 0..200 {
        let latch = CountDownLatch::new(20).unwrap();
        let count = || {
            (0..10).for_each(|_| latch.count_down(&me()));
            0
        };
        let children = [fork(count), fork(count)];
        assert_eq!(latch.wait(&me(), None), Outcome::Acquired);
        assert!(children.into_iter().all(|child| child.reap() == 0));
    }
}

#[test]
fn a_killed_waiter_costs_nobody_anything() {
    let latch = CountDownLatch::new(1).unwrap();
    let (first, second) = (waiter(&latch), waiter(&latch));
    first.kill();
    latch.count_down(&me());
    assert_eq!(second.reap(), 1);
}

#[test]
fn a_deadline_ends_the_wait() {
    let latch = CountDownLatch::new(1).unwrap();
    assert_eq!(latch.wait(&me(), Deadline::after(Duration::from_millis(20))), Outcome::TimedOut);
}
