//! Locks, semaphores and conditions in files: shared by processes that only know the path, in order when all are gone,
//! and harmless whatever the file says.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/folder.rs"]
mod folder;
mod support;

use folder::{Folder, turn};
use process_shared_core::barrier::Arrival;
use process_shared_core::kernel::Kernel;
use process_shared_core::word::pack;
use process_shared_core::{
    AtomicBoolean, AtomicFixnum, ConditionVariable, CountDownLatch, CyclicBarrier, Deadline, Error, Event,
    Mutex, Outcome, Presence, Rate, RateLimiter, ReadWriteLock, Semaphore, SemaphoreKind, Thread,
};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use support::{die, fork, shared, until};

/// Where the slot is in a file: behind the header, the identity, and a table for 800.
const SLOT: u64 = HEADER + 51_328;
const HEADER: u64 = 4096;

/// How often an object is spoiled and used. (The model of Mach reads a file of /proc for each thread that it looks at.)
const ROUNDS: u32 = if cfg!(feature = "simulated-mach") { 100 } else { 500 };

fn me() -> Thread {
    Thread::current().unwrap()
}

fn mutex(path: &Path) -> Mutex {
    Mutex::in_file(path, 0o600, "Mutex").unwrap()
}

fn semaphore(path: &Path, value: u32) -> Semaphore {
    Semaphore::in_file(path, 0o600, "Semaphore", SemaphoreKind::Plain { value, max: 100 }).unwrap()
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
fn numbers_flags_events_latches_and_limits_stay_as_they_were_left() {
    let _turn = turn();
    let folder = Folder::on_tmpfs();
    let path = |name| folder.path(name);
    let number = |value| AtomicFixnum::in_file(&path("number"), 0o600, "AtomicFixnum", value).unwrap();
    let flag = |value| AtomicBoolean::in_file(&path("flag"), 0o600, "AtomicBoolean", value).unwrap();
    let event = || Event::in_file(&path("event"), 0o600, "Event").unwrap();
    let latch = |count| CountDownLatch::in_file(&path("latch"), 0o600, "CountDownLatch", count).unwrap();
    let rate = Rate::new(1.0, 3600.0, 2.0).unwrap();
    let limiter = |rate| RateLimiter::in_file(&path("limiter"), 0o600, "RateLimiter", rate);
    let child = fork(|| {
        assert_eq!(number(-5).add(2), Ok(-3));
        assert!(flag(true).value());
        assert!(event().set(&me()));
        latch(3).count_down(&me());
        let limiter = limiter(&rate).unwrap();
        assert!(limiter.try_acquire(1));
        limiter.reserve(2, None).unwrap(); // to be waited for, which nobody does
        die()
    });
    assert_eq!(child.reap(), -libc::SIGKILL);
    assert_eq!((number(9).value(), flag(false).value()), (-3, true));
    assert!(event().is_set());
    event().reset(&me());
    assert!(!event().is_set());
    assert_eq!(latch(7).count(), 2);
    // Nothing is free, and the next permit comes within the hour: what the dead one waited for is not owed to it.
    let limiter = limiter(&rate).unwrap();
    assert!(!limiter.try_acquire(1) && limiter.retry_after() <= Duration::from_secs(3600));
    let other = Rate::new(2.0, 3600.0, 2.0).unwrap();
    match RateLimiter::in_file(&path("limiter"), 0o600, "RateLimiter", &other) {
        Err(Error::Invalid(text)) => assert!(text.contains("burst 2"), "{text}"),
        other => panic!("{other:?}"),
    }
}

/// Threads of unrelated processes sleep on one file, and are woken through another mapping of it.
#[test]
fn waiters_of_events_and_latches_are_woken_by_those_who_know_the_path() {
    let _turn = turn();
    let folder = Folder::on_tmpfs();
    let event = || Event::in_file(&folder.path("event"), 0o600, "Event").unwrap();
    let latch = || CountDownLatch::in_file(&folder.path("latch"), 0o600, "CountDownLatch", 2).unwrap();
    let waits = || {
        let (event, latch, me) = (event(), latch(), me());
        if let Some(epoch) = event.begin() {
            assert_eq!(event.wait(&me, epoch, soon()), Outcome::Acquired);
        }
        assert_eq!(latch.wait(&me, soon()), Outcome::Acquired);
        0
    };
    let children = [fork(waits), fork(waits)];
    let (event, latch) = (event(), latch());
    until("both wait", || event.waiters() == 2);
    event.set(&me());
    until("both wait again", || latch.waiters() == 2);
    latch.count_down(&me());
    latch.count_down(&me());
    children.into_iter().for_each(|child| assert_eq!(child.reap(), 0));
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
    let owners = [0x3fff_ffff_u64, 0x2000_0001, 0x0050_0000, 0xbfff_ffff, !0x4000_0000];
    // where the system does not know all threads by their numbers, it takes a second to find out
    for &owner in &owners[..if Thread::TELLS_OF_DEATHS { owners.len() } else { 1 }] {
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

fn read_write_lock(path: &Path) -> ReadWriteLock {
    ReadWriteLock::in_file(path, 0o600, "ReadWriteLock").unwrap()
}

fn barrier(path: &Path) -> CyclicBarrier {
    CyclicBarrier::in_file(path, 0o600, "CyclicBarrier", 2).unwrap()
}

fn presence(path: &Path) -> Presence {
    Presence::in_file(path, 0o600, "Presence", 800, 8).unwrap()
}

/// Reads, writes and becomes the writer as the binding does, as far as that is possible at once, or nearly.
fn use_read_write_lock(lock: &ReadWriteLock, me: &Thread) {
    let moment = || Deadline::after(Duration::from_micros(200));
    if let Some(reader) = lock.reader_or_new(me).unwrap() {
        let mut reads = lock.try_read(me, reader);
        if !reads && (lock.try_close(me) || lock.close(me, moment()) == Outcome::Acquired) {
            lock.read_and_open(me, reader, lock.found());
            reads = true;
        }
        if reads && let Some(reader) = lock.reader(me) {
            lock.end_read(me, reader);
        }
    }
    if lock.try_take_turn(me) || lock.take_turn(me, moment()) == Outcome::Acquired {
        let writes = lock.try_write(me, false) || lock.write(me, false, moment()) == Outcome::Acquired;
        if writes && lock.is_gate_held_by(me) {
            lock.end_write(me, true);
        }
        if lock.is_turn_of(me) {
            lock.end_turn(me);
        }
    }
    if lock.write(me, true, moment()) == Outcome::Acquired && lock.is_gate_held_by(me) {
        lock.end_write(me, false);
        lock.end_turn(me);
    }
    lock.owner_pid();
    lock.reader_pids();
    lock.is_abandoned();
    lock.waiters();
}

fn use_barrier(barrier: &CyclicBarrier, me: &Thread) {
    let moment = Deadline::after(Duration::from_micros(200));
    match barrier.arrive(me, me.id() % 2 == 0) {
        Arrival::Waiting(ticket) => {
            barrier.wait(me, ticket, moment);
            barrier.give_up(me, ticket);
        }
        Arrival::Last(ticket) => drop(barrier.pass(me, ticket)),
        _ => {}
    }
    barrier.is_broken(me);
    barrier.number_waiting(me);
    barrier.waiters();
    barrier.reset(me);
}

fn use_presence(presence: &Presence, me: &Thread) {
    let _ = presence.enter(me, Some(b"somebody"));
    presence.size();
    for member in presence.all() {
        drop(presence.memory(&member));
    }
    presence.leave(me, None);
}

/// Some handles are dropped in the middle, with what the calling thread holds.
fn while_spoiled_dropping<T>(
    path: &Path,
    open: fn(&Path) -> T,
    begin: fn(&T, &Thread),
    usage: fn(&T, &Thread),
) {
    drop(open(path)); // each handle below is the last of its process
    while_spoiled(path, |_| {
        let (me, outer) = (me(), Mutex::new().unwrap());
        for round in 0..1500 {
            let (object, inner) = (open(path), Mutex::new().unwrap());
            assert!(outer.try_lock(&me).unwrap());
            usage(&object, &me);
            assert!(inner.try_lock(&me).unwrap());
            if round % 3 == 0 {
                begin(&object, &me);
                drop(object);
            }
            inner.unlock(&me);
            outer.unlock(&me);
            assert!(!outer.is_held_by(&me) && !inner.is_held_by(&me));
        }
        0
    });
}

#[test]
fn a_read_write_lock_whose_file_is_written_to_meanwhile_harms_nobody() {
    let _turn = turn();
    let folder = Folder::on_tmpfs();
    let take = |lock: &ReadWriteLock, me: &Thread| {
        if let Some(reader) = lock.reader_or_new(me).unwrap() {
            lock.try_read(me, reader);
        }
        lock.try_write(me, true);
    };
    while_spoiled_dropping(&folder.path("read_write"), read_write_lock, take, use_read_write_lock);
}

#[test]
fn a_barrier_whose_file_is_written_to_meanwhile_harms_nobody() {
    let _turn = turn();
    let folder = Folder::on_tmpfs();
    let arrive = |barrier: &CyclicBarrier, me: &Thread| {
        barrier.arrive(me, true);
    };
    while_spoiled_dropping(&folder.path("barrier"), barrier, arrive, use_barrier);
}

#[test]
fn a_presence_whose_file_is_written_to_meanwhile_harms_nobody() {
    let _turn = turn();
    let folder = Folder::on_tmpfs();
    let enter = |presence: &Presence, me: &Thread| drop(presence.enter(me, None));
    while_spoiled_dropping(&folder.path("presence"), presence, enter, use_presence);
}

#[test]
fn meeting_points_are_one_for_all_that_know_the_path_and_in_order_when_all_are_gone() {
    let _turn = turn();
    let folder = Folder::on_tmpfs();
    let path = |name| folder.path(name);
    let in_use: &AtomicU32 = shared();
    // Holds each, in one process, until it is killed.
    let holder = fork(|| {
        let lock = read_write_lock(&path("read_write"));
        let reader = lock.reader_or_new(&me()).unwrap().unwrap();
        assert!(lock.try_read(&me(), reader) && lock.try_write(&me(), true));
        let barrier = barrier(&path("barrier"));
        assert!(matches!(barrier.arrive(&me(), false), Arrival::Waiting(_)));
        let presence = presence(&path("presence"));
        presence.enter(&me(), Some(b"holder")).unwrap();
        in_use.store(1, SeqCst);
        loop {
            std::thread::park();
        }
    });
    until("all are in use", || in_use.load(SeqCst) == 1);
    let elsewhere = |life: &dyn Fn()| {
        let child = fork(|| {
            life();
            0
        });
        assert_eq!(child.reap(), 0);
    };
    elsewhere(&|| {
        let lock = read_write_lock(&path("read_write"));
        assert_eq!(
            (lock.owner_pid(), lock.reader_pids()),
            (Some(holder.pid as u32), vec![holder.pid as u32])
        );
        assert!(!lock.try_write(&me(), true) && !lock.is_abandoned());
        assert_eq!(barrier(&path("barrier")).number_waiting(&me()), 1);
        let members = presence(&path("presence")).all();
        assert_eq!(
            (members.len(), members[0].pid, members[0].name.as_deref()),
            (1, holder.pid as u32, Some(&b"holder"[..]))
        );
    });
    holder.kill();
    elsewhere(&|| {
        let lock = read_write_lock(&path("read_write"));
        assert_eq!((lock.owner_pid(), lock.reader_pids(), lock.is_abandoned()), (None, vec![], true));
        assert!(lock.try_write(&me(), true));
        lock.end_write(&me(), true);
        lock.end_turn(&me());
        let barrier = barrier(&path("barrier"));
        assert_eq!((barrier.number_waiting(&me()), barrier.is_broken(&me())), (0, false));
        assert!(matches!(barrier.arrive(&me(), false), Arrival::Waiting(_)));
        assert_eq!(presence(&path("presence")).size(), 0);
    });
    elsewhere(&|| assert!(!read_write_lock(&path("read_write")).is_abandoned()));
    match CyclicBarrier::in_file(&path("barrier"), 0o600, "CyclicBarrier", 3) {
        Err(Error::Invalid(text)) => {
            assert!(text.contains("2 parties") && text.contains("3 parties"), "{text}")
        }
        other => panic!("{other:?}"),
    }
    match Presence::in_file(&path("presence"), 0o600, "Presence", 99, 8) {
        Err(Error::Invalid(text)) => assert!(text.contains("800 slots of 8 bytes"), "{text}"),
        other => panic!("{other:?}"),
    }
    assert!(fs::metadata(path("read_write")).unwrap().len() <= 64 << 10);
}

/// Handles of a file that go while its words are on the lists of threads leave nothing mapped, and nothing held.
#[test]
fn the_last_handle_of_a_meeting_point_gives_back_what_its_thread_holds() {
    let _turn = turn();
    let folder = Folder::on_tmpfs();
    let path = folder.path("read_write");
    let lock = read_write_lock(&path);
    let reader = lock.reader_or_new(&me()).unwrap().unwrap();
    assert!(lock.try_read(&me(), reader));
    drop(read_write_lock(&path));
    assert_eq!(lock.reader_pids(), [me().pid()]);
    drop(lock);
    let (other, ended) = (Arc::new(read_write_lock(&path)), Arc::new(AtomicU32::new(0)));
    assert!(other.try_write(&me(), true), "the reader is gone");
    other.end_write(&me(), true);
    other.end_turn(&me());
    let (in_thread, over) = (other.clone(), ended.clone());
    let thread = std::thread::spawn(move || {
        assert!(in_thread.try_write(&me(), true));
        drop(in_thread);
        over.store(1, SeqCst);
        while over.load(SeqCst) == 1 {
            std::thread::yield_now();
        }
        process_shared_core::release_held_as_dead(&me());
    });
    until("the thread writes", || ended.load(SeqCst) == 1);
    drop(other);
    assert!(!read_write_lock(&path).try_write(&me(), true), "the thread holds it on");
    ended.store(2, SeqCst);
    thread.join().unwrap();
    drop(read_write_lock(&path));
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    assert!(!maps.contains(path.to_str().unwrap()), "{maps}");
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

/// Spoils an object that is open, once, and uses it: what is there then stays, so that a loop which waits for something
/// else would never end.
fn use_spoiled(path: &Path, mut spoilt: impl FnMut(&Thread)) {
    let child = fork(|| {
        // SAFETY: it ends this process, if the loop below does not end.
        unsafe { libc::alarm(60) };
        let (mut random, me) = (Random(0x2545_f491_4f6c_dd1d), me());
        let file = OpenOptions::new().write(true).open(path).unwrap();
        for round in 0..ROUNDS {
            for word in 0..16 {
                let flags = (random.next() % 8) << 29;
                let small = [0, 1, u64::from(me.id()), 0xffff, 77][random.next() as usize % 5];
                let value =
                    [random.next(), 0, u64::MAX, flags | small, (flags | small).rotate_left(32), 1 << 63];
                let bytes = value[random.next() as usize % value.len()].to_ne_bytes();
                file.write_all_at(&bytes, SLOT + word * 8).unwrap();
            }
            if round % 4 == 0 {
                let table: Vec<u8> = (0..8192).map(|_| random.next() as u8).collect();
                file.write_all_at(&table, HEADER + 64).unwrap();
            }
            spoilt(&me);
        }
        0
    });
    assert_eq!(child.reap(), 0, "{}", path.display());
}

/// Two threads of one process have a lock on their lists, since others wrote into the file that it is free.
#[test]
fn a_lock_that_two_threads_took_is_harmless_while_they_hold_more_and_when_they_end() {
    let _turn = turn();
    let folder = Folder::on_tmpfs();
    let path = folder.path("lock");
    let child = fork(|| {
        // SAFETY: it ends this process, if something goes round in circles.
        unsafe { libc::alarm(60) };
        let (shared, turns) = (Arc::new(mutex(&path)), Arc::new(AtomicU32::new(0)));
        let take = |mutex: &Mutex| {
            spoil(&path, 0);
            assert!(mutex.try_lock(&me()).unwrap());
            mutex.note_holder(&me());
        };
        let others = |count| {
            let others: Vec<_> = (0..count).map(|_| Mutex::new().unwrap()).collect();
            others.iter().for_each(|other| assert!(other.try_lock(&me()).unwrap()));
            others.iter().for_each(|other| other.unlock(&me()));
        };
        std::thread::scope(|scope| {
            let (first, second) = (shared.clone(), shared.clone());
            drop(shared);
            let turns = &turns;
            let wait = |turn| until("it is this thread's turn", || turns.load(SeqCst) == turn);
            scope.spawn(move || {
                others(1);
                take(&first);
                turns.store(1, SeqCst);
                wait(2);
                others(3);
                assert!(!first.is_held_by(&me()));
                drop(first);
                turns.store(3, SeqCst);
                wait(4); // by now no handle is left
                others(3);
            });
            scope.spawn(move || {
                wait(1);
                take(&second);
                others(3);
                turns.store(2, SeqCst);
                wait(3);
                others(3);
                second.forget_holder();
                second.unlock(&me());
                drop(second);
                turns.store(4, SeqCst);
                others(3);
            });
        });
        let again = mutex(&path);
        assert!(again.try_lock(&me()).unwrap());
        again.unlock(&me());
        0
    });
    assert_eq!(child.reap(), 0);
}

/// A wait that nobody goes on with, as of a fiber that has been collected: others have written into the file that there is
/// none, and then the last handle goes. What the thread has on its list stays where it is.
#[test]
fn a_wait_that_was_left_in_a_spoiled_file_is_harmless() {
    let _turn = turn();
    let folder = Folder::on_tmpfs();
    let path = folder.path("condition");
    let outer = Mutex::new().unwrap();
    let child = fork(|| {
        let inner = Mutex::new().unwrap(); // before there is a gap, which its memory could fill
        assert!(outer.try_lock(&me()).unwrap()); // behind the wait, on the list
        let condition = ConditionVariable::in_file(&path, 0o600, "ConditionVariable").unwrap();
        condition.condition().begin_wait(&me(), outer.name()).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[0; 51_328], HEADER).unwrap();
        drop((condition, file));
        for _ in 0..3 {
            assert!(inner.try_lock(&me()).unwrap());
            inner.unlock(&me());
        }
        die()
    });
    assert_eq!(child.reap(), -libc::SIGKILL);
    assert_eq!(outer.lock(&me(), soon()), Outcome::Acquired);
    assert!(outer.is_abandoned());
    outer.unlock(&me());
}

/// Without that, all that the process had of a file goes with the last handle: also of a wait that was left.
#[test]
fn a_wait_that_was_left_keeps_no_file() {
    let _turn = turn();
    let folder = Folder::on_tmpfs();
    let path = folder.path("condition");
    let child = fork(|| {
        for _ in 0..3 {
            let condition = ConditionVariable::in_file(&path, 0o600, "ConditionVariable").unwrap();
            condition.condition().begin_wait(&me(), 7).unwrap();
            drop(condition);
            let maps = fs::read_to_string("/proc/self/maps").unwrap();
            assert!(!maps.contains("condition"), "{maps}");
        }
        0
    });
    assert_eq!(child.reap(), 0);
}

#[test]
fn what_was_spoiled_once_can_be_used() {
    let _turn = turn();
    let folder = Folder::on_tmpfs();
    let moment = || Deadline::after(Duration::from_micros(100));

    let path = folder.path("event");
    let event = Event::in_file(&path, 0o600, "Event").unwrap();
    use_spoiled(&path, |me| {
        if let Some(epoch) = event.begin() {
            event.wait(me, epoch, moment());
        }
        event.set(me);
        event.waiters();
        event.reset(me);
        event.reset(me);
    });

    let path = folder.path("latch");
    let latch = CountDownLatch::in_file(&path, 0o600, "CountDownLatch", 1).unwrap();
    use_spoiled(&path, |me| {
        latch.wait(me, moment());
        latch.count_down(me);
        latch.waiters();
    });

    let path = folder.path("limiter");
    let rate = Rate::new(1e6, 1.0, 1e6).unwrap();
    let limiter = RateLimiter::in_file(&path, 0o600, "RateLimiter", &rate).unwrap();
    use_spoiled(&path, |me| {
        limiter.try_acquire(1);
        limiter.retry_after();
        limiter.burst();
        if let Some(reserved) = limiter.reserve(1, moment()) {
            limiter.rest(me, reserved.deadline());
            limiter.give_back(reserved);
        }
    });

    let path = folder.path("permits");
    let permits = semaphore(&path, 1);
    use_spoiled(&path, |me| {
        permits.wait(me, moment());
        let _ = permits.post(me, 100);
        if let Ok(chance) = permits.wait_for_chance(me, moment()) {
            permits.settle_chance(me, chance, true);
        }
        permits.wait_until_available(me, 1, moment());
        permits.waiters();
    });

    let path = folder.path("lock");
    let lock = mutex(&path);
    use_spoiled(&path, |me| {
        lock.owner_pid();
        lock.is_abandoned();
        lock.waiters();
        lock.wait_until_free(me, moment());
        if !lock.is_held_by(me)
            && (lock.try_lock(me).unwrap() || lock.lock(me, moment()) == Outcome::Acquired)
        {
            lock.unlock(me);
        }
    });

    let path = folder.path("read_write");
    let lock = read_write_lock(&path);
    use_spoiled(&path, |me| use_read_write_lock(&lock, me));

    let path = folder.path("barrier");
    let barrier = barrier(&path);
    use_spoiled(&path, |me| use_barrier(&barrier, me));

    let path = folder.path("presence");
    let presence = presence(&path);
    use_spoiled(&path, |me| use_presence(&presence, me));

    let path = folder.path("condition");
    let condition = ConditionVariable::in_file(&path, 0o600, "ConditionVariable").unwrap();
    use_spoiled(&path, |me| {
        condition.condition().signal(me);
        condition.condition().broadcast(me);
        condition.condition().waiters();
        if let Ok(mut wait) = condition.condition().begin_wait(me, 7) {
            condition.condition().sleep(me, &mut wait, moment());
            condition.condition().cancel_wait(me, wait);
        }
    });
}
