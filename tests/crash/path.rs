//! Making, opening and closing an object with a path. The next process that opens it has a whole one, in order, and nothing
//! else is left in its folder.

use crate::filter::{NO_TMPFILE, deny};
use crate::folder::Folder;
use crate::me;
use crate::support::{Child, die, fork, shared, until};
use process_shared_core::barrier::Arrival;
use process_shared_core::{CyclicBarrier, Mutex, Presence, ReadWriteLock};
use std::cell::RefCell;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

/// No process that is forked for another test may have the file open: so only children of this one open it.
pub struct Scene {
    folder: Folder,
    /// What the victim has open.
    mutex: RefCell<Option<Mutex>>,
    /// A process that holds the lock.
    holder: RefCell<Option<Child>>,
}

type Operation = crate::operation::Operation<Scene>;

/// An operation takes ten thousand steps, nearly all of them the same over the model of Mach.
const SPREAD: usize = if cfg!(feature = "simulated-mach") { 2003 } else { 397 };

/// Where the boot id is in the header.
const BOOT: u64 = 48;

impl Scene {
    fn open(&self) -> Mutex {
        Mutex::in_file(&self.folder.path("lock"), 0o600, "Mutex").unwrap()
    }

    /// In a process of its own, which is gone afterwards.
    fn elsewhere(&self, life: impl FnOnce(Mutex)) {
        let child = fork(|| {
            life(self.open());
            0
        });
        assert_eq!(child.reap(), 0);
    }

    /// The next process that opens the object finds it free, and abandoned or not, and the one after it as that one left it.
    fn assert_free(&self, abandoned: bool) {
        for abandoned in [abandoned, false] {
            self.elsewhere(|mutex| {
                assert_eq!((mutex.is_locked(), mutex.is_abandoned()), (false, abandoned));
                assert!(mutex.try_lock(&me()).unwrap());
                mutex.unlock(&me());
            });
        }
        assert_eq!(self.folder.entries(), ["lock"]);
    }

    /// Begins a process that holds the lock until it is killed.
    fn hold(&self) {
        let ready: &AtomicBool = shared();
        let holder = fork(|| {
            let mutex = self.open();
            assert!(mutex.try_lock(&me()).unwrap());
            ready.store(true, SeqCst);
            loop {
                std::thread::park();
            }
        });
        until("the lock is held", || ready.load(SeqCst));
        self.holder.replace(Some(holder));
    }
}

fn absent() -> Scene {
    Scene { folder: Folder::on_tmpfs(), mutex: RefCell::default(), holder: RefCell::default() }
}

/// Whoever had it open is dead, and held it.
fn left() -> Scene {
    let scene = absent();
    let holder = fork(|| {
        assert!(scene.open().try_lock(&me()).unwrap());
        die()
    });
    assert_eq!(holder.reap(), -libc::SIGKILL);
    scene
}

fn of_another_boot() -> Scene {
    let scene = left();
    let file = OpenOptions::new().write(true).open(scene.folder.path("lock")).unwrap();
    file.write_all_at(b"before", BOOT).unwrap();
    scene
}

/// The others that one process had open, and held, when it was killed.
fn left_others() -> Scene {
    let scene = absent();
    let holder = fork(|| {
        let (lock, barrier, presence) = others(&scene);
        let reader = lock.reader_or_new(&me()).unwrap().unwrap();
        assert!(lock.try_read(&me(), reader) && lock.try_write(&me(), true));
        barrier.arrive(&me(), false);
        presence.enter(&me(), None).unwrap();
        die()
    });
    assert_eq!(holder.reap(), -libc::SIGKILL);
    scene
}

fn others(scene: &Scene) -> (ReadWriteLock, CyclicBarrier, Presence) {
    let path = |name| scene.folder.path(name);
    (
        ReadWriteLock::in_file(&path("read_write"), 0o600, "ReadWriteLock").unwrap(),
        CyclicBarrier::in_file(&path("barrier"), 0o600, "CyclicBarrier", 2).unwrap(),
        Presence::in_file(&path("presence"), 0o600, "Presence", 10, 8).unwrap(),
    )
}

/// The next process finds nobody there, and a lock that was abandoned if so it is.
fn assert_nobody_is_there(scene: &Scene) {
    let child = fork(|| {
        let (lock, barrier, presence) = others(scene);
        assert_eq!((lock.owner_pid(), lock.reader_pids(), lock.is_abandoned()), (None, vec![], true));
        assert!(lock.try_write(&me(), true));
        assert_eq!((barrier.number_waiting(&me()), barrier.is_broken(&me())), (0, false));
        assert!(matches!(barrier.arrive(&me(), false), Arrival::Waiting(_)));
        assert_eq!(presence.size(), 0);
        presence.enter(&me(), None).unwrap();
        0
    });
    assert_eq!(child.reap(), 0);
}

fn opens(set_up: fn() -> Scene) -> Operation {
    Operation { operation: |scene| std::mem::forget(scene.open()), spread: SPREAD, ..Operation::on(set_up) }
}

crash_tests! {
    create_path => Operation {
        check: |scene| scene.assert_free(false),
        ..opens(absent)
    },

    /// The file has a temporary name first, which the next one that makes it removes.
    create_path_by_a_temporary_name => Operation {
        prepare: |_| deny(&[NO_TMPFILE]),
        check: |scene| {
            let child = fork(|| {
                deny(&[NO_TMPFILE]);
                scene.open();
                0
            });
            assert_eq!(child.reap(), 0);
            scene.assert_free(false);
        },
        ..opens(absent)
    },

    /// To put it in order can be begun again: the next one still finds it abandoned.
    open_path => Operation {
        check: |scene| scene.assert_free(true),
        ..opens(left)
    },

    open_paths_of_meeting_points => Operation {
        operation: |scene| std::mem::forget(others(scene)),
        check: assert_nobody_is_there,
        spread: 3 * SPREAD,
        ..Operation::on(left_others)
    },

    open_path_of_another_boot => Operation {
        check: |scene| scene.assert_free(false),
        ..opens(of_another_boot)
    },

    /// Another process has it open: nothing is put in order, and the lock stays with its holder.
    join_path => Operation {
        ready: |scene| scene.hold(),
        check: |scene| {
            let holder = scene.holder.take().unwrap();
            scene.elsewhere(|mutex| {
                assert_eq!(mutex.owner_pid(), Some(holder.pid as u32));
                assert!(!mutex.is_abandoned() && !mutex.try_lock(&me()).unwrap());
            });
            holder.kill();
            scene.assert_free(true);
        },
        ..opens(absent)
    },

    /// The last handle goes while the lock is held.
    close_path => Operation {
        prepare: |scene| {
            let mutex = scene.open();
            assert!(mutex.try_lock(&me()).unwrap());
            scene.mutex.replace(Some(mutex));
        },
        operation: |scene| drop(scene.mutex.take()),
        check: |scene| scene.assert_free(true),
        spread: SPREAD,
        ..Operation::on(absent)
    },
}
