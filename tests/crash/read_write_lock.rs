//! The read-write lock.

use crate::me;
use crate::support::{Child, PATIENCE, fork, shared, until};
use process_shared_core::{Deadline, Outcome, ReadWriteLock, Thread};
use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

type Operation = crate::operation::Operation<Scene>;

fn patience() -> Option<Deadline> {
    Deadline::after(PATIENCE)
}

/// Begins to read, as the binding does.
fn read(lock: &ReadWriteLock) {
    let thread = me();
    let reader = lock.reader_or_new(&thread).unwrap().unwrap();
    if !lock.try_read(&thread, reader) {
        assert_eq!(lock.close(&thread, patience()), Outcome::Acquired);
        lock.read_and_open(&thread, reader, lock.found());
    }
}

fn end_read(lock: &ReadWriteLock) {
    lock.end_read(&me(), lock.reader(&me()).unwrap());
}

fn write(lock: &ReadWriteLock) {
    if !lock.try_write(&me(), true) {
        assert_eq!(lock.write(&me(), true, patience()), Outcome::Acquired);
    }
}

fn end_write(lock: &ReadWriteLock) {
    lock.end_write(&me(), true);
    lock.end_turn(&me());
}

struct Scene {
    lock: ReadWriteLock,
    /// A child that reads.
    holder: Cell<Option<Child>>,
    /// A child that waits to write.
    waiter: RefCell<Option<Child>>,
}

impl Scene {
    fn free() -> Self {
        Scene { lock: ReadWriteLock::new().unwrap(), holder: Cell::default(), waiter: RefCell::default() }
    }

    fn held(take: fn(&ReadWriteLock)) -> Self {
        let (scene, held) = (Self::free(), shared::<AtomicU32>());
        scene.holder.set(Some(fork(|| {
            take(&scene.lock);
            held.store(1, SeqCst);
            loop {
                std::thread::sleep(PATIENCE);
            }
        })));
        until("the holder holds it", || held.load(SeqCst) == 1);
        scene
    }

    fn read() -> Self {
        Self::held(read)
    }

    fn written() -> Self {
        Self::held(write)
    }

    fn await_writer(&self) {
        let waiter = fork(|| {
            write(&self.lock);
            end_write(&self.lock);
            0
        });
        waiter.until_asleep();
        self.waiter.replace(Some(waiter));
    }

    /// The holder dies, once.
    fn let_in(&self) {
        if let Some(holder) = self.holder.take() {
            holder.kill();
        }
    }

    /// Nobody holds the lock, or whoever waited has had it; then it works as a new one does.
    fn assert_works(&self) {
        self.let_in();
        if let Some(waiter) = self.waiter.take() {
            assert_eq!(waiter.reap(), 0);
        }
        write(&self.lock);
        assert!(self.lock.is_written());
        end_write(&self.lock);
        assert!(!self.lock.is_written() && !self.lock.is_abandoned());
        read(&self.lock);
        let child = fork(|| {
            read(&self.lock);
            i32::from(self.lock.try_write(&me(), true))
        });
        assert_eq!(child.reap(), 0);
        end_read(&self.lock);
        assert!(self.lock.try_write(&me(), true));
        end_write(&self.lock);
        assert_eq!((self.lock.waiters(), self.lock.reader_pids()), (0, vec![]));
    }
}

/// Operations that never sleep once their holder has gone.
fn asleep(scene: &Scene, _: usize) {
    scene.let_in();
}

crash_tests! {
    first_read => Operation {
        operation: |scene| {
            read(&scene.lock);
            end_read(&scene.lock);
        },
        check: Scene::assert_works,
        ..Operation::on(Scene::free)
    },

    read_again => Operation {
        prepare: |scene| {
            read(&scene.lock);
            end_read(&scene.lock);
        },
        operation: |scene| {
            read(&scene.lock);
            end_read(&scene.lock);
        },
        check: Scene::assert_works,
        ..Operation::on(Scene::free)
    },

    end_read_with_a_writer_that_waits => Operation {
        prepare: |scene| read(&scene.lock),
        operation: |scene| end_read(&scene.lock),
        ready: Scene::await_writer,
        check: Scene::assert_works,
        ..Operation::on(Scene::free)
    },

    read_after_a_writer => Operation {
        operation: |scene| {
            read(&scene.lock);
            end_read(&scene.lock);
        },
        asleep,
        check: Scene::assert_works,
        ..Operation::on(Scene::written)
    },

    write_alone => Operation {
        operation: |scene| {
            write(&scene.lock);
            end_write(&scene.lock);
        },
        check: Scene::assert_works,
        ..Operation::on(Scene::free)
    },

    write_after_a_reader => Operation {
        operation: |scene| {
            write(&scene.lock);
            end_write(&scene.lock);
        },
        asleep,
        check: Scene::assert_works,
        ..Operation::on(Scene::read)
    },

    write_after_a_writer => Operation {
        operation: |scene| {
            write(&scene.lock);
            end_write(&scene.lock);
        },
        asleep,
        check: Scene::assert_works,
        ..Operation::on(Scene::written)
    },

    end_write_with_a_writer_that_waits => Operation {
        prepare: |scene| write(&scene.lock),
        operation: |scene| end_write(&scene.lock),
        ready: Scene::await_writer,
        check: Scene::assert_works,
        ..Operation::on(Scene::free)
    },

    upgrade => Operation {
        operation: |scene| {
            let thread: Thread = me();
            assert_eq!(scene.lock.take_turn(&thread, patience()), Outcome::Acquired);
            if !scene.lock.try_write(&thread, false) {
                assert_eq!(scene.lock.write(&thread, false, patience()), Outcome::Acquired);
            }
            end_write(&scene.lock);
        },
        asleep,
        check: Scene::assert_works,
        ..Operation::on(Scene::read)
    },
}
