//! The condition variable.

use crate::mutex::{assert_works, lock};
use crate::support::{Child, PATIENCE, fork, is_asleep, shared, state, until};
use crate::{is_first, me};
use process_shared_core::condition::Wait;
use process_shared_core::kernel::Kernel;
use process_shared_core::{Condition, ConditionVariable, Deadline, Mutex, Outcome, Thread};
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

type Operation = crate::operation::Operation<Scene>;

struct Scene {
    condition: ConditionVariable,
    /// The mutex that goes with the condition. No waiter holds it before its wait.
    mutex: Mutex,
    /// Children that wait, the oldest first, each with its number.
    waiters: RefCell<Vec<(usize, Child)>>,
    /// By number, how often a waiter was woken.
    woken: &'static [AtomicU32; 4],
    /// How far the victim came in its wait.
    progress: &'static AtomicU32,
    /// How many signals this process has sent.
    sent: Cell<usize>,
    /// A wait of this process, which then holds the baton, or of the victim.
    wait: RefCell<Option<Wait>>,
}

/// How far a victim came in its wait.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
enum Progress {
    Entered = 1,
    /// It has its mutex again.
    Back,
    Finished,
}

impl Scene {
    fn empty() -> Self {
        Scene {
            condition: ConditionVariable::new().unwrap(),
            mutex: Mutex::new().unwrap(),
            waiters: RefCell::default(),
            woken: shared(),
            progress: shared(),
            sent: Cell::new(0),
            wait: RefCell::default(),
        }
    }

    fn two_waiters() -> Self {
        let scene = Self::empty();
        scene.arrive(2);
        scene
    }

    fn three_waiters() -> Self {
        let scene = Self::empty();
        scene.arrive(3);
        scene
    }

    fn two_waiters_and_the_baton_taken() -> Self {
        let scene = Self::two_waiters();
        scene.enter();
        scene
    }

    fn three_waiters_and_the_baton_taken() -> Self {
        let scene = Self::three_waiters();
        scene.enter();
        scene
    }

    /// A signal is on its way to a waiter that died unnoticed: it entered while this process had the baton. The others
    /// are stopped.
    fn signalled_a_dead_waiter() -> Self {
        let (scene, entered) = (Self::empty(), shared::<AtomicU32>());
        scene.wait.replace(scene.condition().begin_wait(&me(), 0).ok());
        let first = fork(|| {
            let _wait = scene.condition().begin_wait(&me(), scene.mutex.name()).unwrap();
            entered.store(1, SeqCst);
            loop {
                std::thread::sleep(PATIENCE);
            }
        });
        until("the first has entered", || entered.load(SeqCst) == 1);
        scene.leave();
        scene.arrive(3);
        for (_, waiter) in scene.waiters.borrow().iter() {
            waiter.signal(libc::SIGSTOP);
            until("it is stopped", || state(waiter.pid) == 'T');
        }
        scene.signal();
        first.kill();
        scene
    }

