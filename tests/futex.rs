//! Waiting where the kernel refuses futexes: a seccomp filter can have every futex call fail.

#![cfg(all(target_os = "linux", not(feature = "simulated-mach")))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use process_shared_core::semaphore::MAX;
use process_shared_core::{Deadline, Mutex, Outcome, Semaphore, Thread};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};
use support::{fork, shared};

/// From here on each futex call of this process fails with `errno`.
fn refuse_futexes(errno: i32) {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let line = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        line(LOAD, 0, 0, std::mem::offset_of!(libc::seccomp_data, nr) as u32),
        line(JUMP_IF_EQUAL, 0, 1, libc::SYS_futex as u32),
        line(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32),
        line(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program is valid for the time of the call.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}

fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The difference in processor time to a loop without sleep is that between a thousandth and a good part.
#[test]
fn a_wait_ends_at_its_deadline_and_does_not_spin() {
    for errno in [libc::EPERM, libc::ENOSYS, libc::EINVAL] {
        let (semaphore, mutex) = (Semaphore::new(0).unwrap(), Mutex::new().unwrap());
        assert!(mutex.try_lock(&Thread::current().unwrap()).unwrap());
        let child = fork(|| {
            let thread = Thread::current().unwrap();
            refuse_futexes(errno);
            let (start, busy_before) = (Instant::now(), processor_time());
            let deadline = || Deadline::after(Duration::from_millis(400));
            assert_eq!(semaphore.wait(&thread, deadline()), Outcome::TimedOut);
            assert_eq!(mutex.lock(&thread, deadline()), Outcome::TimedOut);
            let busy = processor_time() - busy_before;
            assert!(start.elapsed() >= Duration::from_millis(800));
            assert!(busy < start.elapsed() / 10, "{busy:?} of {:?}", start.elapsed());
            0
        });
        assert_eq!(child.reap(), 0, "errno {errno}");
    }
}

#[test]
fn a_waiter_that_cannot_be_woken_finds_out_by_itself() {
    let (semaphore, mutex) = (Semaphore::new(0).unwrap(), Mutex::new().unwrap());
    let thread = Thread::current().unwrap();
    assert!(mutex.try_lock(&thread).unwrap());
    let waiting = shared::<AtomicU32>();
    let child = fork(|| {
        let own = Thread::current().unwrap();
        refuse_futexes(libc::EPERM);
        waiting.store(1, SeqCst);
        assert_eq!(semaphore.wait(&own, None), Outcome::Acquired);
        waiting.store(2, SeqCst);
        assert_eq!(mutex.lock(&own, None), Outcome::Acquired);
        mutex.unlock(&own);
        0
    });
    support::until("the child waits for a permit", || waiting.load(SeqCst) == 1 && semaphore.waiters() == 1);
    semaphore.post(&thread, MAX).unwrap();
    support::until("it waits for the mutex", || waiting.load(SeqCst) == 2 && mutex.waiters() == 1);
    mutex.unlock(&thread);
    assert_eq!(child.reap(), 0);
}
