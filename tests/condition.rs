//! The condition variable between real processes.

#![cfg(target_os = "linux")] // its children are seen through /proc
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use process_shared_core::{ConditionVariable, Deadline, Mutex, Outcome, Thread};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use support::{Child, fork, shared};

/// Waits as a user does; returns whether it was woken.
fn wait(condition: &ConditionVariable, mutex: &Mutex, deadline: Option<Deadline>) -> bool {
    let (condition, thread) = (condition.condition(), Thread::current().unwrap());
    assert!(mutex.is_held_by(&thread));
    let mut wait = condition.enter(&thread, mutex.name()).unwrap();
    mutex.unlock(&thread);
    let granted = loop {
        match condition.sleep(&thread, &mut wait, deadline) {
            Outcome::Acquired => break Some(wait),
            Outcome::TimedOut => match condition.expire(&thread, wait) {
                None => break None,
                Some(same) => wait = same,
            },
            Outcome::Interrupted => {}
        }
    };
    lock(mutex);
    let woken = granted.is_some();
    if let Some(wait) = granted {
        condition.finish(&thread, wait);
    }
    woken
}

fn lock(mutex: &Mutex) -> Thread {
    let thread = Thread::current().unwrap();
    if !mutex.try_lock(&thread).unwrap() {
        assert_eq!(mutex.lock(&thread, None), Outcome::Acquired);
    }
    thread
}

/// A child that waits, and then adds its number to the digits of `order`.
fn waiter(condition: &ConditionVariable, mutex: &Mutex, order: &AtomicU64, number: u64) -> Child {
    let before = condition.condition().waiters();
    let child = fork(|| {
        let thread = lock(mutex);
        assert!(wait(condition, mutex, None));
        order.store(order.load(SeqCst) * 10 + number, SeqCst);
        mutex.unlock(&thread);
        0
    });
    support::until("it waits", || {
        condition.condition().waiters() == before + 1 && support::is_asleep(child.pid)
    });
    child
}

fn scene() -> (ConditionVariable, Mutex, &'static AtomicU64, Thread) {
    (ConditionVariable::new().unwrap(), Mutex::new().unwrap(), shared(), Thread::current().unwrap())
}

/// As in `on_abandoned`, or in a signal handler.
#[test]
fn one_that_waits_again_before_it_is_done_does_not_hold_up_the_next() {
    let (condition, mutex, order, thread) = scene();
    let first = fork(|| {
        let (outer, thread) = (condition.condition(), lock(&mutex));
        let mut outer_wait = outer.enter(&thread, mutex.name()).unwrap();
        mutex.unlock(&thread);
        while outer.sleep(&thread, &mut outer_wait, None) != Outcome::Acquired {}
        lock(&mutex);
        outer.rest(&thread, &mut outer_wait);
        while order.load(SeqCst) == 0 {
            assert!(wait(&condition, &mutex, None));
        }
        outer.finish(&thread, outer_wait);
        mutex.unlock(&thread);
        0
    });
    support::until("it waits", || condition.condition().waiters() == 1 && support::is_asleep(first.pid));
    let second = waiter(&condition, &mutex, order, 2);
    lock(&mutex);
    (0..2).for_each(|_| condition.condition().signal(&thread));
    support::until("the first wants the mutex", || mutex.waiters() == 1);
    mutex.unlock(&thread);
    assert!(support::comes_true(Duration::from_secs(3), || second.is_over()));
    condition.condition().signal(&thread);
    assert_eq!(first.reap(), 0);
}

#[test]
fn signals_wake_in_the_order_of_arrival() {
    let (condition, mutex, order, thread) = scene();
    let children = [1, 2, 3].map(|number| waiter(&condition, &mutex, order, number));
    for woken in 1..=3 {
        condition.condition().signal(&thread);
        support::until("one is woken", || order.load(SeqCst) >= 10_u64.pow(woken - 1));
        support::until("it has left", || condition.condition().waiters() == 3 - woken as usize);
    }
    assert!(children.into_iter().all(|child| child.reap() == 0));
    assert_eq!(order.load(SeqCst), 123);
}

#[test]
fn a_broadcast_wakes_all_and_they_take_their_mutex_in_any_order() {
    let (condition, mutex, order, thread) = scene();
    let children = [1, 2, 3].map(|number| waiter(&condition, &mutex, order, number));
    condition.condition().broadcast(&thread);
    assert!(children.into_iter().all(|child| child.reap() == 0));
    let mut digits = order.load(SeqCst).to_string().into_bytes();
    digits.sort_unstable();
    assert_eq!((digits, condition.condition().waiters()), (b"123".to_vec(), 0));
}

