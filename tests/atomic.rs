//! Atomic numbers and flags between real processes.

#![cfg(target_os = "linux")] // its children are seen through /proc
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use process_shared_core::memory::Region;
use process_shared_core::objects::OutOfRange;
use process_shared_core::{AtomicBoolean, AtomicFixnum};
use std::ptr::NonNull;
use support::fork;

#[test]
fn a_number_never_leaves_its_range() {
    let number = AtomicFixnum::new(i64::MAX - 1).unwrap();
    assert_eq!(
        (number.add(1), number.add(1), number.add(i64::MAX)),
        (Ok(i64::MAX), Err(OutOfRange), Err(OutOfRange))
    );
    assert_eq!((number.subtract(-1), number.subtract(i64::MIN)), (Err(OutOfRange), Err(OutOfRange)));
    assert_eq!(
        (number.add(i64::MIN), number.subtract(i64::MAX), number.subtract(1)),
        (Ok(-1), Ok(i64::MIN), Err(OutOfRange))
    );
    assert_eq!(number.value(), i64::MIN);
}

#[test]
fn no_increment_is_lost() {
    let number = AtomicFixnum::new(0).unwrap();
    let count = || {
        (0..50_000).for_each(|_| assert!(number.add(1).is_ok()));
        0
    };
    let children = [fork(count), fork(count), fork(count)];
    assert!(children.into_iter().all(|child| child.reap() == 0));
    assert_eq!(number.value(), 150_000);
}

#[test]
fn a_number_keeps_its_memory() {
    let region = std::sync::Arc::new(Region::new(4096).unwrap());
    let at = |offset: usize| {
        let address = NonNull::new(region.start().wrapping_add(offset)).unwrap();
        // SAFETY: inside the region, which the number keeps.
        unsafe { AtomicFixnum::at(address, region.clone()) }
    };
    assert!(at(4).is_err());
    let (number, same) = (at(8).unwrap(), at(8).unwrap());
    drop(region);
    assert_eq!((number.add(5), same.value()), (Ok(5), 5));
}

#[test]
fn one_of_many_makes_a_flag_true() {
    for _ in 0..100 {
        let flag = AtomicBoolean::new(false).unwrap();
        let children = [(); 3].map(|()| fork(|| i32::from(flag.make(true))));
        assert_eq!(children.into_iter().map(|child| child.reap()).sum::<i32>(), 1);
        assert!(flag.value() && flag.make(false) && !flag.make(false));
    }
}
