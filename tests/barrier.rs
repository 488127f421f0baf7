//! The barrier between real processes.

#![cfg(target_os = "linux")] // its children are seen through /proc
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use process_shared_core::barrier::Arrival;
use process_shared_core::{CyclicBarrier, Deadline, Outcome, Thread};
use std::time::Duration;
use support::{Child, fork, until};

fn me() -> Thread {
    Thread::current().unwrap()
}

/// 1 if all passed, 0 if the barrier was broken.
fn wait(barrier: &CyclicBarrier, deadline: Option<Deadline>) -> i32 {
    match barrier.arrive(&me(), false) {
        Arrival::Passed => 1,
        Arrival::Refused => 0,
        Arrival::Waiting(ticket) => {
            assert_eq!(barrier.wait(&me(), ticket, deadline), Outcome::Acquired);
            i32::from(barrier.leave(&me(), ticket))
        }
        other => panic!("{other:?}"),
    }
}

fn waiter(barrier: &CyclicBarrier) -> Child {
    let child = fork(|| wait(barrier, None));
    child.until_asleep();
    child
}

#[test]
fn all_go_on_when_the_last_one_comes_again_and_again() {
    let barrier = CyclicBarrier::new(3).unwrap();
    for _ in 0..20 {
        let children = [waiter(&barrier), waiter(&barrier)];
        assert_eq!((barrier.number_waiting(&me()), barrier.waiters()), (2, 2));
        assert_eq!(wait(&barrier, None), 1);
        assert!(children.into_iter().all(|child| child.reap() == 1));
        assert_eq!((barrier.number_waiting(&me()), barrier.waiters()), (0, 0));
    }
}

#[test]
fn nobody_is_ahead_by_more_than_a_round() {
    let barrier = CyclicBarrier::new(4).unwrap();
    let counts = support::shared::<[std::sync::atomic::AtomicU32; 4]>();
    let order = std::sync::atomic::Ordering::SeqCst;
    let children: Vec<Child> = (0..4)
        .map(|number| {
            let barrier = &barrier;
            fork(move || {
                for round in 0..500 {
                    counts[number].store(round, order);
                    assert_eq!(wait(barrier, None), 1);
                    assert!(counts.iter().all(|count| count.load(order).abs_diff(round) <= 1));
                }
                0
            })
        })
        .collect();
    assert!(children.into_iter().all(|child| child.reap() == 0));
}

#[test]
fn a_killed_party_breaks_it_for_the_others_at_once() {
    let barrier = CyclicBarrier::new(4).unwrap();
    let (first, others) = (waiter(&barrier), [waiter(&barrier), waiter(&barrier)]);
    first.kill();
    assert!(others.into_iter().all(|child| child.reap() == 0));
    assert!(barrier.is_broken(&me()));
    assert_eq!(wait(&barrier, None), 0);
    barrier.reset(&me());
    let children = [waiter(&barrier), waiter(&barrier), waiter(&barrier)];
    assert_eq!(wait(&barrier, None), 1);
    assert!(children.into_iter().all(|child| child.reap() == 1));
}

/// Nobody sleeps who could be told.
#[test]
fn a_party_that_was_killed_alone_breaks_it_for_who_comes() {
    let barrier = CyclicBarrier::new(2).unwrap();
    waiter(&barrier).kill();
    assert_eq!(wait(&barrier, None), 0);
    assert!(barrier.is_broken(&me()));
}

#[test]
fn whoever_runs_the_action_and_is_killed_breaks_it() {
    let barrier = CyclicBarrier::new(2).unwrap();
    let other = waiter(&barrier);
    let last = fork(|| {
        assert!(matches!(barrier.arrive(&me(), true), Arrival::Last(_)));
        support::die()
    });
    assert_eq!(other.reap(), 0);
    assert_eq!(last.reap(), -libc::SIGKILL);
}

#[test]
fn a_deadline_breaks_it() {
    let barrier = CyclicBarrier::new(3).unwrap();
    let other = waiter(&barrier);
    assert_eq!(wait(&barrier, Deadline::after(Duration::from_millis(20))), 0);
    assert_eq!(other.reap(), 0);
    assert!(barrier.is_broken(&me()));
}

/// What a killed party leaves is not found by the next barrier in its slot.
#[test]
fn a_new_barrier_knows_nothing_of_an_old_one() {
    for _ in 0..50 {
        let barrier = CyclicBarrier::new(2).unwrap();
        waiter(&barrier).kill();
        drop(barrier);
        let barrier = CyclicBarrier::new(2).unwrap();
        let other = waiter(&barrier);
        assert_eq!((wait(&barrier, None), other.reap()), (1, 1));
    }
}

#[test]
fn a_reset_turns_away_those_who_wait() {
    let barrier = CyclicBarrier::new(3).unwrap();
    let others = [waiter(&barrier), waiter(&barrier)];
    barrier.reset(&me());
    assert!(others.into_iter().all(|child| child.reap() == 0));
    until("nobody waits", || barrier.waiters() == 0);
    assert!(!barrier.is_broken(&me()));
}
