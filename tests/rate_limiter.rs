//! The rate limiter between real processes.

#![cfg(target_os = "linux")] // its children are seen through /proc
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use process_shared_core::{Outcome, Rate, RateLimiter, Thread};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Instant;
use support::{fork, shared};

fn acquire(limiter: &RateLimiter) {
    let reserved = limiter.reserve(1, None).unwrap();
    let thread = Thread::current().unwrap();
    assert_eq!(limiter.rest(&thread, reserved.deadline()), Outcome::Acquired);
}

#[test]
fn processes_get_no_more_than_the_burst_and_the_rate() {
    let (limiter, taken) =
        (RateLimiter::new(&Rate::new(10_000.0, 1.0, 5.0).unwrap()).unwrap(), shared::<AtomicU64>());
    let start = Instant::now();
    let take = || {
        for _ in 0..20_000 {
            taken.fetch_add(u64::from(limiter.try_acquire(1)), SeqCst);
        }
        0
    };
    let children = [fork(take), fork(take), fork(take)];
    assert!(children.into_iter().all(|child| child.reap() == 0));
    let most = 5.0 + 10_000.0 * start.elapsed().as_secs_f64();
    assert!((5.0..=most).contains(&(taken.load(SeqCst) as f64)));
}

#[test]
fn each_that_waits_has_its_turn() {
    let limiter = RateLimiter::new(&Rate::new(1000.0, 1.0, 1.0).unwrap()).unwrap();
    let start = Instant::now();
    let children = [(); 3].map(|()| {
        fork(|| {
            (0..20).for_each(|_| acquire(&limiter));
            0
        })
    });
    assert!(children.into_iter().all(|child| child.reap() == 0));
    assert!(start.elapsed().as_millis() >= 59);
    assert_eq!(limiter.waiters(), 0);
}

#[test]
fn a_killed_waiter_costs_its_permit_only() {
    let limiter = RateLimiter::new(&Rate::new(1.0, 1000.0, 1.0).unwrap()).unwrap();
    assert!(limiter.try_acquire(1));
    let waiter = fork(|| {
        acquire(&limiter);
        0
    });
    waiter.until_asleep();
    waiter.kill();
    assert!((1999..=2000).contains(&(limiter.retry_after().as_secs_f64().ceil() as u64)));
    assert_eq!(limiter.waiters(), 0);
}
