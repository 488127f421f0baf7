//! The event between real processes.

#![cfg(target_os = "linux")] // its children are seen through /proc
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use process_shared_core::{Deadline, Event, Outcome, Thread};
use std::time::Duration;
use support::{Child, fork};

fn me() -> Thread {
    Thread::current().unwrap()
}

fn waiter(event: &Event) -> Child {
    let child = fork(|| {
        event.begin().map_or(2, |epoch| i32::from(event.wait(&me(), epoch, None) == Outcome::Acquired))
    });
    child.until_asleep();
    child
}

#[test]
fn is_set_once_until_it_is_reset() {
    let event = Event::new().unwrap();
    assert!(!event.is_set() && event.set(&me()) && !event.set(&me()) && event.is_set());
    assert_eq!(event.begin(), None);
    event.reset(&me());
    event.reset(&me());
    assert!(!event.is_set() && event.set(&me()));
}

#[test]
fn all_who_wait_wake_up_also_if_it_is_reset_at_once() {
    let event = Event::new().unwrap();
    for _ in 0..20 {
        let children = [waiter(&event), waiter(&event), waiter(&event)];
        assert_eq!(event.waiters(), 3);
        event.set(&me());
        event.reset(&me());
        assert!(children.into_iter().all(|child| child.reap() == 1));
        assert_eq!((event.waiters(), event.is_set()), (0, false));
    }
}

#[test]
fn a_killed_waiter_costs_nobody_anything() {
    let event = Event::new().unwrap();
    let (first, second) = (waiter(&event), waiter(&event));
    first.kill();
    assert_eq!(event.waiters(), 1);
    event.set(&me());
    assert_eq!(second.reap(), 1);
}

#[test]
fn a_deadline_ends_the_wait() {
    let event = Event::new().unwrap();
    let epoch = event.begin().unwrap();
    assert_eq!(event.wait(&me(), epoch, Deadline::after(Duration::from_millis(20))), Outcome::TimedOut);
    assert!(!event.is_over(epoch));
}