    fn condition(&self) -> Condition<'_> {
        self.condition.condition()
    }

    fn enter(&self) {
        self.wait.replace(self.condition().begin_wait(&me(), self.mutex.name()).ok());
    }

    fn leave(&self) {
        if let Some(wait) = self.wait.take() {
            self.condition().cancel_wait(&me(), wait);
        }
    }

    fn signal(&self) {
        self.condition().signal(&me());
        self.sent.set(self.sent.get() + 1);
    }

    fn broadcast(&self) {
        self.condition().broadcast(&me());
    }

    /// A whole wait, as a user's.
    fn wait(&self, progress: impl Fn(Progress), before_mutex: impl Fn(&mut Wait)) {
        let (condition, thread) = (self.condition(), me());
        let mut wait = condition.begin_wait(&thread, self.mutex.name()).unwrap();
        progress(Progress::Entered);
        assert_eq!(condition.sleep(&thread, &mut wait, None), Outcome::Acquired);
        before_mutex(&mut wait);
        lock(&self.mutex);
        progress(Progress::Back);
        condition.finish_wait(&thread, wait);
        progress(Progress::Finished);
        self.mutex.unlock(&thread);
    }

    /// The victim's wait.
    fn wait_with_progress(&self, before_mutex: impl Fn(&mut Wait)) {
        self.wait(|now| self.progress.store(now as u32, SeqCst), before_mutex);
    }

    /// Starts `count` waiters, unless there are some; returns once they are asleep.
    fn arrive(&self, count: usize) {
        if !self.waiters.borrow().is_empty() {
            return;
        }
        for number in 1..=count {
            let before = self.condition().waiters();
            let woken = |progress| {
                if progress == Progress::Back {
                    self.woken[number].fetch_add(1, SeqCst);
                }
            };
            let waiter = fork(|| {
                self.wait(woken, |_| {});
                0
            });
            until("it waits", || self.condition().waiters() > before && is_asleep(waiter.pid));
            self.waiters.borrow_mut().push((number, waiter));
        }
    }

    fn is_woken(&self, number: usize) -> bool {
        self.woken[number].load(SeqCst) > 0
    }

    fn count_woken(&self) -> usize {
        (0..self.woken.len()).filter(|&number| self.is_woken(number)).count()
    }

    /// The signals sent so far wake at least `least` waiters and at most `most`.
    fn assert_woken(&self, least: usize, most: usize) {
        until(format!("{least} waiters are woken"), || self.count_woken() >= least);
        until("no signal is on its way", || self.condition().granted() == 0);
        assert!(self.count_woken() <= most, "{} waiters are woken", self.count_woken());
    }

    /// The waiters that sleep are woken by one signal each, the oldest first, and none by less.
    fn assert_one_each(&self) {
        let all = self.waiters.take();
        let (woken, mut asleep): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|(number, _)| self.is_woken(*number));
        woken.into_iter().for_each(|(_, waiter)| assert_eq!(waiter.reap(), 0));
        while !asleep.is_empty() {
            assert_eq!(self.condition().waiters(), asleep.len());
            self.signal();
            let (number, waiter) = asleep.remove(0);
            assert_eq!(waiter.reap(), 0, "waiter {number}");
            for (later, waiter) in &asleep {
                assert!(!self.is_woken(*later), "one signal woke {number} and {later}");
                waiter.until_asleep();
            }
        }
        self.assert_unused();
    }

    /// All waiters are woken.
    fn assert_all_woken(&self) {
        self.waiters.take().into_iter().for_each(|(_, waiter)| assert_eq!(waiter.reap(), 0));
        self.assert_unused();
    }

    /// There are no waiters, and no signal is kept.
    fn assert_unused(&self) {
        let condition = self.condition();
        assert_eq!(condition.waiters(), 0);
        let mut wait = condition.begin_wait(&me(), self.mutex.name()).unwrap();
        let soon = Deadline::after(Duration::from_micros(100));
        assert_eq!(condition.sleep(&me(), &mut wait, soon), Outcome::TimedOut, "a signal was kept");
        assert!(condition.try_cancel_wait(&me(), wait).is_none());
        assert_works(&self.mutex);
    }
}

/// The victim's wait was signalled, with two others behind it.
fn check_signalled_wait(scene: &Scene) {
    let asleep_first = !scene.waiters.borrow().is_empty();
    let progress = scene.progress.load(SeqCst);
    if !asleep_first {
        scene.arrive(2);
        scene.signal();
    }
    // Another gets the victim's signal if the victim did not use it up, or the signal came after its death.
    let least = usize::from(!asleep_first || progress < Progress::Back as u32);
    let most = usize::from(!asleep_first || progress < Progress::Finished as u32);
    scene.assert_woken(least, most);
    scene.assert_one_each();
}

/// The victim was to signal: a waiter is woken, or none.
fn check_signal(scene: &Scene) {
    scene.leave();
    scene.assert_woken(0, 1);
    scene.assert_one_each();
}

/// The victim was to broadcast: what it has begun is done, and another broadcast wakes the rest.
fn check_broadcast(scene: &Scene) {
    scene.leave();
    until("nobody is called", || scene.condition().woken_by_broadcast() == 0);
    scene.broadcast();
    scene.assert_all_woken();
}

/// The victim waited for a broadcast, which does not need it for the others.
fn check_broadcast_wait(scene: &Scene) {
    if scene.waiters.borrow().is_empty() {
        scene.arrive(3);
        scene.broadcast();
    }
    scene.assert_all_woken();
}

