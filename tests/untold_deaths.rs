//! Deaths that the kernel tells nobody of: whoever waits, or looks, finds out. Nobody takes a lock from the living.

#![cfg(all(target_os = "linux", not(feature = "simulated-mach")))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use process_shared_core::kernel::Kernel;
use process_shared_core::lock::Lock;
use process_shared_core::participants::{Header, Participant, Party, Seat, Table};
use process_shared_core::platform::Wake;
use process_shared_core::semaphore::{MAX, Semaphore as Permits};
use process_shared_core::turn::Place;
use process_shared_core::word::Word;
use process_shared_core::{Condition, ConditionVariable, Deadline, Mutex, Outcome, Semaphore, Thread};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use support::{Child, PATIENCE, die, fork, in_threads, shared, until};

fn me() -> Thread {
    Thread::current().unwrap()
}

fn lock(mutex: &Mutex) {
    if !mutex.try_lock(&me()).unwrap() {
        assert_eq!(mutex.lock(&me(), Deadline::after(PATIENCE)), Outcome::Acquired);
    }
}

/// Has the kernel not know what the calling thread holds.
fn hide_from_kernel() {
    me();
    // SAFETY: no list at all is a valid one; its length is that of its head.
    let failed = unsafe { libc::syscall(libc::SYS_set_robust_list, std::ptr::null::<u8>(), 24) };
    assert_eq!(failed, 0);
}

fn pause() -> ! {
    loop {
        std::thread::sleep(PATIENCE);
    }
}

/// A child that does `work`, and then nothing any more.
fn stays_after(work: impl FnOnce()) -> Child {
    let done = shared::<AtomicU64>();
    let child = fork(|| {
        work();
        done.store(1, SeqCst);
        pause()
    });
    until("the child is ready", || done.load(SeqCst) == 1);
    child
}

/// Kills a child and takes its memory, if possible before it dies.
fn kill_and_take_memory(child: &Child) {
    const PROCESS_MRELEASE: i64 = 448;
    // SAFETY: a child of this process that has not been reaped, and its descriptor, closed after use.
    unsafe {
        let descriptor = libc::syscall(libc::SYS_pidfd_open, child.pid, 0);
        assert!(descriptor >= 0);
        libc::kill(child.pid, libc::SIGKILL);
        while libc::syscall(PROCESS_MRELEASE, descriptor, 0) != 0 && !child.is_over() {}
        libc::close(descriptor as i32);
    }
}

#[test]
fn no_lock_is_lost_with_the_memory_of_its_holder() {
    for round in 0..60 {
        let mutex = Mutex::new().unwrap();
        let holder = stays_after(|| lock(&mutex));
        kill_and_take_memory(&holder);
        if round % 2 == 0 {
            holder.reap(); // else it is there still, dead
        }
        lock(&mutex);
        assert!(mutex.is_abandoned());
        mutex.unlock(&me());
    }
}

#[test]
fn a_waiter_takes_over_within_a_second() {
    let mutex = Mutex::new().unwrap();
    let start = stays_after(|| lock(&mutex));
    let waiter = fork(|| {
        lock(&mutex);
        i32::from(mutex.is_abandoned())
    });
    waiter.until_asleep();
    drop(start); // told of: as before
    assert_eq!(waiter.reap(), 1);

    let go = shared::<AtomicU64>();
    let holder = fork(|| {
        lock(&mutex);
        hide_from_kernel();
        go.store(1, SeqCst);
        until("it has to die", || go.load(SeqCst) == 2);
        die()
    });
    until("it holds the lock", || go.load(SeqCst) == 1);
    let waiter = fork(|| {
        lock(&mutex);
        i32::from(mutex.is_abandoned())
    });
    waiter.until_asleep();
    go.store(2, SeqCst);
    assert_eq!(waiter.reap(), 1);
    holder.reap();
}

#[test]
fn all_who_only_look_find_out() {
    let looks: [fn(&Mutex) -> bool; 4] = [
        |mutex| !mutex.is_locked(),
        |mutex| mutex.owner_pid().is_none(),
        |mutex| mutex.try_lock_or_reap(&me()).unwrap(),
        |mutex| mutex.try_lock_or_reap(&me()).unwrap() && mutex.is_abandoned(),
    ];
    for look in looks {
        let mutex = Mutex::new().unwrap();
        let holder = fork(|| {
            lock(&mutex);
            hide_from_kernel();
            die()
        });
        until("it is dead", || holder.is_over());
        until("it is known to be dead", || look(&mutex));
    }
}

