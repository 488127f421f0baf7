//! Children whose fork ran no handlers: made by a bare `clone` system call, or by glibc's `_Fork`.

#![cfg(all(target_os = "linux", not(feature = "simulated-mach")))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "support/folder.rs"]
mod folder;
mod support;

use folder::{Folder, turn};
use process_shared_core::kernel::Kernel;
use process_shared_core::platform::{StandIn, fork_depth};
use process_shared_core::{Mutex, Outcome, Semaphore, Thread};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use support::{beside, comes_true, die, fork, shared};

type Fork = unsafe fn() -> libc::pid_t;

unsafe fn clone() -> libc::pid_t {
    // SAFETY: without flags it does what fork(2) does.
    unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) as libc::pid_t }
}

/// The ways to fork that run no handlers. `_Fork` is not in every C library.
fn ways() -> Vec<(&'static str, Fork)> {
    // SAFETY: the name ends with a zero; if there is such a function, it has this signature.
    let fork = unsafe {
        let symbol = libc::dlsym(libc::RTLD_DEFAULT, c"_Fork".as_ptr());
        (!symbol.is_null()).then(|| std::mem::transmute::<*mut libc::c_void, Fork>(symbol))
    };
    if fork.is_none() {
        eprintln!("this C library has no _Fork");
    }
    std::iter::once(("clone", clone as Fork)).chain(fork.map(|fork| ("_Fork", fork))).collect()
}

/// Runs `life` in a child made by `way`, and returns the status it exits with, or the negative number of the signal that
/// killed it. Only in a process with a single thread: another could hold the lock of malloc.
fn untold(way: Fork, life: impl FnOnce() -> i32) -> i32 {
    let mut status = 0;
    // SAFETY: the child leaves by `_exit`, and its parent reaps it.
    unsafe {
        match way() {
            0 => libc::_exit(life()),
            pid => {
                assert_eq!(libc::waitpid(pid, &raw mut status, 0), pid);
                if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { -libc::WTERMSIG(status) }
            }
        }
    }
}

/// Runs `test` for each way to fork, in a forked process of its own, which has a single thread.
fn for_each_way(test: impl Fn(Fork)) {
    for (name, way) in ways() {
        let child = fork(|| {
            test(way);
            0
        });
        assert_eq!(child.reap(), 0, "by {name}");
    }
}

/// The number of the first expectation that fails, or 0: for a child, which must not panic.
fn first_failure(expectations: &[bool]) -> i32 {
    expectations.iter().position(|&holds| !holds).map_or(0, |position| position as i32 + 1)
}

#[test]
fn a_child_is_not_its_parent() {
    for_each_way(|way| {
        let (mutex, free) = (Mutex::new().unwrap(), Mutex::new().unwrap());
        let thread = Thread::current().unwrap();
        assert!(mutex.try_lock(&thread).unwrap());
        let depth = fork_depth();
        let failure = untold(way, || {
            let unknown = Thread::known().is_none() && !thread.is_here();
            let Ok(own) = Thread::current() else { return 100 };
            first_failure(&[
                unknown,
                fork_depth() == depth + 1,
                own.id() != thread.id() && own.is_here(),
                own.held().is_empty(),
                !mutex.is_held_by(&own),
                mutex.try_lock(&own) == Ok(false),
                free.try_lock(&own) == Ok(true) && free.is_held_by(&own) && own.held().len() == 1,
                Thread::known().is_some_and(|known| known.id() == own.id()),
            ])
        });
        assert_eq!(failure, 0);
        assert!(mutex.is_held_by(&Thread::known().unwrap()));
        assert_eq!(Thread::known().unwrap().held().len(), 1);
        assert!(free.try_lock(&thread).unwrap(), "handed on by the child that died with it");
        assert!(free.is_abandoned());
        free.unlock(&thread);
        mutex.unlock(&thread);
        assert!(!mutex.is_locked());
    });
}

#[test]
fn a_child_whose_parent_used_no_lock_hands_on_what_it_holds() {
    for_each_way(|way| {
        let mutex = Mutex::new().unwrap();
        assert!(Thread::known().is_none());
        let status = untold(way, || match Thread::current() {
            Ok(thread) if mutex.try_lock(&thread) == Ok(true) => die(),
            _ => 1,
        });
        assert_eq!(status, -libc::SIGKILL);
        assert!(mutex.try_lock(&Thread::current().unwrap()).unwrap());
        assert!(mutex.is_abandoned());
    });
}

#[test]
fn a_child_of_a_child_is_neither_of_them() {
    for_each_way(|way| {
        let mutex = Mutex::new().unwrap();
        let thread = Thread::current().unwrap();
        let depth = fork_depth();
        let status = untold(way, || {
            let between = Thread::current().map(|own| (own, mutex.try_lock(&own)));
            let Ok((own, Ok(true))) = between else { return 1 };
            let status = untold(way, || {
                let Ok(last) = Thread::current() else { return 1 };
                first_failure(&[
                    last.id() != own.id() && last.id() != thread.id(),
                    fork_depth() == depth + 2,
                    !own.is_here() && !thread.is_here(),
                    !mutex.is_held_by(&last),
                ])
            });
            status * 10 + first_failure(&[mutex.is_held_by(&own)])
        });
        assert_eq!(status, 0);
        assert!(mutex.try_lock(&thread).unwrap() && mutex.is_abandoned());
    });
}

