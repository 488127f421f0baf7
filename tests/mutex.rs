//! The mutex between real processes.

#![cfg(target_os = "linux")] // its children are seen through /proc
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use process_shared_core::{Deadline, Mutex, Outcome, Thread, release_held_as_dead};
#[cfg(all(target_os = "linux", not(feature = "simulated-mach")))]
use process_shared_core::{platform::StandIn, transfer_held};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use support::{Child, die, fork, shared};

fn take(mutex: &Mutex) -> Thread {
    let thread = Thread::current().unwrap();
    assert!(mutex.try_lock(&thread).unwrap());
    thread
}

/// A child that waits for the mutex, and has it for a moment: 0, or 1 if it found it abandoned.
fn contender(mutex: &Mutex) -> Child {
    let child = fork(|| {
        let thread = Thread::current().unwrap();
        assert_eq!(mutex.lock(&thread, None), Outcome::Acquired);
        let abandoned = mutex.is_abandoned();
        mutex.unlock(&thread);
        i32::from(abandoned)
    });
    child.until_asleep();
    child
}

#[test]
fn a_holder_killed_hands_the_mutex_on() {
    let mutex = Mutex::new().unwrap();
    fork(|| {
        take(&mutex);
        die()
    })
    .reap();
    let thread = take(&mutex);
    assert!(mutex.is_abandoned());
    assert_eq!(mutex.owner_pid(), Some(std::process::id()));
    mutex.unlock(&thread);
    assert!(!mutex.is_locked() && !mutex.is_abandoned());
}

#[test]
fn a_holder_killed_wakes_a_waiter_and_that_one_the_next() {
    let mutex = Mutex::new().unwrap();
    let held = shared::<AtomicU64>();
    let holder = fork(|| {
        take(&mutex);
        held.store(1, SeqCst);
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    support::until("the child holds it", || held.load(SeqCst) == 1);
    let waiters = [contender(&mutex), contender(&mutex)];
    assert_eq!(mutex.waiters(), 2);
    holder.kill();
    let found: i32 = waiters.into_iter().map(Child::reap).sum();
    assert_eq!(found, 1, "one took it over, and mended it");
}

#[test]
fn a_killed_waiter_costs_nobody_anything() {
    let mutex = Mutex::new().unwrap();
    let thread = take(&mutex);
    let (first, second) = (contender(&mutex), contender(&mutex));
    first.signal(libc::SIGSTOP); // it cannot take it
    support::until("the first stops", || support::state(first.pid) == 'T');
    mutex.unlock(&thread);
    first.kill();
    assert_eq!(second.reap(), 0);
    assert_eq!(mutex.waiters(), 0);
}

#[test]
fn a_deadline_ends_the_wait() {
    let mutex = Mutex::new().unwrap();
    let thread = take(&mutex);
    let child = fork(|| {
        let outcome = mutex.lock(&Thread::current().unwrap(), Deadline::after(Duration::from_millis(20)));
        if outcome == Outcome::TimedOut { 7 } else { 1 }
    });
    assert_eq!(child.reap(), 7);
    mutex.unlock(&thread);
    assert!(!mutex.is_locked());
}

#[test]
fn a_signal_handler_interrupts_the_wait() {
    extern "C" fn nothing(_: libc::c_int) {}
    let mutex = Mutex::new().unwrap();
    let thread = take(&mutex);
    let child = fork(|| {
        // SAFETY: an action without SA_RESTART, and a handler that does nothing.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as *const () as usize;
            libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut());
        }
        i32::from(mutex.lock(&Thread::current().unwrap(), None) == Outcome::Interrupted)
    });
    child.until_asleep();
    child.signal(libc::SIGUSR1);
    assert_eq!(child.reap(), 1);
    mutex.unlock(&thread);
}

#[test]
fn a_child_of_the_holder_is_not_the_holder() {
    let mutex = Mutex::new().unwrap();
    let thread = take(&mutex);
    let child = fork(|| {
        let thread = Thread::current().unwrap();
        let other = Mutex::new().unwrap();
        assert!(!mutex.is_held_by(&thread) && mutex.is_locked());
        assert!(other.try_lock(&thread).unwrap());
        7 // and ends, holding its own
    });
    assert_eq!(child.reap(), 7);
    assert!(mutex.is_held_by(&thread) && !mutex.is_abandoned());
    mutex.unlock(&thread);
    assert!(!mutex.is_locked());
}

#[test]
fn a_thread_that_ends_hands_on_what_it_holds() {
    let mutex = Mutex::new().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            take(&mutex);
        });
    });
    support::until("the thread has ended", || !mutex.is_locked());
    let thread = take(&mutex);
    assert!(mutex.is_abandoned());
    mutex.unlock(&thread);
}

