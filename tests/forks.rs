//! Children that were forked while other threads of the parent held locks of the process.

#![cfg(all(target_os = "linux", not(feature = "simulated-mach")))]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use process_shared_core::platform::{ProcessLocal, StandIn};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::channel;
use std::thread;
use support::fork;

#[test]
fn a_child_starts_with_values_of_its_own_even_while_a_thread_of_its_parent_changes_them() {
    static LIST: ProcessLocal<Vec<u32>> = ProcessLocal::new(Vec::new());
    let (inside, is_inside) = channel();
    let (leave, may_leave) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            LIST.with(|list| {
                list.push(1);
                inside.send(()).unwrap();
                may_leave.recv().unwrap();
                list.push(2);
            });
        });
        is_inside.recv().unwrap();
        let child = fork(|| LIST.with(|list| list.len() as i32));
        assert_eq!(child.reap(), 0);
        leave.send(()).unwrap();
    });
    assert_eq!(LIST.with(|list| list.clone()), [1, 2]);
    let child = fork(|| LIST.with(|list| list.len() as i32));
    assert_eq!(child.reap(), 0);
}

/// Says so when it is dropped, also by a panic.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn a_child_starts_stand_ins_whatever_threads_its_parent_was_starting() {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _over = Over(&is_over);
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Relaxed) {
                    thread::spawn(|| ()).join().unwrap();
                    drop(StandIn::start().unwrap());
                }
            });
        }
        for _ in 0..1_000 {
            let child = fork(|| i32::from(StandIn::start().is_err()));
            assert_eq!(child.reap(), 0);
        }
    });
}