#[test]
fn a_dead_waiter_does_not_count_and_gets_no_signal() {
    let (mutex, condition, permits) =
        (Mutex::new().unwrap(), ConditionVariable::new().unwrap(), Semaphore::new(0).unwrap());
    let condition = condition.condition();
    let dead = fork(|| {
        condition.begin_wait(&me(), mutex.name()).unwrap();
        hide_from_kernel();
        die()
    });
    until("it is dead", || dead.is_over());
    let living = fork(|| {
        let mut wait = condition.begin_wait(&me(), mutex.name()).unwrap();
        let outcome = condition.sleep(&me(), &mut wait, Deadline::after(PATIENCE));
        condition.finish_wait(&me(), wait);
        i32::from(outcome == Outcome::Acquired)
    });
    living.until_asleep();
    condition.signal(&me());
    assert_eq!(living.reap(), 1);
    until("the dead one does not count", || condition.waiters() == 0);

    lock(&mutex);
    let waits: [fn(&Semaphore, &Mutex) -> Outcome; 2] =
        [|_, mutex| mutex.lock(&me(), None), |permits, _| permits.wait(&me(), None)];
    for wait in waits {
        let waiter = fork(|| {
            hide_from_kernel();
            wait(&permits, &mutex);
            1
        });
        waiter.until_asleep();
        assert_eq!(permits.waiters() + mutex.waiters(), 1);
        waiter.kill();
        until("the dead one does not count", || permits.waiters() + mutex.waiters() == 0);
    }
    mutex.unlock(&me());
}

/// Granted, and dead before it has its mutex: with the baton, or on its way to it.
#[test]
fn the_signal_of_a_dead_waiter_goes_to_the_next() {
    for takes_baton in [true, false] {
        let (mutex, variable) = (Mutex::new().unwrap(), ConditionVariable::new().unwrap());
        let (condition, step) = (variable.condition(), shared::<AtomicU64>());
        let first = fork(|| {
            let mut wait = condition.begin_wait(&me(), mutex.name()).unwrap();
            condition.release_baton(&me(), &mut wait);
            step.store(1, SeqCst);
            until("it is signalled", || step.load(SeqCst) == 2);
            if takes_baton {
                assert_eq!(condition.sleep(&me(), &mut wait, None), Outcome::Acquired);
            }
            hide_from_kernel();
            die()
        });
        until("the first waits", || step.load(SeqCst) == 1);
        let second = fork(|| {
            let mut wait = condition.begin_wait(&me(), mutex.name()).unwrap();
            let outcome = condition.sleep(&me(), &mut wait, Deadline::after(PATIENCE));
            condition.finish_wait(&me(), wait);
            i32::from(outcome == Outcome::Acquired)
        });
        until("the second waits", || condition.waiters() == 2 && support::is_asleep(second.pid));
        condition.signal(&me());
        step.store(2, SeqCst);
        assert_eq!(second.reap(), 1);
        first.reap();
        until("nobody waits", || condition.waiters() == 0);
    }
}

/// The calling thread as one that dies with its first wake-up in hand, and that the kernel does not know.
struct DiesBeforeItWakes(Thread);

impl Kernel for DiesBeforeItWakes {
    fn id(&self) -> u32 {
        self.0.id()
    }

    fn pid(&self) -> u32 {
        self.0.pid()
    }

    fn set_pending(&self, _: &Word) {}

    fn clear_pending(&self) {}

    fn robust_push(&self, _: &Word) {}

    fn robust_remove(&self, _: &Word) {}

    fn wait(&self, _: &Word, _: u32, _: Option<Deadline>, _: u32) -> Wake {
        Wake::Woken
    }

    fn wake(&self, _: &Word, _: i32, _: u32) -> usize {
        die()
    }
}

fn dies_before_it_wakes(work: impl FnOnce(DiesBeforeItWakes)) {
    let child = fork(|| {
        work(DiesBeforeItWakes(me()));
        1
    });
    assert_eq!(child.reap(), -libc::SIGKILL);
}

fn waits_for(sleep: impl FnOnce(Option<Deadline>) -> bool) -> Child {
    let child = fork(|| i32::from(sleep(Deadline::after(PATIENCE))));
    child.until_asleep();
    child
}

/// Waits for a permit, with nobody in line.
fn wait(permits: &Permits, deadline: Option<Deadline>, take: bool) -> bool {
    let table = Table::of(shared::<Header>(), shared::<[Participant; 1]>());
    let place = Place::new(Party::new(Seat { table, key: 1, tally: None }, permits.spare()), None);
    permits.wait_for(&me(), place, 1, deadline, take) == Outcome::Acquired
}

