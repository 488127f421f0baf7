//! The mutex.

use crate::support::{Child, PATIENCE, die, fork, shared, until};
use crate::{is_first, me};
use process_shared_core::platform::StandIn;
use process_shared_core::{Deadline, Mutex, Outcome, transfer_held};
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

type Operation = crate::operation::Operation<Scene>;

pub fn lock(mutex: &Mutex) {
    if !mutex.try_lock(&me()).unwrap() {
        assert_eq!(mutex.lock(&me(), Deadline::after(PATIENCE)), Outcome::Acquired);
    }
}

fn unlock(mutex: &Mutex) {
    mutex.unlock(&me());
}

/// The mutex is free, or comes free by itself; it has one owner at a time, and is as good as new after.
pub fn assert_works(mutex: &Mutex) {
    lock(mutex);
    assert_eq!(mutex.owner_pid(), Some(std::process::id()));
    assert!(!mutex.try_lock(&me()).unwrap());
    unlock(mutex);
    assert!(!mutex.is_locked() && !mutex.is_abandoned());
    assert_eq!(mutex.waiters(), 0);
    let child = fork(|| {
        lock(mutex);
        unlock(mutex);
        0
    });
    assert_eq!(child.reap(), 0);
}

struct Scene {
    mutex: Mutex,
    other: Mutex,
    /// A child that holds the mutex. Without one, this process does, if anybody.
    holder: Cell<Option<Child>>,
    /// A child that waits for the mutex.
    waiter: RefCell<Option<Child>>,
    stand_in: Cell<Option<StandIn>>,
}

impl Scene {
    fn free() -> Self {
        Scene {
            mutex: Mutex::new().unwrap(),
            other: Mutex::new().unwrap(),
            holder: Cell::default(),
            waiter: RefCell::default(),
            stand_in: Cell::default(),
        }
    }

    fn held() -> Self {
        let scene = Self::free();
        lock(&scene.mutex);
        scene
    }

    fn held_by_a_child() -> Self {
        let (scene, held) = (Self::free(), shared::<AtomicU32>());
        scene.holder.set(Some(fork(|| {
            lock(&scene.mutex);
            held.store(1, SeqCst);
            loop {
                std::thread::sleep(PATIENCE);
            }
        })));
        until("the holder holds it", || held.load(SeqCst) == 1);
        scene
    }

    fn abandoned() -> Self {
        let scene = Self::free();
        let holder = fork(|| {
            lock(&scene.mutex);
            die()
        });
        holder.reap();
        scene
    }

    /// Starts the waiter; returns once it is asleep.
    fn await_mutex(&self) {
        let waiter = fork(|| {
            lock(&self.mutex);
            unlock(&self.mutex);
            0
        });
        waiter.until_asleep();
        self.waiter.replace(Some(waiter));
    }

    /// Once: the waiter comes, then the holder unlocks the mutex, or dies if it is a child.
    fn hand_on(&self) {
        if self.waiter.borrow().is_none() {
            self.await_mutex();
            match self.holder.take() {
                Some(holder) => holder.kill(),
                None => unlock(&self.mutex),
            }
        }
    }

    /// The waiter has had the mutex.
    fn assert_handed_on(&self) {
        assert_eq!(self.waiter.take().unwrap().reap(), 0);
        assert_works(&self.mutex);
    }
}

crash_tests! {
    create => Operation {
        operation: |_| drop(Mutex::new().unwrap()),
        check: |scene| {
            assert_works(&scene.mutex);
            assert_works(&Mutex::new().unwrap());
        },
        ..Operation::on(Scene::free)
    },

    allocate_and_release_a_slot => Operation {
        prepare: |_| std::mem::forget((Mutex::new(), Mutex::new())),
        operation: |_| drop((Mutex::new().unwrap(), Mutex::new().unwrap())),
        check: |scene| {
            assert_works(&scene.mutex);
            assert_works(&Mutex::new().unwrap());
        },
        ..Operation::on(Scene::free)
    },

    lock_and_unlock => Operation {
        operation: |scene| {
            lock(&scene.mutex);
            unlock(&scene.mutex);
        },
        check: |scene| assert_works(&scene.mutex),
        ..Operation::on(Scene::free)
    },

    unlock_with_a_waiter => Operation {
        prepare: |scene| lock(&scene.mutex),
        operation: |scene| unlock(&scene.mutex),
        ready: Scene::await_mutex,
        check: Scene::assert_handed_on,
        ..Operation::on(Scene::free)
    },

    contended_lock => Operation {
        operation: |scene| {
            lock(&scene.mutex);
            unlock(&scene.mutex);
        },
        asleep: |scene, naps| {
            if is_first(naps) {
                scene.hand_on();
            }
        },
        check: |scene| {
            scene.hand_on();
            scene.assert_handed_on();
        },
        ..Operation::on(Scene::held)
    },

    try_lock_in_vain_and_timed_lock => Operation {
        operation: |scene| {
            assert!(!scene.mutex.try_lock(&me()).unwrap());
            let soon = Deadline::after(Duration::from_micros(300));
            assert_eq!(scene.mutex.lock(&me(), soon), Outcome::TimedOut);
        },
        asleep: |_, _| {}, // until its deadline
        check: |scene| {
            scene.hand_on();
            scene.assert_handed_on();
        },
        ..Operation::on(Scene::held)
    },

    take_over_of_an_abandoned_lock => Operation {
        operation: |scene| {
            lock(&scene.mutex);
            assert!(scene.mutex.is_abandoned());
            unlock(&scene.mutex);
        },
        check: |scene| assert_works(&scene.mutex),
        ..Operation::on(Scene::abandoned)
    },

    take_over_of_a_lock_abandoned_meanwhile => Operation {
        operation: |scene| {
            lock(&scene.mutex);
            scene.mutex.release_as_dead(&me());
        },
        asleep: |scene, naps| {
            if is_first(naps) {
                scene.hand_on();
            }
        },
        check: |scene| {
            scene.hand_on();
            scene.assert_handed_on();
        },
        ..Operation::on(Scene::held_by_a_child)
    },

    /// As for exec, to a stand-in and back. Two locks are held, and there is a waiter for one.
    transfer => Operation {
        prepare: |scene| {
            lock(&scene.mutex);
            lock(&scene.other);
            scene.stand_in.set(StandIn::start().ok());
        },
        operation: |scene| {
            let stand_in = scene.stand_in.take().unwrap();
            transfer_held(&me(), &stand_in.thread());
            transfer_held(&stand_in.thread(), &me());
            std::mem::forget(stand_in);
        },
        ready: Scene::await_mutex,
        asleep: |_, _| {}, // until the stand-in has come
        check: |scene| {
            scene.assert_handed_on();
            assert!(scene.other.try_lock(&me()).unwrap() && scene.other.is_abandoned());
            unlock(&scene.other);
            assert_works(&scene.other);
        },
        ..Operation::on(Scene::free)
    },
}
