//! Locks, semaphores and conditions in files: shared by processes that only know the path, in order when all are gone,
//! and harmless whatever the file says.

#![cfg(all(target_os = "linux", not(feature = "simulated-mach")))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/folder.rs"]
mod folder;
mod support;

use folder::{Folder, turn};
use process_shared_core::word::pack;
use process_shared_core::{ConditionVariable, Deadline, Error, Mutex, Outcome, Semaphore, Thread};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use support::{die, fork, shared, until};

/// Where the slot is in a file: behind the header, the identity, and a table for 800.
const SLOT: u64 = 4096 + 51_328;

fn me() -> Thread {
    Thread::current().unwrap()
}

fn mutex(path: &Path) -> Mutex {
    Mutex::in_file(path, 0o600, "Mutex").unwrap()
}

fn semaphore(path: &Path, value: u32) -> Semaphore {
    Semaphore::in_file(path, 0o600, "Semaphore", value, 100).unwrap()
}

fn soon() -> Option<Deadline> {
    Deadline::after(Duration::from_secs(20))
}

#[test]
fn a_mutex_is_one_for_all_that_know_its_path() {
    let _turn = turn();
    let folder = Folder::on_tmpfs();
    let path = folder.path("lock");
    let (count, ready): (&AtomicU64, &AtomicU32) = (shared(), shared());
    let children: Vec<_> = (0..4)
        .map(|_| {
            fork(|| {
                ready.fetch_add(1, SeqCst);
                until("all are there", || ready.load(SeqCst) == 4);
                let (mutex, me) = (mutex(&path), me());
                for _ in 0..5000 {
                    if !mutex.try_lock(&me).unwrap() {
                        assert_eq!(mutex.lock(&me, None), Outcome::Acquired);
                    }
                    count.store(count.load(SeqCst) + 1, SeqCst);
                    mutex.unlock(&me);
                }
                0
            })
        })
        .collect();
    children.into_iter().for_each(|child| assert_eq!(child.reap(), 0));
    assert_eq!(count.load(SeqCst), 20_000);
    assert!(fs::metadata(&path).unwrap().len() <= 64 << 10);
}

#[test]
fn a_dead_holder_hands_on_while_others_have_the_file_and_when_nobody_has() {
    let _turn = turn();
    let folder = Folder::on_tmpfs();
    let path = folder.path("lock");
    let kept = mutex(&path);
    let die_with_it = || {
        let child = fork(|| {
            let mutex = mutex(&path);
            assert!(mutex.try_lock(&me()).unwrap());
            die()
        });
        assert_eq!(child.reap(), -libc::SIGKILL);
    };
    die_with_it();
    assert!(kept.is_abandoned() && !kept.is_locked());
    assert!(kept.try_lock(&me()).unwrap());
    kept.unlock(&me());
    assert!(!kept.is_abandoned());
    drop(kept);
    die_with_it();
    let found = mutex(&path);
    assert!(found.is_abandoned() && found.try_lock(&me()).unwrap());
    found.unlock(&me());
    drop(found);
    assert!(!mutex(&path).is_abandoned());
}