#[test]
fn a_signal_without_a_waiter_is_forgotten() {
    let (condition, mutex, _, thread) = scene();
    condition.condition().signal(&thread);
    condition.condition().broadcast(&thread);
    lock(&mutex);
    assert!(!wait(&condition, &mutex, Deadline::after(Duration::from_millis(20))));
    mutex.unlock(&thread);
    assert_eq!(condition.condition().waiters(), 0);
}

#[test]
fn the_signal_of_a_waiter_killed_before_it_has_its_mutex_goes_to_the_next() {
    let (condition, mutex, order, thread) = scene();
    let first = waiter(&condition, &mutex, order, 1);
    let second = waiter(&condition, &mutex, order, 2);
    lock(&mutex);
    condition.condition().signal(&thread);
    support::until("the first waits for the mutex", || mutex.waiters() == 1);
    first.kill();
    mutex.unlock(&thread);
    assert_eq!(second.reap(), 0);
    assert_eq!((order.load(SeqCst), condition.condition().waiters()), (2, 0));
}

#[test]
fn the_signal_of_a_killed_waiter_is_not_for_later_ones() {
    let (condition, mutex, order, thread) = scene();
    let first = waiter(&condition, &mutex, order, 1);
    lock(&mutex);
    condition.condition().signal(&thread);
    support::until("the first waits for the mutex", || mutex.waiters() == 1);
    mutex.unlock(&thread);
    // It has it now or soon: stop it from getting it again, by being quicker than it until it is dead.
    first.signal(libc::SIGKILL);
    let later = fork(|| {
        let thread = lock(&mutex);
        let woken = wait(&condition, &mutex, Deadline::after(Duration::from_millis(50)));
        mutex.unlock(&thread);
        i32::from(woken)
    });
    assert_eq!(later.reap(), 0);
    drop(first);
    assert_eq!(condition.condition().waiters(), 0);
}

#[test]
fn a_killed_sleeper_is_passed_by() {
    let (condition, mutex, order, thread) = scene();
    let children = [1, 2, 3].map(|number| waiter(&condition, &mutex, order, number));
    let [first, second, third] = children;
    first.kill();
    assert_eq!(condition.condition().waiters(), 2);
    condition.condition().signal(&thread);
    assert_eq!(second.reap(), 0);
    condition.condition().signal(&thread);
    assert_eq!(third.reap(), 0);
    assert_eq!(order.load(SeqCst), 23);
}

#[test]
fn the_signal_of_one_that_leaves_goes_to_the_next() {
    let (condition, mutex, order, thread) = scene();
    let mine = condition.condition().enter(&thread, mutex.name()).unwrap();
    let second = waiter(&condition, &mutex, order, 2);
    condition.condition().signal(&thread);
    condition.condition().leave(&thread, mine);
    assert_eq!(second.reap(), 0);
    assert_eq!(condition.condition().waiters(), 0);
}

/// Granted between `enter` and `sleep`, where the kernel does not tell of a death.
#[test]
fn one_that_dies_before_it_sleeps_leaves_its_signal_to_the_next() {
    let (condition, mutex, order, thread) = scene();
    let (step, holder) = (shared::<AtomicU64>(), condition.condition().enter(&thread, 0).unwrap());
    // The baton is the holder's, so the child does without.
    let first = fork(|| {
        let _wait = condition.condition().enter(&Thread::current().unwrap(), mutex.name()).unwrap();
        step.store(1, SeqCst);
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    support::until("the first has entered", || step.load(SeqCst) == 1);
    condition.condition().leave(&thread, holder);
    let second = waiter(&condition, &mutex, order, 2);
    condition.condition().signal(&thread);
    first.kill();
    assert_eq!(second.reap(), 0);
    assert_eq!(condition.condition().waiters(), 0);
}

#[test]
fn different_mutexes_do_not_hold_each_other_up() {
    let (condition, mutex, order, thread) = scene();
    let other = Mutex::new().unwrap();
    let children = [waiter(&condition, &mutex, order, 1), waiter(&condition, &other, order, 2)];
    lock(&mutex);
    condition.condition().broadcast(&thread);
    support::until("the second is through", || order.load(SeqCst) == 2);
    mutex.unlock(&thread);
    assert!(children.into_iter().all(|child| child.reap() == 0));
    assert_eq!((order.load(SeqCst), condition.condition().waiters()), (21, 0));
}
