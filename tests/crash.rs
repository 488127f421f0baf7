//! A child is killed before each instruction of an operation in turn. Whatever it was in the middle of, the object must
//! work on for all others: one owner, no permit or signal lost, doubled or kept, nobody left asleep.
//!
//! `cargo test` tries a spread of the points, `rake rust:crash` (`CRASH_STRIDE=1`) all.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/steps.rs"]
mod steps;
mod support;

use process_shared_core::condition::Wait;
use process_shared_core::kernel::Kernel;
use process_shared_core::platform::StandIn;
use process_shared_core::semaphore::MAX;
use process_shared_core::{ConditionVariable, Deadline, Mutex, Outcome, Semaphore, Thread, transfer_held};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;
use steps::{Run, Victim, each_point};
use support::{Child, PATIENCE, comes_true, fork, shared, until};

/// Tries the points of `scenario`, and tells how many.
fn crash(name: &str, scenario: impl Fn(&Run)) {
    let stride = std::env::var("CRASH_STRIDE").ok().and_then(|stride| stride.parse().ok());
    let (points, tried) = each_point(stride, |run| {
        // A panic says where it was.
        let point = run.point();
        let guard = Tell(name, point);
        scenario(run);
        std::mem::forget(guard);
    });
    println!("{name}: killed at {tried} of {points} points");
}

struct Tell<'a>(&'a str, Option<usize>);

impl Drop for Tell<'_> {
    fn drop(&mut self) {
        eprintln!("{}: failed at point {:?}", self.0, self.1);
    }
}

fn me() -> Thread {
    Thread::current().unwrap()
}

/// What a victim runs before its steps count, so that they are those of the operation alone.
fn ready() {
    me();
}

/// A victim that nobody else has to do with, and that never sleeps.
const ALONE: Victim<'static> = Victim {
    prepare: &ready,
    operation: &|| {},
    ready: &|_| {},
    asleep: &|_| panic!("nothing to wait for here"),
};

/// For an operation that sleeps once: whether this is that time. Those who look by themselves fall asleep again after.
fn is_first(naps: usize) -> bool {
    assert!(naps == 0 || !Thread::TELLS_OF_DEATHS);
    naps == 0
}

fn lock(mutex: &Mutex) {
    if !mutex.try_lock(&me()).unwrap() {
        assert_eq!(mutex.lock(&me(), Deadline::after(PATIENCE)), Outcome::Acquired);
    }
}

/// The mutex is free, or comes free by itself; it has one owner at a time, and is as good as new after.
fn assert_works(mutex: &Mutex) {
    lock(mutex);
    assert_eq!(mutex.owner_pid(), Some(std::process::id()));
    assert!(!mutex.try_lock(&me()).unwrap());
    mutex.unlock(&me());
    assert!(!mutex.is_locked() && !mutex.is_abandoned());
    assert_eq!(mutex.waiters(), 0);
    let child = fork(|| {
        lock(mutex);
        mutex.unlock(&me());
        0
    });
    assert_eq!(child.reap(), 0);
}

/// A child that is asleep until it has the mutex.
fn contender(mutex: &Mutex) -> Child {
    let child = fork(|| {
        lock(mutex);
        mutex.unlock(&me());
        0
    });
    child.until_asleep();
    child
}

mod mutex {
    use super::*;

    #[test]
    fn create() {
        crash("create", |run| {
            let mutex = Mutex::new().unwrap();
            let operation = || drop(Mutex::new().unwrap());
            run.kill(&Victim { operation: &operation, ..ALONE });
            assert_works(&mutex);
            assert_works(&Mutex::new().unwrap());
        });
    }

    #[test]
    fn allocate_and_release_a_slot() {
        crash("allocate and release a slot", |run| {
            let mutex = Mutex::new().unwrap();
            let prepare = || {
                ready();
                std::mem::forget((Mutex::new(), Mutex::new()));
            };
            let operation = || drop((Mutex::new().unwrap(), Mutex::new().unwrap()));
            run.kill(&Victim { prepare: &prepare, operation: &operation, ..ALONE });
            assert_works(&mutex);
            assert_works(&Mutex::new().unwrap());
        });
    }

