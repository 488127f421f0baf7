//! The robust semaphore: whoever dies, all its permits come back, and nobody else's.

use crate::me;
use crate::support::{Child, PATIENCE, comes_true, fork};
use process_shared_core::{Outcome, Semaphore, SemaphoreKind};
use std::cell::RefCell;

type Operation = crate::operation::Operation<Scene>;

const LIMIT: u32 = 3;

struct Scene {
    semaphore: Semaphore,
    /// A child that wants all permits, and ends with them.
    waiter: RefCell<Option<Child>>,
}

impl Scene {
    fn free() -> Self {
        let semaphore = Semaphore::of_kind(SemaphoreKind::Robust { limit: LIMIT }).unwrap();
        Scene { semaphore, waiter: RefCell::default() }
    }

    /// There are none. (Not: others have them. How often a victim looks whether those live depends on the time.)
    fn without_any() -> Self {
        let scene = Self::free();
        scene.semaphore.resize(&me(), 0).unwrap();
        scene
    }

    /// This process holds them all.
    fn taken() -> Self {
        let scene = Self::free();
        scene.take(LIMIT);
        scene
    }

    fn take(&self, count: u32) {
        self.semaphore.prepare().unwrap();
        if self.semaphore.try_acquire(&me(), count) != Ok(true) {
            assert_eq!(self.semaphore.acquire(&me(), count, None), Ok(Outcome::Acquired));
        }
    }

    fn give(&self, count: u32) {
        self.semaphore.post_many(&me(), count, 0).unwrap();
    }

    /// Has a child wait for all permits, once.
    fn arrive(&self) {
        let mut waiter = self.waiter.borrow_mut();
        if waiter.is_none() {
            let child = fork(|| {
                self.take(LIMIT);
                0
            });
            child.until_asleep_in_line();
            *waiter = Some(child);
        }
    }

    fn give_all_of_this_process(&self) {
        let holders = self.semaphore.holders(&me()).unwrap();
        if let Some((_, held)) = holders.iter().find(|(pid, _)| *pid == std::process::id()) {
            self.give(*held);
        }
    }

    /// Whoever waits gets all permits, and then they are all free, for whoever comes next.
    fn assert_all_come_back(&self) {
        self.give_all_of_this_process();
        if let Some(waiter) = self.waiter.take() {
            assert!(comes_true(PATIENCE, || waiter.is_over()), "all are free and a waiter sleeps");
            assert_eq!(waiter.reap(), 0);
        }
        assert!(comes_true(PATIENCE, || self.semaphore.value() == i64::from(LIMIT)));
        assert_eq!(self.semaphore.holders(&me()), Ok(Vec::new()));
        self.take(LIMIT);
        self.arrive();
        self.give(LIMIT);
        if let Some(waiter) = self.waiter.take() {
            assert_eq!(waiter.reap(), 0);
        }
        assert_eq!((self.semaphore.value(), self.semaphore.waiters()), (i64::from(LIMIT), 0));
    }
}

/// The victim waits for the thread that is to own its permits, before its steps count.
fn starting(_: &Scene, _: usize) {}

crash_tests! {
    wait_and_post => Operation {
        asleep: starting,
        prepare: |scene| scene.semaphore.prepare().unwrap(),
        operation: |scene| {
            assert!(scene.semaphore.try_wait());
            scene.give(1);
        },
        check: Scene::assert_all_come_back,
        ..Operation::on(Scene::free)
    },

    second_wait_and_post => Operation {
        asleep: starting,
        prepare: |scene| scene.take(1),
        operation: |scene| {
            assert!(scene.semaphore.try_wait());
            scene.give(2);
        },
        check: Scene::assert_all_come_back,
        ..Operation::on(Scene::free)
    },

    take_a_kept_one_and_keep_it_again => Operation {
        asleep: starting,
        prepare: |scene| {
            scene.take(1);
            scene.give(1);
        },
        operation: |scene| {
            assert!(scene.semaphore.try_wait());
            scene.give(1);
        },
        check: Scene::assert_all_come_back,
        ..Operation::on(Scene::free)
    },

    /// The victim holds two permits, and others wait for all.
    post_with_a_waiter => Operation {
        asleep: starting,
        prepare: |scene| scene.take(2),
        ready: Scene::arrive,
        operation: |scene| scene.give(2),
        check: Scene::assert_all_come_back,
        ..Operation::on(Scene::free)
    },

    contended_acquire => Operation {
        prepare: |scene| scene.semaphore.prepare().unwrap(),
        operation: |scene| scene.take(2),
        asleep: |scene, _| {
            if scene.semaphore.waiters() > 0 {
                scene.arrive();
                scene.semaphore.resize(&me(), LIMIT).unwrap();
            }
        },
        check: |scene| {
            scene.semaphore.resize(&me(), LIMIT).unwrap();
            scene.assert_all_come_back();
        },
        ..Operation::on(Scene::without_any)
    },

    resize_with_a_waiter => Operation {
        asleep: starting,
        ready: Scene::arrive,
        operation: |scene| {
            scene.semaphore.resize(&me(), LIMIT - 1).unwrap();
            scene.semaphore.resize(&me(), LIMIT).unwrap();
        },
        check: |scene| {
            scene.semaphore.resize(&me(), LIMIT).unwrap();
            scene.assert_all_come_back();
        },
        ..Operation::on(Scene::taken)
    },

    drain_holders_and_value => Operation {
        asleep: starting,
        prepare: |scene| scene.semaphore.prepare().unwrap(),
        operation: |scene| {
            assert_eq!(scene.semaphore.drain(&me()), Ok(LIMIT.into()));
            assert_eq!(scene.semaphore.holders(&me()).unwrap().len(), 1);
            assert_eq!(scene.semaphore.value(), 0);
        },
        check: Scene::assert_all_come_back,
        ..Operation::on(Scene::free)
    },
}