#[test]
fn a_child_waits_for_what_its_parent_holds() {
    for_each_way(|way| {
        let mutex = Mutex::new().unwrap();
        let thread = Thread::current().unwrap();
        assert!(mutex.try_lock(&thread).unwrap());
        // SAFETY: the child leaves by `_exit`, and is reaped below.
        let pid = unsafe { way() };
        if pid == 0 {
            let outcome = Thread::current().map(|own| mutex.lock(&own, None));
            // SAFETY: ends this process.
            unsafe { libc::_exit(i32::from(outcome != Ok(Outcome::Acquired))) };
        }
        support::until("the child sleeps", || support::is_asleep(pid));
        mutex.unlock(&thread);
        let mut status = 0;
        // SAFETY: the child above.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert_eq!(status, 0);
    });
}

#[test]
fn parent_and_child_make_objects_of_their_own() {
    const OBJECTS: usize = 5000;
    for_each_way(|way| {
        let before: Vec<Semaphore> = (0..100).map(|_| Semaphore::new(1).unwrap()).collect();
        let (made, go) = (shared::<AtomicU32>(), shared::<AtomicU32>());
        let make = |value| -> Option<Vec<Semaphore>> {
            let semaphores = (0..OBJECTS).map(|_| Semaphore::new(value).ok()).collect();
            made.fetch_add(1, SeqCst);
            semaphores
        };
        let have = |semaphores: &[Semaphore], value| {
            semaphores.len() >= 100 && semaphores.iter().all(|semaphore| semaphore.value() == value)
        };
        // SAFETY: the child leaves by `_exit`, and is reaped below.
        let pid = unsafe { way() };
        if pid == 0 {
            let status = match make(2) {
                Some(own) if comes_true(support::PATIENCE, || go.load(SeqCst) == 1) => {
                    first_failure(&[have(&own, 2), have(&before, 1)])
                }
                _ => 100,
            };
            // SAFETY: ends this process.
            unsafe { libc::_exit(status) };
        }
        let own = make(3).unwrap();
        support::until("both have made theirs", || made.load(SeqCst) == 2);
        assert!(have(&own, 3) && have(&before, 1));
        go.store(1, SeqCst);
        let mut status = 0;
        // SAFETY: the child above.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert_eq!(status, 0);
    });
}

/// The other thread allocates nothing, so that the child finds malloc in order.
#[test]
fn a_child_makes_objects_whatever_its_parents_threads_were_doing() {
    for_each_way(|way| {
        let mutex = Mutex::new().unwrap();
        let (begun, end) = (AtomicBool::new(false), AtomicBool::new(false));
        let work = || {
            while !end.load(SeqCst) {
                process_shared_core::arena::contains(0);
                begun.store(true, SeqCst);
            }
        };
        beside(work, || {
            support::until("the thread is at work", || begun.load(SeqCst));
            let statuses: Vec<i32> = (0..300)
                .map(|_| {
                    untold(way, || {
                        let Ok(own) = Thread::current() else { return 1 };
                        let Ok(new) = Mutex::new() else { return 2 };
                        let locked = [new.try_lock(&own) == Ok(true), mutex.try_lock(&own) == Ok(true)];
                        2 + first_failure(&locked)
                    })
                })
                .collect();
            end.store(true, SeqCst);
            assert_eq!(statuses, [2; 300]);
        });
    });
}

#[test]
fn a_stand_in_stays_with_the_parent() {
    for_each_way(|way| {
        let mutex = Mutex::new().unwrap();
        let stand_in = StandIn::start().unwrap();
        let thread = stand_in.thread();
        assert!(mutex.try_lock(&thread).unwrap());
        Thread::go_by(thread);
        let failure = untold(way, || {
            let unknown = Thread::known().is_none();
            let Ok(own) = Thread::current() else { return 100 };
            first_failure(&[unknown, !stand_in.is_here(), !mutex.is_held_by(&own)])
        });
        assert_eq!(failure, 0);
        assert!(stand_in.is_here() && mutex.is_held_by(&thread));
    });
}

#[test]
fn a_child_opens_files_its_parents_among_them() {
    let _turn = turn();
    for_each_way(|way| {
        let folder = Folder::on_tmpfs();
        let open = |name: &str| Mutex::in_file(&folder.path(name), 0o600, "Mutex").unwrap();
        let (old, thread) = (open("old"), Thread::current().unwrap());
        assert!(old.try_lock(&thread).unwrap());
        let child = untold(way, || {
            let (again, new, me) = (open("old"), open("new"), Thread::current().unwrap());
            let result = first_failure(&[
                again.is_locked() && !again.is_held_by(&me) && !old.is_held_by(&me),
                again.owner_pid() == Some(thread.pid()),
                again.has_other_handles() && !new.has_other_handles(),
                new.try_lock(&me).unwrap(),
            ]);
            drop(again);
            result
        });
        assert_eq!(child, 0);
        assert!(old.is_held_by(&thread));
        old.unlock(&thread);
        assert!(open("new").is_abandoned());
    });
}