    #[test]
    fn lock_and_unlock() {
        crash("lock and unlock", |run| {
            let mutex = Mutex::new().unwrap();
            let operation = || {
                lock(&mutex);
                mutex.unlock(&me());
            };
            run.kill(&Victim { operation: &operation, ..ALONE });
            assert_works(&mutex);
        });
    }

    #[test]
    fn unlock_with_a_waiter() {
        crash("unlock with a waiter", |run| {
            let mutex = Mutex::new().unwrap();
            let waiter = std::cell::Cell::new(None);
            run.kill(&Victim {
                prepare: &|| lock(&mutex),
                operation: &|| mutex.unlock(&me()),
                ready: &|_| waiter.set(Some(contender(&mutex))),
                ..ALONE
            });
            assert_eq!(waiter.take().unwrap().reap(), 0);
            assert_works(&mutex);
        });
    }

    #[test]
    fn contended_lock() {
        crash("contended lock", |run| {
            let mutex = Mutex::new().unwrap();
            lock(&mutex);
            let waiter = std::cell::Cell::new(None);
            run.kill(&Victim {
                operation: &|| {
                    lock(&mutex);
                    mutex.unlock(&me());
                },
                asleep: &|naps| {
                    if is_first(naps) {
                        waiter.set(Some(contender(&mutex)));
                        mutex.unlock(&me());
                    }
                },
                ..ALONE
            });
            let waiter = waiter.take().unwrap_or_else(|| {
                let waiter = contender(&mutex);
                mutex.unlock(&me());
                waiter
            });
            assert_eq!(waiter.reap(), 0);
            assert_works(&mutex);
        });
    }

    #[test]
    fn try_lock_in_vain_and_timed_lock() {
        crash("try_lock in vain, timed lock", |run| {
            let mutex = Mutex::new().unwrap();
            lock(&mutex);
            run.kill(&Victim {
                operation: &|| {
                    assert!(!mutex.try_lock(&me()).unwrap());
                    let soon = Deadline::after(Duration::from_micros(300));
                    assert_eq!(mutex.lock(&me(), soon), Outcome::TimedOut);
                },
                asleep: &|_| {},
                ..ALONE
            });
            let waiter = contender(&mutex);
            mutex.unlock(&me());
            assert_eq!(waiter.reap(), 0);
            assert_works(&mutex);
        });
    }

    /// As for exec, to a stand-in and back. Two locks are held, and somebody waits for one.
    #[test]
    fn transfer() {
        crash("pass on what is held", |run| {
            let mutexes = [Mutex::new().unwrap(), Mutex::new().unwrap()];
            let (waiter, heir) = (std::cell::Cell::new(None), std::cell::Cell::new(None));
            run.kill(&Victim {
                prepare: &|| {
                    mutexes.iter().for_each(lock);
                    heir.set(StandIn::start().ok());
                },
                operation: &|| {
                    let heir = heir.take().unwrap();
                    transfer_held(&me(), &heir.thread());
                    transfer_held(&heir.thread(), &me());
                    std::mem::forget(heir);
                },
                ready: &|_| waiter.set(Some(contender(&mutexes[0]))),
                asleep: &|_| {}, // until the stand-in has come
            });
            assert_eq!(waiter.take().unwrap().reap(), 0);
            assert!(mutexes[1].try_lock(&me()).unwrap() && mutexes[1].is_abandoned());
            mutexes[1].unlock(&me());
            mutexes.iter().for_each(assert_works);
        });
    }

    fn abandoned() -> Mutex {
        let mutex = Mutex::new().unwrap();
        fork(|| {
            lock(&mutex);
            support::die()
        })
        .reap();
        mutex
    }

