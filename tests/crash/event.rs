//! The event.

use crate::me;
use crate::support::{Child, fork};
use process_shared_core::{Event, Outcome};
use std::cell::RefCell;

type Operation = crate::operation::Operation<Scene>;

struct Scene {
    event: Event,
    /// Children that wait for it.
    waiters: RefCell<Vec<Child>>,
}

impl Scene {
    fn unset() -> Self {
        Scene { event: Event::new().unwrap(), waiters: RefCell::default() }
    }

    fn awaited() -> Self {
        let scene = Self::unset();
        scene.arrive(2);
        scene
    }

    fn set() -> Self {
        let scene = Self::unset();
        scene.event.set(&me());
        scene
    }

    fn wait(&self) {
        if let Some(epoch) = self.event.begin() {
            assert_eq!(self.event.wait(&me(), epoch, None), Outcome::Acquired);
        }
    }

    fn pulse(&self) {
        self.event.set(&me());
        self.event.reset(&me());
    }

    fn arrive(&self, count: usize) {
        for _ in 0..count {
            let waiter = fork(|| {
                self.wait();
                0
            });
            waiter.until_asleep();
            self.waiters.borrow_mut().push(waiter);
        }
    }

    /// All who wait wake up without more being done.
    fn assert_woken(&self) {
        for waiter in self.waiters.take() {
            assert_eq!(waiter.reap(), 0);
        }
        assert_eq!(self.event.waiters(), 0);
    }

    /// The event works as a new one does.
    fn assert_works(&self) {
        self.event.reset(&me());
        assert!(!self.event.is_set());
        self.arrive(2);
        assert!(self.event.set(&me()));
        self.assert_woken();
    }
}

crash_tests! {
    set_alone => Operation {
        operation: |scene| assert!(scene.event.set(&me())),
        check: Scene::assert_works,
        ..Operation::on(Scene::unset)
    },

    /// If the event is set, nobody sleeps. If not, the victim died before it set it.
    set_with_waiters => Operation {
        operation: |scene| assert!(scene.event.set(&me())),
        check: |scene| {
            if !scene.event.is_set() {
                scene.event.set(&me());
            }
            scene.assert_woken();
            scene.assert_works();
        },
        ..Operation::on(Scene::awaited)
    },

    set_and_reset_with_waiters => Operation {
        operation: Scene::pulse,
        check: |scene| {
            scene.event.set(&me());
            scene.assert_woken();
            scene.assert_works();
        },
        ..Operation::on(Scene::awaited)
    },

    /// A setter died before it woke anybody, and a reset follows.
    set_that_is_reset_by_another => Operation {
        operation: |scene| assert!(scene.event.set(&me())),
        check: |scene| {
            let was_set = scene.event.is_set();
            scene.event.reset(&me());
            if !was_set {
                scene.pulse();
            }
            scene.assert_woken();
            scene.assert_works();
        },
        ..Operation::on(Scene::awaited)
    },

    reset => Operation {
        operation: |scene| scene.event.reset(&me()),
        check: Scene::assert_works,
        ..Operation::on(Scene::set)
    },

    wait => Operation {
        operation: Scene::wait,
        asleep: |scene, _| {
            scene.arrive(1);
            scene.event.set(&me());
        },
        check: |scene| {
            scene.assert_woken();
            scene.assert_works();
        },
        ..Operation::on(Scene::unset)
    },
}
