//! Where objects live: what is given back, and what a fork keeps apart.

#![cfg(target_os = "linux")] // its children are seen through /proc
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use process_shared_core::arena::{self, Slot};
use process_shared_core::participants::Ticket;
use process_shared_core::{Mutex, Semaphore, SemaphoreKind, Thread, platform};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use support::{beside, fork};

fn pages() -> usize {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().filter(|line| line.contains("/dev/zero")).count()
}

#[test]
fn slots_are_used_again() {
    let _one = Mutex::new().unwrap(); // the pages stay
    let names: HashSet<u32> = (0..100_000).map(|_| Mutex::new().unwrap().name()).collect();
    assert!(names.len() < 10_000, "{} different ones", names.len());
}

#[test]
fn a_new_object_is_fresh_whatever_was_there() {
    let thread = Thread::current().unwrap();
    for _ in 0..1000 {
        let semaphore = Semaphore::new(3).unwrap();
        assert!(semaphore.try_wait());
        drop(semaphore);
        let mutex = Mutex::new().unwrap();
        assert!(!mutex.is_locked() && mutex.try_lock(&thread).unwrap());
        mutex.unlock(&thread);
    }
}

/// The system uses the end of an attached slot. It must not take the end of a whole slot, nor memory before or behind the
/// slots, for such an end.
#[test]
fn only_slots_that_leave_room_for_it_have_something_of_the_systems() {
    let attached = |address: *const u8| arena::is_attached(address.addr());
    let (slot, alone) = (Slot::new().unwrap(), Slot::with_table(8, 4096).unwrap());
    for one in [&slot, &alone] {
        let (start, table) = (one.address().as_ptr(), one.seat(0).table);
        assert!(attached(start) && attached(start.wrapping_add(arena::SLOT - 1)));
        for index in [0, table.capacity() - 1] {
            assert!(!attached((&raw const *table.entry(Ticket::at(index, 1))).cast()));
        }
    }
    assert!(!attached(alone.behind().as_ptr()));
    let whole = Slot::whole().unwrap();
    assert_eq!(attached(whole.address().as_ptr()), platform::SLOT_TAIL == 0);
}

/// A robust semaphore needs its whole slot.
#[test]
fn objects_of_both_kinds_of_slots_do_not_disturb_each_other() {
    let thread = Thread::current().unwrap();
    let mut all = Vec::new();
    for round in 0..3000 {
        let robust = Semaphore::of_kind(SemaphoreKind::Robust { limit: 5 }).unwrap();
        robust.prepare().unwrap();
        assert_eq!(robust.try_acquire(&thread, 2), Ok(true));
        all.push((Semaphore::new(7).unwrap(), robust));
        if round % 3 == 0 {
            all.remove(round % all.len());
        }
    }
    assert!(all.iter().all(|(plain, robust)| (plain.value(), robust.value()) == (7, 3)));
}

#[test]
fn many_live_at_once_and_their_pages_go_with_them() {
    // In a child, where no other test makes objects.
    let child = fork(|| {
        let before = pages();
        let many: Vec<Mutex> = (0..100_000).map(|_| Mutex::new().unwrap()).collect();
        assert_eq!(many.iter().map(Mutex::name).collect::<HashSet<_>>().len(), many.len());
        assert!(pages() >= before);
        drop(many);
        i32::from(pages() > before + 1)
    });
    assert_eq!(child.reap(), 0);
}

/// Uses so many slots that a wrong one would be among them.
fn use_slots() -> Vec<Semaphore> {
    (0..5000).map(|_| Semaphore::new(1).unwrap()).collect()
}

#[test]
fn a_child_does_not_reuse_what_its_parent_has() {
    let child = fork(|| {
        let object = std::mem::ManuallyDrop::new(Semaphore::new(5).unwrap());
        let child = fork(|| {
            // SAFETY: this process's handle, not used any more.
            drop(unsafe { std::ptr::read(&*object) });
            use_slots();
            0
        });
        assert_eq!(child.reap(), 0);
        object.value() as i32
    });
    assert_eq!(child.reap(), 5);
}

#[test]
fn a_parent_does_not_reuse_what_a_child_has() {
    let child = fork(|| {
        let (object, ready, go) =
            (Semaphore::new(5).unwrap(), Semaphore::new(0).unwrap(), Semaphore::new(0).unwrap());
        let child = fork(|| {
            let thread = Thread::current().unwrap();
            ready.post(&thread, 1).unwrap();
            go.wait(&thread, None);
            object.value() as i32
        });
        let thread = Thread::current().unwrap();
        ready.wait(&thread, None);
        drop(object);
        let others = use_slots();
        go.post(&thread, 1).unwrap();
        let value = child.reap();
        drop(others);
        value
    });
    assert_eq!(child.reap(), 5);
}

#[test]
fn threads_and_forks_get_along() {
    let child = fork(|| {
        let is_over = AtomicBool::new(false);
        let make_and_drop = || {
            for _ in 0..20_000 {
                drop(Mutex::new().unwrap());
            }
            is_over.store(true, SeqCst);
        };
        beside(make_and_drop, || {
            while !is_over.load(SeqCst) {
                assert_eq!(fork(|| i32::from(Mutex::new().is_err())).reap(), 0);
            }
        });
        0
    });
    assert_eq!(child.reap(), 0);
}