    #[test]
    fn take_over() {
        crash("take-over of an abandoned lock", |run| {
            let mutex = abandoned();
            let operation = || {
                lock(&mutex);
                assert!(mutex.is_abandoned());
                mutex.unlock(&me());
            };
            run.kill(&Victim { operation: &operation, ..ALONE });
            assert_works(&mutex);
        });
    }

    #[test]
    fn take_over_asleep() {
        crash("take-over of a lock abandoned meanwhile", |run| {
            let mutex = Mutex::new().unwrap();
            let held = shared::<AtomicU32>();
            let holder = std::cell::Cell::new(Some(fork(|| {
                lock(&mutex);
                held.store(1, SeqCst);
                loop {
                    std::thread::sleep(PATIENCE);
                }
            })));
            until("the holder holds it", || held.load(SeqCst) == 1);
            let waiter = std::cell::Cell::new(None);
            let kill_holder = || {
                waiter.set(Some(contender(&mutex)));
                holder.take().unwrap().kill();
            };
            run.kill(&Victim {
                operation: &|| {
                    lock(&mutex);
                    mutex.release_as_dead(&me());
                },
                asleep: &|naps| {
                    if is_first(naps) {
                        kill_holder();
                    }
                },
                ..ALONE
            });
            let waiter = waiter.take().unwrap_or_else(|| {
                kill_holder();
                waiter.take().unwrap()
            });
            assert_eq!(waiter.reap(), 0);
            assert_works(&mutex);
        });
    }
}

mod semaphore {
    use super::*;

    fn wait(semaphore: &Semaphore) {
        assert!(semaphore.try_wait() || semaphore.wait(&me(), None) == Outcome::Acquired);
    }

    fn post(semaphore: &Semaphore) {
        semaphore.post(&me(), MAX).unwrap();
    }

    fn contender(semaphore: &Semaphore) -> Child {
        let child = fork(|| {
            wait(semaphore);
            0
        });
        child.until_asleep();
        child
    }

    /// The waiter gets a permit if one is free, and only then. Whether it did without one being posted.
    fn settle(semaphore: &Semaphore, waiter: Child) -> bool {
        let free = || semaphore.value() > 0;
        let over = comes_true(PATIENCE, || waiter.is_over() || (waiter_sleeps(&waiter) && !free()));
        assert!(over, "a permit is free and a waiter sleeps");
        let got = waiter.is_over();
        if !got {
            post(semaphore);
        }
        assert_eq!(waiter.reap(), 0);
        got
    }

    fn waiter_sleeps(waiter: &Child) -> bool {
        support::is_asleep(waiter.pid)
    }

    #[test]
    fn wait_and_post() {
        crash("wait and post", |run| {
            let semaphore = Semaphore::new(1).unwrap();
            let operation = || {
                wait(&semaphore);
                post(&semaphore);
            };
            run.kill(&Victim { operation: &operation, ..ALONE });
            let taken = 1 - semaphore.value();
            (0..taken).for_each(|_| post(&semaphore));
            wait(&semaphore);
            assert_eq!((semaphore.value(), semaphore.waiters()), (0, 0));
        });
    }

    #[test]
    fn post_with_a_waiter() {
        crash("post with a waiter", |run| {
            let semaphore = Semaphore::new(0).unwrap();
            let waiter = contender(&semaphore);
            run.kill(&Victim { operation: &|| post(&semaphore), ..ALONE });
            settle(&semaphore, waiter);
            assert_eq!((semaphore.value(), semaphore.waiters()), (0, 0));
        });
    }