crash_tests! {
    /// The victim sleeps, is signalled, and takes its mutex again.
    wait => Operation {
        operation: |scene| scene.wait_with_progress(|_| {}),
        asleep: |scene, naps| {
            if is_first(naps) {
                scene.arrive(2);
                scene.signal();
            }
        },
        check: check_signalled_wait,
        ..Operation::on(Scene::empty)
    },

    /// The same, but the victim puts the baton down before it takes the mutex again, as for a signal handler.
    wait_with_a_rest => Operation {
        operation: |scene| scene.wait_with_progress(|wait| scene.condition().release_baton(&me(), wait)),
        asleep: |scene, naps| {
            if is_first(naps) {
                scene.arrive(2);
                scene.signal();
            }
        },
        check: check_signalled_wait,
        ..Operation::on(Scene::empty)
    },

    /// The signal comes when the victim has just come to a point of its wait, where it dies.
    wait_signalled_at_the_point => Operation {
        operation: |scene| scene.wait_with_progress(|_| {}),
        asleep: |scene, naps| {
            if naps == 0 || Thread::TELLS_OF_DEATHS {
                scene.arrive(3);
                scene.signal();
            }
        },
        at_the_point: |scene| {
            scene.arrive(3);
            scene.signal();
        },
        check: |scene| {
            let used_up = usize::from(scene.progress.load(SeqCst) >= Progress::Back as u32);
            scene.assert_woken(scene.sent.get() - used_up, scene.sent.get());
            scene.assert_one_each();
        },
        ..Operation::on(Scene::empty)
    },

    signal => Operation {
        operation: Scene::signal,
        check: check_signal,
        ..Operation::on(Scene::two_waiters)
    },

    signal_without_the_baton => Operation {
        operation: Scene::signal,
        check: check_signal,
        ..Operation::on(Scene::two_waiters_and_the_baton_taken)
    },

    broadcast => Operation {
        operation: Scene::broadcast,
        check: check_broadcast,
        ..Operation::on(Scene::three_waiters)
    },

    broadcast_without_the_baton => Operation {
        operation: Scene::broadcast,
        check: check_broadcast,
        ..Operation::on(Scene::three_waiters_and_the_baton_taken)
    },

    wait_for_a_broadcast => Operation {
        operation: |scene| scene.wait_with_progress(|_| {}),
        asleep: |scene, _| {
            scene.arrive(3);
            scene.broadcast();
        },
        check: check_broadcast_wait,
        ..Operation::on(Scene::empty)
    },

    /// The broadcast comes when the victim has just come to a point of its wait, where it dies.
    wait_with_a_broadcast_at_the_point => Operation {
        operation: |scene| scene.wait_with_progress(|_| {}),
        asleep: |scene, _| {
            scene.arrive(3);
            scene.broadcast();
        },
        at_the_point: |scene| {
            scene.arrive(3);
            scene.broadcast();
        },
        check: check_broadcast_wait,
        ..Operation::on(Scene::empty)
    },

    /// The victim is signalled, but has to stop waiting for another reason, and passes its signal on.
    leave_a_signalled_wait => Operation {
        prepare: Scene::enter,
        operation: Scene::leave,
        ready: |scene| {
            scene.arrive(2);
            scene.signal();
        },
        check: |scene| {
            scene.assert_woken(1, 1);
            scene.assert_one_each();
        },
        ..Operation::on(Scene::empty)
    },

    wait_that_times_out => Operation {
        operation: |scene| {
            let condition = scene.condition();
            let mut wait = condition.begin_wait(&me(), scene.mutex.name()).unwrap();
            let soon = Deadline::after(Duration::from_micros(300));
            assert_eq!(condition.sleep(&me(), &mut wait, soon), Outcome::TimedOut);
            assert!(condition.try_cancel_wait(&me(), wait).is_none());
        },
        asleep: |_, _| {}, // until its deadline
        check: |scene| {
            scene.arrive(2);
            scene.assert_one_each();
        },
        ..Operation::on(Scene::empty)
    },

    /// The victim signals, and finds the signal of a dead waiter: it has to pass that on too.
    relay_what_a_dead_waiter_left => Operation {
        operation: Scene::signal,
        check: |scene| {
            scene.waiters.borrow().iter().for_each(|(_, waiter)| waiter.signal(libc::SIGCONT));
            scene.assert_woken(1, 2);
            scene.assert_one_each();
        },
        ..Operation::on(Scene::signalled_a_dead_waiter)
    },
}
