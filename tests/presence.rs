//! Members in real processes.

#![cfg(target_os = "linux")] // its children are seen through /proc
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use process_shared_core::{Presence, Refusal, Thread};
use support::{Child, fork, until};

fn me() -> Thread {
    Thread::current().unwrap()
}

fn member(presence: &Presence) -> Child {
    let before = presence.size();
    let child = fork(|| {
        presence.enter(&me(), Some(b"child")).unwrap();
        loop {
            std::thread::sleep(support::PATIENCE);
        }
    });
    until("a child has entered", || presence.size() > before);
    child
}

#[test]
fn shows_who_is_here_and_nobody_who_was_killed() {
    let presence = Presence::new(3, 8).unwrap();
    let children = [member(&presence), member(&presence), member(&presence)];
    assert!(matches!(presence.enter(&me(), None), Err(Refusal::Full)));
    let pids: Vec<u32> = presence.all().iter().map(|member| member.pid).collect();
    assert_eq!(pids, children.iter().map(|child| child.pid as u32).collect::<Vec<_>>());
    assert!(presence.all().iter().all(|member| member.name.as_deref() == Some(b"child")));
    children.into_iter().for_each(Child::kill);
    assert_eq!((presence.size(), presence.all().len()), (0, 0));
    let first = presence.enter(&me(), None).unwrap();
    assert!(matches!(presence.enter(&me(), None), Err(Refusal::Member)));
    assert!(presence.leave(&me(), Some(&first)) && !presence.leave(&me(), None));
}

#[test]
fn refuses_what_cannot_be() {
    assert!(Presence::new(0, 1).is_err() && Presence::new(1 << 16, 1).is_err());
    assert!(Presence::new(1, usize::MAX).is_err());
}