#[test]
fn a_semaphore_keeps_its_permits_and_a_mutex_is_none() {
    let _turn = turn();
    let folder = Folder::on_tmpfs();
    let path = folder.path("permits");
    let first = semaphore(&path, 5);
    assert!(first.try_wait() && first.try_wait());
    drop(first);
    assert_eq!(semaphore(&path, 9).value(), 3);
    match Mutex::in_file(&path, 0o600, "Mutex") {
        Err(Error::Invalid(text)) => {
            assert!(text.contains("Semaphore") && text.contains("Mutex"), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn handles_of_a_process_are_one_object_until_the_last_is_gone() {
    let _turn = turn();
    let folder = Folder::on_tmpfs();
    let path = folder.path("lock");
    let (one, other) = (mutex(&path), mutex(&path));
    assert!(one.try_lock(&me()).unwrap());
    assert!(other.is_held_by(&me()) && !other.try_lock(&me()).unwrap());
    drop(one);
    assert!(other.is_held_by(&me()));
    other.unlock(&me());
    assert!(other.try_lock(&me()).unwrap());
    drop(other); // releases it, as a mutex does
    let again = mutex(&path);
    assert!(!again.is_locked() && again.is_abandoned());
    drop(again);
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    assert!(!maps.contains(path.to_str().unwrap()), "{maps}");
}

#[test]
fn a_condition_works_with_mutexes_of_other_files() {
    let _turn = turn();
    let folder = Folder::on_tmpfs();
    let (lock, condition) = (folder.path("lock"), folder.path("condition"));
    let open = || ConditionVariable::in_file(&condition, 0o600, "ConditionVariable").unwrap();
    let here = open();
    let children: Vec<_> = (0..2)
        .map(|_| {
            fork(|| {
                let (mutex, there, me) = (mutex(&lock), open(), me());
                assert_eq!(mutex.lock(&me, None), Outcome::Acquired);
                let mut wait = there.condition().begin_wait(&me, mutex.name()).unwrap();
                mutex.unlock(&me);
                assert_eq!(there.condition().sleep(&me, &mut wait, soon()), Outcome::Acquired);
                assert_eq!(mutex.lock(&me, None), Outcome::Acquired);
                there.condition().finish_wait(&me, wait);
                mutex.unlock(&me);
                0
            })
        })
        .collect();
    until("both wait", || here.condition().waiters() == 2);
    here.condition().signal(&me());
    until("one is woken", || here.condition().waiters() == 1);
    here.condition().broadcast(&me());
    children.into_iter().for_each(|child| assert_eq!(child.reap(), 0));
}

/// Writes over the lock word of a file that processes have open: the futex word is the lower half of `state`.
fn spoil(path: &Path, state: u64) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let state = pack(state as u32, (state >> 32) as u32);
    file.write_all_at(&state.to_ne_bytes(), SLOT).unwrap();
}

#[test]
fn an_owner_that_cannot_be_is_found_out() {
    let _turn = turn();
    let folder = Folder::on_tmpfs();
    let path = folder.path("lock");
    let mutex = mutex(&path);
    for owner in [0x3fff_ffff_u64, 0x2000_0001, 0x0050_0000, 0xbfff_ffff, !0x4000_0000] {
        spoil(&path, owner);
        assert!(mutex.is_locked() || mutex.is_abandoned(), "{owner:x}");
        assert_eq!(mutex.lock(&me(), soon()), Outcome::Acquired, "{owner:x}");
        mutex.unlock(&me());
        assert!(mutex.try_lock(&me()).unwrap());
        mutex.unlock(&me());
    }
}

#[test]
fn a_semaphore_of_any_word_can_be_waited_for() {
    let _turn = turn();
    let folder = Folder::on_tmpfs();
    let path = folder.path("permits");
    let semaphore = semaphore(&path, 0);
    for word in [0x1234_u64, 0x3fff_ffff, 0xc000_0000, 0xffff_ffff] {
        spoil(&path, word);
        let moment = Deadline::after(Duration::from_millis(20));
        assert_eq!(semaphore.wait(&me(), moment), Outcome::TimedOut, "{word:x}");
        semaphore.post(&me(), 100).unwrap();
        assert!(semaphore.try_wait());
    }
}

/// Xorshift: the same numbers in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Runs `life` in children while another process writes anything over the slot and the table.
fn while_spoiled(path: &Path, life: impl Fn(u32) -> i32) {
    let writer = fork(|| {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        let mut random = Random(88172645463325252);
        loop {
            let (kind, value) = (random.next() % 4, random.next());
            let bytes = [value, 0, u64::MAX, value & 0xffff][kind as usize].to_ne_bytes();
            let place = match random.next() % 3 {
                0 => SLOT + random.next() % 15 * 8,
                1 => 4096 + 64 + random.next() % 64 * 8,
                _ => 4096 + 64 + random.next() % 6400 * 8,
            };
            file.write_all_at(&bytes, place).unwrap();
            if random.next() % 64 == 0 {
                std::thread::yield_now();
            }
        }
    });
    let children: Vec<_> = (0..2).map(|number| fork(|| life(number))).collect();
    children.into_iter().for_each(|child| assert_eq!(child.reap(), 0));
    writer.kill();
}

#[test]
fn a_mutex_whose_file_is_written_to_meanwhile_harms_nobody() {
    let _turn = turn();
    let folder = Folder::on_tmpfs();
    let path = folder.path("lock");
    let kept = mutex(&path);
    while_spoiled(&path, |_| {
        let me = me();
        let outer = Mutex::new().unwrap();
        for round in 0..3000 {
            // Anew now and then: what is left of the last time must not be used.
            let (mutex, inner) = (mutex(&path), Mutex::new().unwrap());
            for _ in 0..10 {
                assert!(outer.try_lock(&me).unwrap());
                let moment = Deadline::after(Duration::from_millis(1));
                if mutex.try_lock(&me).unwrap() || mutex.lock(&me, moment) == Outcome::Acquired {
                    mutex.note_holder(&me);
                    assert!(inner.try_lock(&me).unwrap());
                    if mutex.is_held_by(&me) {
                        mutex.forget_holder();
                        mutex.unlock(&me);
                    }
                    inner.unlock(&me);
                }
                if round % 2 == 0 && mutex.try_lock(&me).unwrap() {
                    mutex.note_holder(&me);
                    if mutex.is_held_by(&me) {
                        mutex.forget_holder();
                        mutex.unlock(&me);
                    }
                }
                outer.unlock(&me);
                assert!(!outer.is_held_by(&me));
                mutex.waiters();
                mutex.owner_pid();
            }
        }
        0
    });
    drop(kept);
}

#[test]
fn a_condition_whose_file_is_written_to_meanwhile_harms_nobody() {
    let _turn = turn();
    let folder = Folder::on_tmpfs();
    let path = folder.path("condition");
    let open = || ConditionVariable::in_file(&path, 0o600, "ConditionVariable").unwrap();
    let kept = open();
    while_spoiled(&path, |number| {
        let me = me();
        let mutex = Mutex::new().unwrap();
        for _ in 0..2000 {
            let there = open();
            let condition = there.condition();
            if number == 0 {
                assert!(mutex.try_lock(&me).unwrap());
                if let Ok(mut wait) = condition.begin_wait(&me, mutex.name()) {
                    mutex.unlock(&me);
                    let moment = Deadline::after(Duration::from_micros(200));
                    condition.sleep(&me, &mut wait, moment);
                    assert!(mutex.try_lock(&me).unwrap());
                    condition.cancel_wait(&me, wait);
                }
                mutex.unlock(&me);
            } else {
                condition.signal(&me);
                condition.broadcast(&me);
                condition.waiters();
            }
        }
        0
    });
    drop(kept);
}

#[test]
fn files_of_any_bytes_are_put_in_order() {
    let _turn = turn();
    let folder = Folder::on_tmpfs();
    let path = folder.path("lock");
    drop(mutex(&path));
    let good = fs::read(&path).unwrap();
    let child = fork(|| {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for _ in 0..300 {
            let mut bytes = good.clone();
            bytes[4096..].iter_mut().for_each(|byte| *byte = random.next() as u8);
            fs::write(&path, &bytes).unwrap();
            let (mutex, me) = (mutex(&path), me());
            assert!(mutex.try_lock(&me).unwrap());
            assert_eq!((mutex.waiters(), mutex.condition().waiters()), (0, 0));
            mutex.unlock(&me);
        }
        0
    });
    assert_eq!(child.reap(), 0);
}
