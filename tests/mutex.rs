//! The mutex between real processes.

use process_shared_core::{Deadline, Mutex, Outcome, Thread};
use std::time::Duration;

fn fork(child: impl FnOnce()) -> libc::pid_t {
    // SAFETY: the child runs one function and leaves by _exit.
    match unsafe { libc::fork() } {
        0 => {
            child();
            // SAFETY: ends this process at once.
            unsafe { libc::_exit(0) }
        }
        pid => pid,
    }
}

fn reap(pid: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: `pid` is a child of this process.
    unsafe { libc::waitpid(pid, &mut status, 0) };
    status
}

#[test]
fn a_holder_killed_hands_the_mutex_on() {
    let mutex = Mutex::new().unwrap();
    let pid = fork(|| {
        let thread = Thread::current().unwrap();
        assert!(mutex.try_lock(&thread).unwrap());
        // SAFETY: kills this process.
        unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
    });
    reap(pid);
    let thread = Thread::current().unwrap();
    assert!(mutex.try_lock(&thread).unwrap());
    assert!(mutex.is_abandoned());
    mutex.unlock(&thread);
    assert!(!mutex.is_locked() && !mutex.is_abandoned());
}

#[test]
fn a_deadline_ends_the_wait() {
    let mutex = Mutex::new().unwrap();
    let thread = Thread::current().unwrap();
    assert!(mutex.try_lock(&thread).unwrap());
    let pid = fork(|| {
        let thread = Thread::current().unwrap();
        let outcome = mutex.lock(&thread, Deadline::after(Duration::from_millis(20)));
        // SAFETY: ends this process at once.
        unsafe { libc::_exit(if outcome == Outcome::TimedOut { 7 } else { 1 }) };
    });
    assert_eq!(libc::WEXITSTATUS(reap(pid)), 7);
    mutex.unlock(&thread);
}
