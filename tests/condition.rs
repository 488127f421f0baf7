//! The condition variable between real processes.

#![cfg(target_os = "linux")] // its children are seen through /proc
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use process_shared_core::{ConditionVariable, Deadline, Mutex, Outcome, Thread};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use support::{Child, beside, fork, in_threads, shared};

/// Waits as a user does; returns whether it was woken.
fn wait(condition: &ConditionVariable, mutex: &Mutex, deadline: Option<Deadline>) -> bool {
    let (condition, thread) = (condition.condition(), Thread::current().unwrap());
    assert!(mutex.is_held_by(&thread));
    let mut wait = condition.begin_wait(&thread, mutex.name()).unwrap();
    mutex.unlock(&thread);
    let granted = loop {
        match condition.sleep(&thread, &mut wait, deadline) {
            Outcome::Acquired => break Some(wait),
            Outcome::TimedOut => match condition.try_cancel_wait(&thread, wait) {
                None => break None,
                Some(same) => wait = same,
            },
            Outcome::Interrupted => {}
        }
    };
    lock(mutex);
    let woken = granted.is_some();
    if let Some(wait) = granted {
        condition.finish_wait(&thread, wait);
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
        let mut outer_wait = outer.begin_wait(&thread, mutex.name()).unwrap();
        mutex.unlock(&thread);
        while outer.sleep(&thread, &mut outer_wait, None) != Outcome::Acquired {}
        lock(&mutex);
        outer.release_baton(&thread, &mut outer_wait);
        while order.load(SeqCst) == 0 {
            assert!(wait(&condition, &mutex, None));
        }
        outer.finish_wait(&thread, outer_wait);
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
    let mine = condition.condition().begin_wait(&thread, mutex.name()).unwrap();
    let second = waiter(&condition, &mutex, order, 2);
    condition.condition().signal(&thread);
    condition.condition().cancel_wait(&thread, mine);
    assert_eq!(second.reap(), 0);
    assert_eq!(condition.condition().waiters(), 0);
}

/// Granted between `enter` and `sleep`, where the kernel does not tell of a death.
#[test]
fn one_that_dies_before_it_sleeps_leaves_its_signal_to_the_next() {
    let (condition, mutex, order, thread) = scene();
    let (step, holder) = (shared::<AtomicU64>(), condition.condition().begin_wait(&thread, 0).unwrap());
    // The baton is the holder's, so the child does without.
    let first = fork(|| {
        let _wait = condition.condition().begin_wait(&Thread::current().unwrap(), mutex.name()).unwrap();
        step.store(1, SeqCst);
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    support::until("the first has entered", || step.load(SeqCst) == 1);
    condition.condition().cancel_wait(&thread, holder);
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

/// Waits that were granted, whose threads die, on conditions nobody waits for again.
#[test]
fn the_places_of_the_dead_are_used_again() {
    // In a child, since it fills the table.
    let child = fork(|| {
        let (per_thread, keep) = (1000, Mutex::new().unwrap());
        // The first objects are in a home of their own, with a table of its own.
        for _ in 0..=(process_shared_core::arena::PARTICIPANTS + 5000) / per_thread {
            let begin = || {
                let thread = Thread::current().unwrap();
                for _ in 0..per_thread {
                    let variable = ConditionVariable::new().unwrap();
                    let condition = variable.condition();
                    let mut wait = condition.begin_wait(&thread, keep.name()).unwrap();
                    condition.release_baton(&thread, &mut wait);
                    condition.signal(&thread);
                    assert_eq!(condition.granted(), 1);
                    std::mem::forget(variable);
                }
            };
            in_threads([begin]);
        }
        0
    });
    assert_eq!(child.reap(), 0);
}

/// Begins a wait that will never end, as that of a fiber which is given up in the middle.
fn lose_a_wait(condition: &ConditionVariable, thread: &Thread) {
    let mut wait = condition.condition().begin_wait(thread, 0).unwrap();
    condition.condition().release_baton(thread, &mut wait);
}

/// Pages with objects that this process has mapped.
fn pages() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains("/dev/zero")).count()
}

#[test]
fn a_lost_wait_ends_with_its_condition() {
    let child = fork(|| {
        let (before, thread) = (pages(), Thread::current().unwrap());
        let variable = ConditionVariable::new().unwrap();
        lose_a_wait(&variable, &thread);
        assert!(!thread.held().is_empty());
        drop(variable);
        assert!(thread.held().is_empty(), "the list leads into memory that is gone");
        i32::from(pages() > before)
    });
    assert_eq!(child.reap(), 0);
}

#[test]
fn a_lost_wait_of_another_thread_keeps_its_memory() {
    let child = fork(|| {
        let variable = ConditionVariable::new().unwrap();
        let (begun, dropped) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
        let lose = || {
            let thread = Thread::current().unwrap();
            let before = thread.held().len();
            lose_a_wait(&variable, &thread);
            begun.wait();
            dropped.wait();
            assert_eq!(thread.held().len(), before + 1);
            let mutex = Mutex::new().unwrap();
            assert!(mutex.try_lock(&thread).unwrap()); // writes to the neighbours on the list
            mutex.unlock(&thread);
            process_shared_core::release_held_as_dead(&thread);
            assert_eq!(thread.held().len(), before);
        };
        beside(lose, || {
            begun.wait();
            // SAFETY: the handle is not used again.
            drop(unsafe { std::ptr::read(&raw const variable) });
            dropped.wait();
        });
        std::mem::forget(variable);
        0
    });
    assert_eq!(child.reap(), 0);
}

#[test]
fn a_lost_wait_takes_no_signal_with_it() {
    let (condition, mutex, order, thread) = scene();
    let (step, lost) = (shared::<AtomicU64>(), std::mem::ManuallyDrop::new(condition));
    let first = fork(|| {
        let thread = Thread::current().unwrap();
        lose_a_wait(&lost, &thread);
        step.store(1, SeqCst);
        support::until("it is signalled", || step.load(SeqCst) == 2);
        // SAFETY: this process's handle, not used any more.
        drop(unsafe { std::ptr::read(&*lost) });
        step.store(3, SeqCst);
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    support::until("the first has begun", || step.load(SeqCst) == 1);
    let second = waiter(&lost, &mutex, order, 2);
    lost.condition().signal(&thread);
    step.store(2, SeqCst);
    assert_eq!(second.reap(), 0);
    support::until("the first has let go", || step.load(SeqCst) == 3);
    assert_eq!(lost.condition().waiters(), 0);
    first.kill();
}