/// C libraries walk the robust list of a thread that ends, and some take its entries for mutexes of their own.
#[test]
fn a_thread_that_ends_wakes_all_that_wait_for_what_it_holds() {
    let (mutex, held) = (Mutex::new().unwrap(), shared::<AtomicU64>());
    let end = std::sync::Barrier::new(2);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            take(&mutex);
            held.store(1, SeqCst);
            end.wait();
        });
        support::until("the thread holds the mutex", || held.load(SeqCst) == 1);
        let waiters = [contender(&mutex), contender(&mutex)];
        end.wait();
        let abandoned: i32 = waiters.map(Child::reap).iter().sum();
        assert_eq!(abandoned, 1, "one of them finds it abandoned");
    });
    let thread = take(&mutex);
    mutex.unlock(&thread);
    assert_eq!(mutex.waiters(), 0);
}

#[test]
fn all_that_a_thread_holds_can_be_given_up() {
    let mutexes: Vec<Mutex> = (0..100).map(|_| Mutex::new().unwrap()).collect();
    let (mutexes, thread) = (&mutexes, Thread::current().unwrap());
    for mutex in mutexes {
        assert!(mutex.try_lock(&thread).unwrap());
    }
    mutexes[50].unlock(&thread);
    release_held_as_dead(&thread);
    assert!(mutexes.iter().all(|mutex| !mutex.is_locked()));
    assert_eq!(fork(|| i32::from(mutexes[0].try_lock(&Thread::current().unwrap()).unwrap())).reap(), 1);
}

#[test]
fn the_most_a_thread_can_hold_all_survive_it() {
    let mutexes: Vec<Mutex> = (0..2001).map(|_| Mutex::new().unwrap()).collect();
    let child = fork(|| {
        let thread = Thread::current().unwrap();
        let taken = mutexes.iter().take_while(|mutex| mutex.try_lock(&thread).is_ok_and(|taken| taken));
        assert_eq!(taken.count(), 2000);
        die()
    });
    assert_eq!(child.reap(), -libc::SIGKILL);
    assert!(mutexes.iter().all(|mutex| !mutex.is_locked()));
}

#[test]
fn keeps_processes_apart() {
    let (mutex, count) = (Mutex::new().unwrap(), shared::<AtomicU64>());
    let children: Vec<Child> = (0..4)
        .map(|_| {
            fork(|| {
                let thread = Thread::current().unwrap();
                for _ in 0..50_000 {
                    if !mutex.try_lock(&thread).unwrap() {
                        assert_eq!(mutex.lock(&thread, None), Outcome::Acquired);
                    }
                    count.store(count.load(SeqCst) + 1, SeqCst);
                    mutex.unlock(&thread);
                }
                0
            })
        })
        .collect();
    assert!(children.into_iter().all(|child| child.reap() == 0));
    assert_eq!(count.load(SeqCst), 200_000);
    assert_eq!(mutex.waiters(), 0);
}

/// For a thread that calls exec, which ends the other threads and takes the caller's number away.
#[cfg(all(target_os = "linux", not(feature = "simulated-mach")))]
#[test]
fn a_stand_in_hands_on_what_it_was_given_and_gives_it_back() {
    let mutexes: Vec<Mutex> = (0..3).map(|_| Mutex::new().unwrap()).collect();
    let (mutexes, go) = (&mutexes, shared::<AtomicU64>());
    let child = fork(|| {
        let work = || {
            let thread = Thread::current().unwrap();
            assert!(mutexes.iter().all(|mutex| mutex.try_lock(&thread).unwrap()));
            let given = StandIn::start().unwrap();
            transfer_held(&thread, &given.thread());
            assert!(mutexes.iter().all(|mutex| mutex.is_held_by(&given.thread())));
            assert!(mutexes.iter().all(|mutex| mutex.owner_pid() == Some(std::process::id())));
            assert!(thread.held().is_empty());
            transfer_held(&given.thread(), &thread);
            assert!(mutexes.iter().all(|mutex| mutex.is_held_by(&thread)));
            mutexes[1].unlock(&thread);
            transfer_held(&thread, &given.thread());
            go.store(1, SeqCst);
            let args = [c"sleep".as_ptr(), c"60".as_ptr(), std::ptr::null()];
            // SAFETY: strings that end, and a list of them that does.
            unsafe { libc::execvp(args[0], args.as_ptr()) };
        };
        support::in_threads([work]);
        0
    });
    support::until("it is about to call exec", || go.load(SeqCst) == 1);
    let thread = Thread::current().unwrap();
    for (mutex, abandoned) in mutexes.iter().zip([true, false, true]) {
        if !mutex.try_lock(&thread).unwrap() {
            assert_eq!(mutex.lock(&thread, Deadline::after(support::PATIENCE)), Outcome::Acquired);
        }
        assert_eq!(mutex.is_abandoned(), abandoned);
        mutex.unlock(&thread);
    }
    child.kill();
}