    #[test]
    fn contended_wait() {
        crash("contended wait", |run| {
            let semaphore = Semaphore::new(0).unwrap();
            let (waiter, posted) = (std::cell::Cell::new(None), std::cell::Cell::new(0));
            let post = || {
                post(&semaphore);
                posted.set(posted.get() + 1);
            };
            run.kill(&Victim {
                operation: &|| wait(&semaphore),
                asleep: &|naps| {
                    if naps == 0 {
                        waiter.set(Some(contender(&semaphore)));
                    }
                    post(); // once more if the other was quicker
                },
                ..ALONE
            });
            let waiter = waiter.take().unwrap_or_else(|| contender(&semaphore));
            if !settle(&semaphore, waiter) {
                posted.set(posted.get() + 1);
            }
            let left = posted.get() - 1; // less what the victim took
            assert!((left.max(1) - 1..=left).contains(&semaphore.value()));
            assert_eq!(semaphore.waiters(), 0);
        });
    }

    /// Two permits come at once, one wakes the victim: it has to tell the next of the other.
    #[test]
    fn wait_that_leaves_a_permit() {
        crash("wait that leaves a permit", |run| {
            let semaphore = Semaphore::new(0).unwrap();
            let waiters = std::cell::RefCell::new(Vec::new());
            run.kill(&Victim {
                operation: &|| wait(&semaphore),
                asleep: &|naps| {
                    if naps == 0 {
                        let all = [contender(&semaphore), contender(&semaphore)];
                        waiters.borrow_mut().extend(all);
                        post(&semaphore);
                    }
                    post(&semaphore); // alone if the others were quicker
                },
                ..ALONE
            });
            let waiters = waiters.take();
            if waiters.is_empty() {
                return; // killed before it slept: as above
            }
            until("one of two is through", || waiters.iter().any(Child::is_over));
            let rest: Vec<Child> = waiters.into_iter().filter(|waiter| !waiter.is_over()).collect();
            for waiter in rest {
                settle(&semaphore, waiter);
            }
            assert!(semaphore.value() <= 1);
            assert_eq!(semaphore.waiters(), 0);
        });
    }

    #[test]
    fn watch() {
        crash("watch", |run| {
            let semaphore = Semaphore::new(0).unwrap();
            let waiter = std::cell::Cell::new(None);
            run.kill(&Victim {
                operation: &|| assert_eq!(semaphore.watch(&me(), None), Outcome::Acquired),
                asleep: &|naps| {
                    if naps == 0 {
                        waiter.set(Some(contender(&semaphore)));
                    }
                    post(&semaphore);
                },
                ..ALONE
            });
            if let Some(waiter) = waiter.take() {
                assert_eq!(waiter.reap(), 0, "nobody else takes it");
            }
        });
    }
}

mod condition {
    use super::*;
    use std::cell::{Cell, RefCell};

    /// A condition, the mutex that goes with it, and how often each of some children was woken.
    struct Scene {
        condition: ConditionVariable,
        mutex: Mutex,
        woken: &'static [AtomicU32; 8],
    }

    /// How far a victim came in its wait.
    #[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
    enum Came {
        In = 1,
        /// It has its mutex again.
        Back,
        Out,
    }

    impl Scene {
        fn new() -> Self {
            Scene {
                condition: ConditionVariable::new().unwrap(),
                mutex: Mutex::new().unwrap(),
                woken: shared(),
            }
        }

        /// A whole wait, as a user's, but that the mutex is not held before it.
        fn wait(&self, came: impl Fn(Came)) {
            self.wait_with(came, |_| {});
        }

        /// The same, with something to do before it takes the mutex again.
        fn wait_with(&self, came: impl Fn(Came), between: impl Fn(&mut Wait)) {
            let (condition, thread) = (self.condition.condition(), me());
            let mut wait = condition.enter(&thread, self.mutex.name()).unwrap();
            came(Came::In);
            assert_eq!(condition.sleep(&thread, &mut wait, None), Outcome::Acquired);
            between(&mut wait);
            lock(&self.mutex);
            came(Came::Back);
            condition.finish(&thread, wait);
            came(Came::Out);
            self.mutex.unlock(&thread);
        }

