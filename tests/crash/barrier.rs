//! The barrier.

use crate::me;
use crate::support::{Child, fork, until};
use process_shared_core::barrier::Arrival;
use process_shared_core::{CyclicBarrier, Outcome};
use std::cell::RefCell;

type Operation = crate::operation::Operation<Scene>;

struct Scene {
    barrier: CyclicBarrier,
    /// Children that wait: they end with 1 if all passed, with 0 if the barrier was broken or reset.
    waiters: RefCell<Vec<Child>>,
}

impl Scene {
    fn of(parties: u32) -> Self {
        Scene { barrier: CyclicBarrier::new(parties).unwrap(), waiters: RefCell::default() }
    }

    fn new() -> Self {
        Self::of(3)
    }

    fn awaited() -> Self {
        let scene = Self::new();
        (0..2).for_each(|_| scene.arrive().until_asleep());
        scene
    }

    fn broken() -> Self {
        let scene = Self::new();
        if let Arrival::Waiting(ticket) = scene.barrier.arrive(&me(), false) {
            scene.barrier.give_up(&me(), ticket);
        }
        assert!(scene.barrier.is_broken(&me()));
        scene
    }

    fn wait(&self) -> i32 {
        match self.barrier.arrive(&me(), false) {
            Arrival::Waiting(ticket) => {
                assert_eq!(self.barrier.wait(&me(), ticket, None), Outcome::Acquired);
                i32::from(self.barrier.leave(&me(), ticket))
            }
            end => i32::from(end == Arrival::Passed),
        }
    }

    /// Arrives and does not wait any longer.
    fn give_up(&self) {
        if let Arrival::Waiting(ticket) = self.barrier.arrive(&me(), false) {
            assert!(!self.barrier.give_up(&me(), ticket));
        }
    }

    /// Arrives last, and runs an action.
    fn pass(&self) {
        let Arrival::Last(ticket) = self.barrier.arrive(&me(), true) else { panic!("not the last") };
        assert!(self.barrier.pass(&me(), ticket));
    }

    fn arrive(&self) -> std::cell::RefMut<'_, Child> {
        self.waiters.borrow_mut().push(fork(|| self.wait()));
        std::cell::RefMut::map(self.waiters.borrow_mut(), |waiters| waiters.last_mut().unwrap())
    }

    /// Nobody hangs: those who wait are told, or wait for the parties that are missing. They are all told the same.
    fn assert_all_are_told(&self) {
        let waiters = self.waiters.take();
        let waiting = || self.barrier.number_waiting(&me()) as usize;
        until("all are told, or wait", || waiters.iter().all(Child::is_over) || waiting() == waiters.len());
        if !waiters.iter().all(Child::is_over) {
            self.barrier.reset(&me());
        }
        let told: Vec<i32> = waiters.into_iter().map(Child::reap).collect();
        assert!(told == vec![0; told.len()] || told == vec![1; told.len()], "{told:?}");
        assert_eq!(self.barrier.waiters(), 0);
    }

    /// The barrier works as a new one does.
    fn assert_works(&self) {
        self.assert_all_are_told();
        self.barrier.reset(&me());
        assert!(!self.barrier.is_broken(&me()));
        let children = [fork(|| self.wait()), fork(|| self.wait())];
        assert_eq!(self.wait(), 1);
        assert!(children.into_iter().all(|child| child.reap() == 1));
    }
}

crash_tests! {
    /// The victim sleeps until the others come. If it dies before, they are turned away, or wait for somebody else.
    wait => Operation {
        operation: |scene| assert_eq!(scene.wait(), 1),
        asleep: |scene, _| {
            let missing = 2 - scene.waiters.borrow().len();
            (0..missing).for_each(|_| drop(scene.arrive()));
        },
        check: Scene::assert_works,
        ..Operation::on(Scene::new)
    },

    /// One waits already, and is told at once if the victim dies asleep.
    wait_with_another => Operation {
        prepare: |scene| assert_eq!(scene.barrier.number_waiting(&me()), 1),
        operation: |scene| assert_eq!(scene.wait(), 1),
        asleep: |scene, _| {
            if scene.waiters.borrow().len() == 1 {
                drop(scene.arrive());
            }
        },
        check: Scene::assert_works,
        ..Operation::on(|| {
            let scene = Scene::new();
            scene.arrive().until_asleep();
            scene
        })
    },

    arrive_last => Operation {
        operation: |scene| assert_eq!(scene.wait(), 1),
        check: Scene::assert_works,
        ..Operation::on(Scene::awaited)
    },

    arrive_last_and_run_the_action => Operation {
        operation: Scene::pass,
        check: Scene::assert_works,
        ..Operation::on(Scene::awaited)
    },

    give_up => Operation {
        operation: Scene::give_up,
        check: Scene::assert_works,
        ..Operation::on(|| {
            let scene = Scene::new();
            scene.arrive().until_asleep();
            scene
        })
    },

    reset => Operation {
        operation: |scene| scene.barrier.reset(&me()),
        check: Scene::assert_works,
        ..Operation::on(Scene::awaited)
    },

    reset_of_a_broken_one => Operation {
        operation: |scene| scene.barrier.reset(&me()),
        check: Scene::assert_works,
        ..Operation::on(Scene::broken)
    },
}
