//! The latch.

use crate::me;
use crate::support::{Child, fork};
use process_shared_core::{CountDownLatch, Outcome};
use std::cell::RefCell;

type Operation = crate::operation::Operation<Scene>;

struct Scene {
    latch: CountDownLatch,
    /// Children that wait for it.
    waiters: RefCell<Vec<Child>>,
}

impl Scene {
    fn at(count: u32) -> Self {
        Scene { latch: CountDownLatch::new(count).unwrap(), waiters: RefCell::default() }
    }

    fn awaited(count: u32) -> Self {
        let scene = Self::at(count);
        scene.arrive(2);
        scene
    }

    fn arrive(&self, count: usize) {
        for _ in 0..count {
            let waiter = fork(|| i32::from(self.latch.wait(&me(), None) != Outcome::Acquired));
            waiter.until_asleep();
            self.waiters.borrow_mut().push(waiter);
        }
    }

    /// Counts what is left, and all who wait wake up without more being done.
    fn assert_opens(&self) {
        (0..self.latch.count()).for_each(|_| self.latch.count_down(&me()));
        for waiter in self.waiters.take() {
            assert_eq!(waiter.reap(), 0);
        }
        assert_eq!((self.latch.count(), self.latch.waiters()), (0, 0));
    }
}

crash_tests! {
    count_down => Operation {
        operation: |scene| scene.latch.count_down(&me()),
        check: |scene| {
            assert!((1..=2).contains(&scene.latch.count()));
            scene.arrive(1);
            scene.assert_opens();
        },
        ..Operation::on(|| Scene::at(2))
    },

    count_down_that_opens => Operation {
        operation: |scene| scene.latch.count_down(&me()),
        check: Scene::assert_opens,
        ..Operation::on(|| Scene::awaited(1))
    },

    wait => Operation {
        operation: |scene| assert_eq!(scene.latch.wait(&me(), None), Outcome::Acquired),
        asleep: |scene, _| {
            scene.arrive(1);
            scene.latch.count_down(&me());
        },
        check: Scene::assert_opens,
        ..Operation::on(|| Scene::at(1))
    },
}
