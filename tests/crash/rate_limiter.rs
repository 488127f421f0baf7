//! The rate limiter.

use crate::me;
use process_shared_core::{Outcome, Rate, RateLimiter};

type Operation = crate::operation::Operation<RateLimiter>;

const HOUR: f64 = 3600.0;

/// Two at once, and then one an hour.
fn hourly() -> RateLimiter {
    RateLimiter::new(&Rate::new(1.0, HOUR, 2.0).unwrap()).unwrap()
}

/// A permit in each millisecond, and the first is taken.
fn quick() -> RateLimiter {
    let limiter = RateLimiter::new(&Rate::new(1000.0, 1.0, 1.0).unwrap()).unwrap();
    assert!(limiter.try_acquire(1));
    limiter
}

crash_tests! {
    /// The dead one has taken its permit or not, and others get what is left.
    try_acquire => Operation {
        operation: |limiter| assert!(limiter.try_acquire(1)),
        check: |limiter| {
            let left = (0..3).filter(|_| limiter.try_acquire(1)).count();
            assert!((1..=2).contains(&left));
        },
        ..Operation::on(hourly)
    },

    reserve_and_give_back => Operation {
        operation: |limiter| assert!(limiter.give_back(limiter.reserve(2, None).unwrap())),
        check: |limiter| assert!(matches!((0..3).filter(|_| limiter.try_acquire(1)).count(), 0 | 2)),
        ..Operation::on(hourly)
    },

    acquire => Operation {
        operation: |limiter| {
            let due = limiter.reserve(1, None).unwrap().deadline();
            assert_eq!(limiter.rest(&me(), due), Outcome::Acquired);
        },
        asleep: |_, _| {}, // it wakes up by itself
        check: |limiter| {
            let due = limiter.reserve(1, None).unwrap().deadline();
            assert_eq!(limiter.rest(&me(), due), Outcome::Acquired);
            assert_eq!(limiter.waiters(), 0);
        },
        ..Operation::on(quick)
    },
}
