//! The semaphore.

use crate::me;
use crate::support::{Child, PATIENCE, comes_true, fork, is_asleep, until};
use process_shared_core::semaphore::MAX;
use process_shared_core::{Outcome, Semaphore};
use std::cell::{Cell, RefCell};

type Operation = crate::operation::Operation<Scene>;

struct Scene {
    semaphore: Semaphore,
    /// Children that wait for a permit.
    waiters: RefCell<Vec<Child>>,
    /// Permits posted by this process.
    posted: Cell<i64>,
}

impl Scene {
    fn with_permits(permits: u32) -> Self {
        Scene {
            semaphore: Semaphore::new(permits).unwrap(),
            waiters: RefCell::default(),
            posted: Cell::new(0),
        }
    }

    fn free() -> Self {
        Self::with_permits(1)
    }

    fn taken() -> Self {
        Self::with_permits(0)
    }

    fn taken_with_a_waiter() -> Self {
        let scene = Self::taken();
        scene.arrive(1);
        scene
    }

    fn wait(&self) {
        assert!(self.semaphore.try_wait() || self.semaphore.wait(&me(), None) == Outcome::Acquired);
    }

    /// As a BinarySemaphore's waiter takes its permit: once it can.
    fn wait_for_chance(&self) {
        let semaphore = &self.semaphore;
        while !semaphore.wait_for_chance(&me(), None).is_ok_and(|it| semaphore.settle_chance(&me(), it, true))
        {
        }
    }

    fn acquire(&self, count: u32) {
        let is_there = self.semaphore.try_acquire(&me(), count) == Ok(true);
        assert!(is_there || self.semaphore.acquire(&me(), count, None) == Ok(Outcome::Acquired));
    }

    /// Whoever comes gets what it wants once there is enough, and nothing is left of a debt or of the victim's claim.
    fn assert_line_works(&self, wanted: u32) {
        self.arrive_wanting(1, wanted);
        for waiter in self.waiters.take() {
            let is_short = || self.semaphore.value() < i64::from(wanted);
            let settled = || waiter.is_over() || is_asleep(waiter.pid) && is_short();
            while !waiter.is_over() {
                assert!(comes_true(PATIENCE, settled), "there is enough and a waiter sleeps");
                if !waiter.is_over() {
                    self.post();
                }
            }
            assert_eq!(waiter.reap(), 0);
        }
        self.semaphore.drain(&me()).unwrap();
        assert_eq!((self.semaphore.value(), self.semaphore.waiters()), (0, 0));
        self.post();
        assert!(self.semaphore.try_wait());
    }

    fn post(&self) {
        self.semaphore.post(&me(), MAX).unwrap();
        self.posted.set(self.posted.get() + 1);
    }

    /// Starts `count` waiters, unless there are some; returns once they are asleep.
    fn arrive(&self, count: usize) {
        self.arrive_wanting(count, 1);
    }

    /// Starts `count` waiters, unless there are some; returns once they are asleep, or have what they want.
    fn arrive_wanting(&self, count: usize, wanted: u32) {
        if !self.waiters.borrow().is_empty() {
            return;
        }
        for _ in 0..count {
            let waiter = fork(|| {
                match wanted {
                    1 => self.wait(),
                    _ => self.acquire(wanted),
                }
                0
            });
            until("a waiter sleeps", || waiter.is_over() || is_asleep(waiter.pid));
            self.waiters.borrow_mut().push(waiter);
        }
    }

    /// Each waiter gets a permit if one is free, and only then. Those that get none are given one.
    fn assert_served(&self) {
        for waiter in self.waiters.take() {
            let free = || self.semaphore.value() > 0;
            let settled = || waiter.is_over() || (is_asleep(waiter.pid) && !free());
            assert!(comes_true(PATIENCE, settled), "a permit is free and a waiter sleeps");
            if !waiter.is_over() {
                self.post();
            }
            assert_eq!(waiter.reap(), 0);
        }
        assert_eq!(self.semaphore.waiters(), 0);
    }
}

/// The victim waits for its permit, and another waiter for the next.
fn contended(wait: fn(&Scene)) -> Operation {
    Operation {
        operation: wait,
        asleep: |scene, _| {
            scene.arrive(1);
            scene.post(); // once more if the waiter was quicker than the victim
        },
        check: |scene| {
            scene.arrive(1);
            scene.assert_served();
            let left = scene.posted.get() - 1; // less the permit of the waiter; the victim may have taken one too
            assert!((left.max(1) - 1..=left).contains(&scene.semaphore.value()));
        },
        ..Operation::on(Scene::taken)
    }
}

