//! PID namespaces: thread numbers of one mean other threads in another.

#![cfg(all(target_os = "linux", not(feature = "simulated-mach")))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use process_shared_core::kernel::Kernel;
use process_shared_core::{ConditionVariable, Mutex, Semaphore, SharedObject, Thread};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use support::{Child, comes_true, fork, shared};

/// Whether this process may make namespaces. Its later children are in a new one then.
fn enter_new_namespace() -> bool {
    // SAFETY: no precondition.
    unsafe { libc::unshare(libc::CLONE_NEWPID) == 0 }
}

/// Runs `life` in the first process of a new namespace, with the status it returns; None if this is not permitted here.
fn in_new_namespace(life: impl FnOnce() -> i32) -> Option<Child> {
    const NOT_PERMITTED: i32 = 111;
    let entered = shared::<AtomicU32>();
    let child = fork(|| {
        if !enter_new_namespace() {
            return NOT_PERMITTED;
        }
        fork(|| {
            entered.store(1, SeqCst);
            life()
        })
        .reap()
    });
    if comes_true(support::PATIENCE, || entered.load(SeqCst) == 1 || child.is_over())
        && entered.load(SeqCst) == 1
    {
        return Some(child);
    }
    assert_eq!(child.reap(), NOT_PERMITTED);
    eprintln!("skipped: this process may not make PID namespaces");
    None
}

#[test]
fn objects_of_another_namespace_are_out_of_reach() {
    let (mutex, semaphore) = (Mutex::new().unwrap(), Semaphore::new(1).unwrap());
    let condition = ConditionVariable::new().unwrap();
    let child = in_new_namespace(|| {
        let reached = [mutex.is_accessible(), semaphore.is_accessible(), condition.is_accessible()];
        i32::from(reached.contains(&true))
    });
    if let Some(child) = child {
        assert_eq!(child.reap(), 0);
    }
    assert!(mutex.is_accessible() && semaphore.is_accessible() && condition.is_accessible());
}

#[test]
fn a_handle_of_another_namespace_gives_up_nothing_when_it_is_dropped() {
    let outer = in_new_namespace(|| {
        let thread = Thread::current().unwrap();
        assert_eq!(thread.id(), 1);
        let mutexes: Vec<Mutex> = (0..200).map(|_| Mutex::new().unwrap()).collect();
        assert!(mutexes.iter().all(|mutex| mutex.try_lock(&thread).unwrap()));
        let inner = in_new_namespace(|| {
            let own = Thread::current().unwrap();
            assert_eq!(own.id(), 1);
            for mutex in &mutexes {
                // SAFETY: each is dropped once here, and not used again: this process leaves by `_exit`.
                drop(unsafe { std::ptr::read(mutex) });
            }
            // Locking another has a thread give up what has been dropped while it held it.
            i32::from(!Mutex::new().unwrap().try_lock(&own).unwrap())
        });
        assert_eq!(inner.map(Child::reap), Some(0));
        i32::from(!mutexes.iter().all(|mutex| mutex.is_held_by(&thread) && !mutex.is_abandoned()))
    });
    if let Some(outer) = outer {
        assert_eq!(outer.reap(), 0);
    }
}

#[test]
fn what_is_made_in_a_namespace_is_shared_there() {
    let outer = Mutex::new().unwrap();
    let child = in_new_namespace(|| {
        let inner = Mutex::new().unwrap();
        let thread = Thread::current().unwrap();
        assert_eq!(thread.id(), 1);
        assert!(inner.is_accessible() && inner.try_lock(&thread).unwrap());
        let grandchild = fork(|| {
            let own = Thread::current().unwrap();
            let shared = inner.is_accessible() && inner.owner_pid() == Some(1) && !inner.is_held_by(&own);
            i32::from(!shared || outer.is_accessible() || inner.try_lock(&own).unwrap())
        });
        let status = grandchild.reap();
        inner.unlock(&thread);
        let holder = fork(|| {
            assert!(inner.try_lock(&Thread::current().unwrap()).unwrap());
            0
        });
        assert_eq!(holder.reap(), 0);
        assert!(inner.try_lock(&thread).unwrap() && inner.is_abandoned());
        status
    });
    if let Some(child) = child {
        assert_eq!(child.reap(), 0);
    }
}

#[test]
fn a_bare_clone_into_a_namespace_finds_out_too() {
    let child = fork(|| {
        let mutex = Mutex::new().unwrap();
        let thread = Thread::current().unwrap();
        assert!(mutex.try_lock(&thread).unwrap());
        let flags = libc::SIGCHLD | libc::CLONE_NEWPID;
        // SAFETY: the child leaves by `_exit`, and is reaped below. This process has a single thread.
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) as libc::pid_t };
        if pid == 0 {
            let own = Thread::current().is_ok_and(|own| own.id() == 1);
            let new = Mutex::new().is_ok_and(|new| new.is_accessible());
            let status = i32::from(!own) | i32::from(!new) << 1 | i32::from(mutex.is_accessible()) << 2;
            // SAFETY: ends this process.
            unsafe { libc::_exit(status) };
        }
        if pid < 0 {
            eprintln!("skipped: this process may not make PID namespaces");
            return 0;
        }
        let mut status = 0;
        // SAFETY: the child above.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        assert!(mutex.is_held_by(&thread));
        libc::WEXITSTATUS(status)
    });
    assert_eq!(child.reap(), 0);
}
