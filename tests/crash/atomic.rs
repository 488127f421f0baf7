//! Atomic numbers and flags.

use process_shared_core::{AtomicBoolean, AtomicFixnum};

crash_tests! {
    increment => crate::operation::Operation {
        operation: |number: &AtomicFixnum| assert!(number.add(1).is_ok()),
        check: |number| {
            let before = number.value();
            assert!(matches!(before, 0 | 1));
            assert_eq!(number.add(1), Ok(before + 1));
        },
        ..crate::operation::Operation::on(|| AtomicFixnum::new(0).unwrap())
    },

    make_true => crate::operation::Operation {
        operation: |flag: &AtomicBoolean| assert!(flag.make(true)),
        check: |flag| assert_eq!(flag.value(), !flag.make(true)),
        ..crate::operation::Operation::on(|| AtomicBoolean::new(false).unwrap())
    },
}