        /// The `number`th child, asleep until it is woken.
        fn waiter(&self, number: usize) -> Child {
            let before = self.condition.condition().waiters();
            let child = fork(|| {
                self.wait(|came| {
                    if came == Came::Back {
                        self.woken[number].fetch_add(1, SeqCst);
                    }
                });
                0
            });
            until("it waits", || {
                self.condition.condition().waiters() > before && support::is_asleep(child.pid)
            });
            child
        }

        fn signal(&self) {
            self.condition.condition().signal(&me());
        }

        fn woken(&self, number: usize) -> bool {
            self.woken[number].load(SeqCst) > 0
        }

        fn all_woken(&self, numbers: std::ops::Range<usize>) -> usize {
            numbers.filter(|&number| self.woken(number)).count()
        }

        /// The waiters that sleep are woken by one signal each, the oldest first, and none by less.
        fn assert_one_each(&self, waiters: Vec<(usize, Child)>) {
            let condition = self.condition.condition();
            let (over, mut asleep): (Vec<_>, Vec<_>) =
                waiters.into_iter().partition(|(number, _)| self.woken(*number));
            over.into_iter().for_each(|(_, child)| assert_eq!(child.reap(), 0));
            while !asleep.is_empty() {
                assert_eq!(condition.waiters(), asleep.len());
                self.signal();
                let (number, child) = asleep.remove(0);
                assert_eq!(child.reap(), 0, "waiter {number}");
                for (later, child) in &asleep {
                    assert!(!self.woken(*later), "one signal woke {number} and {later}");
                    child.until_asleep();
                }
            }
            assert_eq!(condition.waiters(), 0);
            let mut wait = condition.enter(&me(), self.mutex.name()).unwrap();
            let soon = Deadline::after(Duration::from_micros(100));
            assert_eq!(condition.sleep(&me(), &mut wait, soon), Outcome::TimedOut, "a signal was kept");
            assert!(condition.expire(&me(), wait).is_none());
            assert_works(&self.mutex);
        }

        /// Whether it comes true that so many of the waiters are woken, by the signals sent so far.
        fn expect_woken(&self, numbers: std::ops::Range<usize>, count: usize) {
            until(format!("{count} of {numbers:?} woken"), || self.all_woken(numbers.clone()) >= count);
        }
    }

    /// The victim waits, is granted when it sleeps, and takes its mutex again; two others wait behind it.
    #[test]
    fn wait() {
        wait_and("condition wait", |_, _| {});
    }

    /// The same, but it puts the baton down before it takes the mutex again, as for a signal handler.
    #[test]
    fn wait_and_rest() {
        wait_and("condition wait, with a rest", |scene, wait| scene.condition.condition().rest(&me(), wait));
    }

    fn wait_and(name: &str, between: impl Fn(&Scene, &mut Wait)) {
        crash(name, |run| {
            let scene = Scene::new();
            let came = shared::<AtomicU32>();
            let others = RefCell::new(Vec::new());
            let arrive = || {
                others.borrow_mut().extend([1, 2].map(|number| (number, scene.waiter(number))));
            };
            run.kill(&Victim {
                operation: &|| {
                    scene.wait_with(|now| came.store(now as u32, SeqCst), |wait| between(&scene, wait));
                },
                asleep: &|naps| {
                    if is_first(naps) {
                        arrive();
                        scene.signal();
                    }
                },
                ..ALONE
            });
            let came = came.load(SeqCst);
            let signalled = !others.borrow().is_empty();
            if !signalled {
                arrive();
                scene.signal();
            }
            if came < Came::Back as u32 || !signalled {
                scene.expect_woken(1..3, 1); // the victim's signal, or one it was not there for
            }
            if came == Came::Out as u32 && signalled {
                assert_eq!(scene.all_woken(1..3), 0);
            }
            until("no signal is on its way", || scene.condition.condition().granted() == 0);
            assert!(scene.all_woken(1..3) <= 1);
            scene.assert_one_each(others.take());
        });
    }

