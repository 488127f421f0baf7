//! The robust semaphore between real processes, which end in every way.

#![cfg(target_os = "linux")] // its children are seen through /proc
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use process_shared_core::{
    Deadline, Outcome, Semaphore, SemaphoreKind, SemaphoreRefusal, SharedObject, Thread,
};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use support::{Child, PATIENCE, comes_true, fork, shared, state, until};

fn me() -> Thread {
    Thread::current().unwrap()
}

fn robust(limit: u32) -> Semaphore {
    let semaphore = Semaphore::of_kind(SemaphoreKind::Robust { limit }).unwrap();
    semaphore.prepare().unwrap();
    semaphore
}

fn take(semaphore: &Semaphore, count: u32) {
    semaphore.prepare().unwrap();
    assert_eq!(semaphore.acquire(&me(), count, Deadline::after(PATIENCE)), Ok(Outcome::Acquired));
}

/// A child that holds `count` permits until it ends by `end`.
fn holder(semaphore: &Semaphore, count: u32, end: fn()) -> Child {
    let (there, may_end) = (shared::<AtomicU32>(), shared::<AtomicU32>());
    let child = fork(|| {
        take(semaphore, count);
        there.store(1, SeqCst);
        until("it may end", || may_end.load(SeqCst) == 1);
        end();
        0
    });
    until("the child has its permits", || there.load(SeqCst) == 1);
    may_end.store(1, SeqCst);
    child
}

/// In a process that has no other object: there is nothing then that a fork on macOS has to hand over.
#[test]
fn a_child_can_use_it_that_has_nothing_else_of_its_parents() {
    let child = fork(|| {
        let semaphore = robust(1);
        let child = fork(|| i32::from(!semaphore.is_accessible() || semaphore.value() != 1));
        child.reap()
    });
    assert_eq!(child.reap(), 0);
}

#[test]
fn a_permit_belongs_to_the_process() {
    let semaphore = robust(3);
    take(&semaphore, 2);
    let child = fork(|| {
        assert_eq!(semaphore.post_many(&me(), 1, 0), Err(SemaphoreRefusal::NotHeld(0)));
        take(&semaphore, 1);
        assert_eq!(semaphore.post_many(&me(), 2, 0), Err(SemaphoreRefusal::NotHeld(1)));
        assert_eq!(semaphore.holders(&me()).unwrap().len(), 2);
        assert_eq!(semaphore.value(), 0);
        0
    });
    assert_eq!(child.reap(), 0);
    assert_eq!(semaphore.value(), 1);
    assert_eq!(semaphore.holders(&me()), Ok(vec![(std::process::id(), 2)]));
    let given = std::thread::scope(|scope| scope.spawn(|| semaphore.post_many(&me(), 2, 0)).join().unwrap());
    assert_eq!((given, semaphore.value()), (Ok(()), 3));
}

#[test]
fn permits_come_back_however_a_process_ends() {
    fn run_another_program() {
        let program = c"/bin/sleep";
        let arguments = [program.as_ptr(), c"60".as_ptr(), std::ptr::null()];
        // SAFETY: strings that end, in a list that ends.
        unsafe { libc::execv(program.as_ptr(), arguments.as_ptr()) };
    }
    let ends: [fn(); 4] = [
        // SAFETY: it has no precondition.
        || unsafe { libc::_exit(0) },
        || std::process::abort(),
        // SAFETY: as above.
        || unsafe {
            libc::kill(libc::getpid(), libc::SIGKILL);
        },
        run_another_program,
    ];
    for end in ends {
        let semaphore = robust(2);
        let child = holder(&semaphore, 2, end);
        take(&semaphore, 2); // sleeps, and nobody posts
        drop(child);
    }
}

#[test]
fn thousands_can_be_held_by_one_process() {
    let semaphores: Vec<_> = (0..5000).map(|_| robust(1)).collect();
    let child = fork(|| {
        semaphores.iter().for_each(|semaphore| take(semaphore, 1));
        0
    });
    assert_eq!(child.reap(), 0);
    assert!(semaphores.iter().all(|semaphore| semaphore.value() == 1));
}

#[test]
fn what_a_process_holds_comes_back_with_its_last_handle() {
    let semaphore = robust(1);
    let waiter = fork(|| {
        take(&semaphore, 1);
        0
    });
    assert_eq!(waiter.reap(), 0);
    take(&semaphore, 1);
    let waiter = fork(|| {
        take(&semaphore, 1);
        0
    });
    waiter.until_asleep();
    drop(semaphore);
    assert_eq!(waiter.reap(), 0);
}

#[test]
fn a_smaller_limit_comes_into_force_as_permits_come_back() {
    let semaphore = robust(3);
    take(&semaphore, 3);
    semaphore.resize(&me(), 1).unwrap();
    assert_eq!((semaphore.value(), semaphore.try_wait()), (-2, false));
    semaphore.post_many(&me(), 2, 0).unwrap();
    assert_eq!((semaphore.try_acquire(&me(), 1), semaphore.try_wait()), (Ok(false), false));
    semaphore.resize(&me(), 4).unwrap();
    assert_eq!(semaphore.value(), 3);
}

/// Processes take and give several at once, change the limit, and are killed by the hundred. Never are more held than the
/// limit ever was, and in the end all are back.
#[test]
fn never_too_many_are_held() {
    const LIMIT: u32 = 4;
    let semaphore = robust(LIMIT);
    // a byte for each worker, so that all are seen at one moment
    let held = shared::<AtomicU64>();
    let byte_of = |place: usize, count: u32| u64::from(count) << (8 * place);
    let worker = |place: usize| {
        fork(|| {
            semaphore.prepare().unwrap();
            for round in 0u32.. {
                let count = 1 + (round * 7 + place as u32) % 3;
                let soon = Deadline::after(Duration::from_millis(u64::from(round % 5)));
                match semaphore.acquire(&me(), count, if round % 3 == 0 { soon } else { None }) {
                    Ok(Outcome::Acquired) => {}
                    _ => continue,
                }
                let others = held.fetch_add(byte_of(place, count), SeqCst);
                let all = count + others.to_le_bytes().iter().map(|&byte| u32::from(byte)).sum::<u32>();
                assert!(all <= LIMIT, "{all} are held");
                held.fetch_sub(byte_of(place, count), SeqCst);
                // refused while the holder of the semaphore's lock is stopped, or gets no processor
                until("it is given back", || semaphore.post_many(&me(), count, 0).is_ok());
                if round % 17 == 0 {
                    until("the limit is changed", || semaphore.resize(&me(), LIMIT - round % 2).is_ok());
                }
            }
            0
        })
    };
    let mut workers: Vec<_> = (0..6).map(|place| Some(worker(place))).collect();
    for round in 0..200 {
        let place = round * 5 % workers.len();
        std::thread::sleep(Duration::from_millis(1));
        if let Some(worker) = workers[place].take() {
            assert!(!worker.is_over(), "a worker has found too many");
            worker.signal(libc::SIGSTOP);
            until("the worker stops", || state(worker.pid) == 'T');
            held.fetch_and(!byte_of(place, 0xff), SeqCst); // while it has them still
            worker.kill();
        }
        workers[place] = Some(worker(place));
    }
    workers.into_iter().flatten().for_each(Child::kill);
    semaphore.resize(&me(), LIMIT).unwrap();
    assert!(comes_true(PATIENCE, || semaphore.value() == i64::from(LIMIT)));
    assert_eq!((semaphore.holders(&me()), semaphore.waiters()), (Ok(Vec::new()), 0));
}