/// A poster dies between giving its permit and waking a waiter.
#[test]
fn a_permit_without_its_wake_up_is_late_at_most() {
    type Wait = fn(&Permits, Option<Deadline>) -> bool;
    let waits: [Wait; 3] = [
        |permits, deadline| wait(permits, deadline, true),
        |permits, deadline| wait(permits, deadline, false),
        |permits, deadline| {
            let chance = permits.wait_for_chance(&me(), deadline);
            chance.is_ok_and(|chance| permits.settle_chance(&me(), chance, true))
        },
    ];
    for wait in waits {
        let permits = shared::<Permits>();
        let waiter = waits_for(|deadline| wait(permits, deadline));
        dies_before_it_wakes(|dying| permits.post(&dying, MAX).unwrap());
        assert_eq!(waiter.reap(), 1);
    }
}

/// An unlocker dies between freeing the lock and waking a waiter.
#[test]
fn an_unlock_without_its_wake_up_is_late_at_most() {
    type Wait = fn(&Lock, Option<Deadline>) -> Outcome;
    let waits: [Wait; 2] =
        [|lock, deadline| lock.lock(&me(), deadline), |lock, deadline| lock.wait_until_free(&me(), deadline)];
    for wait in waits {
        let (lock, step) = (shared::<Lock>(), shared::<AtomicU64>());
        let holder = fork(|| {
            let dying = DiesBeforeItWakes(me());
            assert!(lock.try_lock(&dying));
            step.store(1, SeqCst);
            until("it may go on", || step.load(SeqCst) == 2);
            lock.unlock(&dying);
            1
        });
        until("the lock is held", || step.load(SeqCst) == 1);
        let waiter = waits_for(|deadline| wait(lock, deadline) == Outcome::Acquired);
        step.store(2, SeqCst);
        assert_eq!(holder.reap(), -libc::SIGKILL);
        assert_eq!(waiter.reap(), 1);
    }
}

/// A thread dies between ending a wait and waking the waiter.
#[test]
fn a_signal_without_its_wake_up_is_late_at_most() {
    let gives: [fn(Condition<'_>, &DiesBeforeItWakes); 2] =
        [|condition, dying| condition.signal(dying), |condition, dying| condition.broadcast(dying)];
    for give in gives {
        let variable = ConditionVariable::new().unwrap();
        let condition = variable.condition();
        let waiter = waits_for(|deadline| {
            let mut wait = condition.begin_wait(&me(), 1).unwrap();
            let outcome = condition.sleep(&me(), &mut wait, deadline);
            condition.finish_wait(&me(), wait);
            outcome == Outcome::Acquired
        });
        dies_before_it_wakes(|dying| give(condition, &dying));
        assert_eq!(waiter.reap(), 1);
    }
}

/// Each thread is looked at a few times a second, and may have held many locks.
#[test]
fn whatever_one_dead_thread_held_is_had_at_once() {
    let mutexes: Vec<Mutex> = (0..100).map(|_| Mutex::new().unwrap()).collect();
    let holder = fork(|| {
        mutexes.iter().for_each(lock);
        hide_from_kernel();
        die()
    });
    until("it is dead", || holder.is_over());
    until("it is known to be dead", || mutexes[0].try_lock_or_reap(&me()).unwrap());
    for mutex in &mutexes[1..] {
        assert!(mutex.try_lock_or_reap(&me()).unwrap());
    }
    mutexes.iter().for_each(|mutex| mutex.unlock(&me()));
}

/// The one slow test: more than two seconds in which a living holder does nothing at all.
#[test]
fn nothing_is_taken_from_a_stopped_holder() {
    let mutex = Mutex::new().unwrap();
    let holder = stays_after(|| lock(&mutex));
    holder.signal(libc::SIGSTOP);
    until("it stops", || support::state(holder.pid) == 'T');
    let end = Instant::now() + Duration::from_millis(2200);
    let outcome = mutex.lock(&me(), Deadline::after(Duration::from_millis(2200)));
    assert_eq!(outcome, Outcome::TimedOut);
    assert!(Instant::now() >= end, "a deadline is exact");
    assert!(!mutex.try_lock_or_reap(&me()).unwrap() && mutex.owner_pid() == Some(holder.pid as u32));
    holder.kill();
    lock(&mutex);
    mutex.unlock(&me());
}

/// C code replaces the program in a thread that is not the process's first.
#[test]
fn an_exec_by_another_thread_releases_what_that_thread_held() {
    let (mutex, held) = (Mutex::new().unwrap(), shared::<AtomicU64>());
    let child = fork(|| {
        let work = || {
            lock(&mutex);
            held.store(1, SeqCst);
            let args = [c"sleep".as_ptr(), c"60".as_ptr(), std::ptr::null()];
            // SAFETY: strings that end, and a list of them that does.
            unsafe { libc::execvp(args[0], args.as_ptr()) };
        };
        in_threads([work]);
        0
    });
    until("it holds the lock", || held.load(SeqCst) == 1);
    lock(&mutex);
    assert!(mutex.is_abandoned());
    mutex.unlock(&me());
    child.kill();
}