/// The victim wants two permits. The other waiter, behind it, wants `behind`.
fn contended_line(behind: u32) -> Operation {
    Operation {
        operation: |scene| scene.acquire(2),
        asleep: |scene, _| scene.post(),
        at_the_point: |scene| scene.post(),
        check: match behind {
            1 => |scene| scene.assert_line_works(1),
            _ => |scene| scene.assert_line_works(2),
        },
        ..Operation::on(Scene::taken)
    }
}

crash_tests! {
    acquire_and_release_two => Operation {
        operation: |scene| {
            assert_eq!(scene.semaphore.try_acquire(&me(), 2), Ok(true));
            scene.semaphore.post_many(&me(), 2, MAX).unwrap();
        },
        check: |scene| scene.assert_line_works(2),
        ..Operation::on(|| Scene::with_permits(2))
    },

    contended_acquire_with_a_single_behind => contended_line(1),

    contended_acquire_with_another_behind => contended_line(2),

    /// A child is the head of the line, the victim the next, and another child comes last. Over the model of
    /// Mach the victim takes naps meanwhile, which count as no sleep.
    #[cfg(not(feature = "simulated-mach"))]
    contended_acquire_behind_another => Operation {
        operation: |scene| scene.acquire(2),
        asleep: |scene, _| scene.post(),
        check: |scene| {
            let last = fork(|| {
                scene.acquire(2);
                0
            });
            until("the last waits", || last.is_over() || is_asleep(last.pid));
            scene.waiters.borrow_mut().push(last);
            scene.assert_line_works(2);
        },
        ..Operation::on(|| {
            let scene = Scene::taken();
            scene.arrive_wanting(1, 2);
            scene
        })
    },

    release_to_the_head_of_the_line => Operation {
        operation: |scene| scene.semaphore.post_many(&me(), 2, MAX).unwrap(),
        check: |scene| scene.assert_line_works(2),
        ..Operation::on(|| {
            let scene = Scene::free();
            scene.arrive_wanting(1, 2);
            scene
        })
    },

    reduce_and_drain => Operation {
        operation: |scene| {
            scene.semaphore.reduce(&me(), 2, -9).unwrap();
            scene.semaphore.drain(&me()).unwrap();
        },
        check: |scene| scene.assert_line_works(2),
        ..Operation::on(Scene::free)
    },

    wait_and_post => Operation {
        operation: |scene| {
            scene.wait();
            scene.post();
        },
        check: |scene| {
            let taken = 1 - scene.semaphore.value();
            (0..taken).for_each(|_| scene.post());
            scene.wait();
            assert_eq!((scene.semaphore.value(), scene.semaphore.waiters()), (0, 0));
        },
        ..Operation::on(Scene::free)
    },

    post_with_a_waiter => Operation {
        operation: Scene::post,
        check: |scene| {
            scene.assert_served();
            assert_eq!(scene.semaphore.value(), 0);
        },
        ..Operation::on(Scene::taken_with_a_waiter)
    },

    contended_wait => contended(Scene::wait),

    contended_wait_for_a_chance => contended(Scene::wait_for_chance),

    /// Two permits come at once and one wakes the victim, which has to wake the next waiter for the other.
    wait_that_leaves_a_permit => Operation {
        operation: Scene::wait,
        asleep: |scene, naps| {
            if naps == 0 {
                scene.arrive(2);
                scene.post();
            }
            scene.post(); // alone if the waiters were quicker than the victim
        },
        check: |scene| {
            if scene.waiters.borrow().is_empty() {
                return; // killed before it slept: as in `contended_wait`
            }
            until("one of two has a permit", || scene.waiters.borrow().iter().any(Child::is_over));
            scene.assert_served();
            assert!(scene.semaphore.value() <= 1);
        },
        ..Operation::on(Scene::taken)
    },

    watch => Operation {
        operation: |scene| assert_eq!(scene.semaphore.wait_until_available(&me(), 1, None), Outcome::Acquired),
        asleep: |scene, _| {
            scene.arrive(1);
            scene.post();
        },
        check: |scene| {
            for waiter in scene.waiters.take() {
                assert_eq!(waiter.reap(), 0, "no other thread takes the permit");
            }
        },
        ..Operation::on(Scene::taken)
    },
}