    /// The signal comes when the victim has just come to a point of its wait, and it goes no further.
    #[test]
    fn wait_granted_at_any_point() {
        crash("condition wait, granted at the point", |run| {
            let scene = Scene::new();
            let came = shared::<AtomicU32>();
            let (others, sent) = (RefCell::new(Vec::new()), Cell::new(0));
            let arrive = || {
                if others.borrow().is_empty() {
                    let all = [1, 2, 3].map(|number| (number, scene.waiter(number)));
                    others.borrow_mut().extend(all);
                }
            };
            let signal = || {
                arrive();
                scene.signal();
                sent.set(sent.get() + 1);
            };
            run.kill_after(
                &Victim {
                    operation: &|| scene.wait(|now| came.store(now as u32, SeqCst)),
                    asleep: &|naps| {
                        if naps == 0 || Thread::TELLS_OF_DEATHS {
                            signal();
                        }
                    },
                    ..ALONE
                },
                signal,
            );
            // Of the signals sent, the victim used up one, or none.
            let least = if came.load(SeqCst) >= Came::Back as u32 { sent.get() - 1 } else { sent.get() };
            scene.expect_woken(1..4, least);
            until("no signal is on its way", || scene.condition.condition().granted() == 0);
            assert!(scene.all_woken(1..4) <= sent.get());
            scene.assert_one_each(others.take());
        });
    }

    #[test]
    fn signal() {
        crash("signal", |run| {
            let scene = Scene::new();
            let others = [1, 2].map(|number| (number, scene.waiter(number)));
            run.kill(&Victim { operation: &|| scene.signal(), ..ALONE });
            until("no signal is on its way", || scene.condition.condition().granted() == 0);
            assert!(scene.all_woken(1..3) <= 1);
            scene.assert_one_each(others.into());
        });
    }

    /// While another holds the baton.
    #[test]
    fn signal_without_the_baton() {
        crash("signal without the baton", |run| {
            let scene = Scene::new();
            let others = [1, 2].map(|number| (number, scene.waiter(number)));
            let condition = scene.condition.condition();
            let wait = condition.enter(&me(), scene.mutex.name()).unwrap();
            run.kill(&Victim { operation: &|| scene.signal(), ..ALONE });
            condition.leave(&me(), wait);
            until("no signal is on its way", || condition.granted() == 0);
            assert!(scene.all_woken(1..3) <= 1);
            scene.assert_one_each(others.into());
        });
    }

    #[test]
    fn broadcast() {
        crash("broadcast", |run| {
            let scene = Scene::new();
            let others = [1, 2, 3].map(|number| (number, scene.waiter(number)));
            let condition = scene.condition.condition();
            run.kill(&Victim { operation: &|| condition.broadcast(&me()), ..ALONE });
            until("nobody is called", || condition.called() == 0);
            condition.broadcast(&me());
            for (_, child) in others {
                assert_eq!(child.reap(), 0);
            }
            scene.assert_one_each(Vec::new());
        });
    }

    /// While another holds the baton.
    #[test]
    fn broadcast_without_the_baton() {
        crash("broadcast without the baton", |run| {
            let scene = Scene::new();
            let others = [1, 2, 3].map(|number| (number, scene.waiter(number)));
            let condition = scene.condition.condition();
            let wait = condition.enter(&me(), scene.mutex.name()).unwrap();
            run.kill(&Victim { operation: &|| condition.broadcast(&me()), ..ALONE });
            condition.leave(&me(), wait);
            until("nobody is called", || condition.called() == 0);
            condition.broadcast(&me());
            for (_, child) in others {
                assert_eq!(child.reap(), 0);
            }
            scene.assert_one_each(Vec::new());
        });
    }

    /// The victim is woken by a broadcast, or it comes while the victim stands at the point: the others do not need it.
    #[test]
    fn wait_for_a_broadcast() {
        for early in [true, false] {
            crash("condition wait, broadcast", |run| {
                let scene = Scene::new();
                let others = RefCell::new(Vec::new());
                let broadcast = || {
                    if others.borrow().is_empty() {
                        let all = [1, 2, 3].map(|number| (number, scene.waiter(number)));
                        others.borrow_mut().extend(all);
                    }
                    scene.condition.condition().broadcast(&me());
                };
                run.kill_after(
                    &Victim { operation: &|| scene.wait(|_| {}), asleep: &|_| broadcast(), ..ALONE },
                    || {
                        if !early {
                            broadcast();
                        }
                    },
                );
                if others.borrow().is_empty() {
                    broadcast();
                }
                for (_, child) in others.take() {
                    assert_eq!(child.reap(), 0);
                }
                scene.assert_one_each(Vec::new());
            });
        }
    }

    /// Granted, it has to stop for another reason, and passes its signal on.
    #[test]
    fn leave() {
        crash("leave a granted wait", |run| {
            let scene = Scene::new();
            let (condition, others) = (scene.condition.condition(), RefCell::new(Vec::new()));
            let wait = RefCell::new(None);
            run.kill(&Victim {
                prepare: &|| *wait.borrow_mut() = condition.enter(&me(), scene.mutex.name()).ok(),
                operation: &|| condition.leave(&me(), wait.take().unwrap()),
                ready: &|_| {
                    let all = [1, 2].map(|number| (number, scene.waiter(number)));
                    others.borrow_mut().extend(all);
                    scene.signal();
                },
                ..ALONE
            });
            scene.expect_woken(1..3, 1);
            until("no signal is on its way", || condition.granted() == 0);
            assert_eq!(scene.all_woken(1..3), 1);
            scene.assert_one_each(others.take());
        });
    }

    #[test]
    fn time_out() {
        crash("condition wait that times out", |run| {
            let scene = Scene::new();
            let condition = scene.condition.condition();
            run.kill(&Victim {
                operation: &|| {
                    let mut wait = condition.enter(&me(), scene.mutex.name()).unwrap();
                    let soon = Deadline::after(Duration::from_micros(300));
                    assert_eq!(condition.sleep(&me(), &mut wait, soon), Outcome::TimedOut);
                    assert!(condition.expire(&me(), wait).is_none());
                },
                asleep: &|_| {},
                ..ALONE
            });
            let others = [1, 2].map(|number| (number, scene.waiter(number)));
            scene.assert_one_each(others.into());
        });
    }

    /// The victim signals, and finds the signal of one that died: it has to pass that on too.
    #[test]
    fn relay() {
        crash("relay what a dead waiter left", |run| {
            let scene = Scene::new();
            let condition = scene.condition.condition();
            let step = shared::<AtomicU32>();
            // The baton is ours, so the first does without, and dies unnoticed.
            let holder = condition.enter(&me(), 0).unwrap();
            let first = fork(|| {
                let _wait = condition.enter(&me(), scene.mutex.name()).unwrap();
                step.store(1, SeqCst);
                loop {
                    std::thread::sleep(PATIENCE);
                }
            });
            until("the first has entered", || step.load(SeqCst) == 1);
            condition.leave(&me(), holder);
            let others = [1, 2, 3].map(|number| (number, scene.waiter(number)));
            for (_, child) in &others {
                child.signal(libc::SIGSTOP);
                until("it is stopped", || support::state(child.pid) == 'T');
            }
            scene.signal();
            first.kill();
            run.kill(&Victim { operation: &|| scene.signal(), ..ALONE });
            others.iter().for_each(|(_, child)| child.signal(libc::SIGCONT));
            scene.expect_woken(1..4, 1);
            until("no signal is on its way", || condition.granted() == 0);
            assert!((1..=2).contains(&scene.all_woken(1..4)));
            scene.assert_one_each(others.into());
        });
    }
}
