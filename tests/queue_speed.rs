//! What queues cost: run by hand, `cargo test --release --test queue_speed -- --ignored --nocapture`.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use process_shared_core::platform::map;
use process_shared_core::queue::{Participant, Queue, Refusal};
use process_shared_core::{Deadline, Thread};
use std::time::{Duration, Instant};
use support::fork;

fn me() -> Thread {
    Thread::current().unwrap()
}

fn queue(bytes: u64) -> Queue {
    let length = Queue::memory_for(bytes).unwrap();
    // SAFETY: fresh zeroes that stay mapped.
    unsafe { Queue::create(map(length).unwrap(), length, bytes, 0, true).unwrap() }
}

fn show(what: &str, count: usize, start: Instant) {
    println!("{what}: {:.1} ns", start.elapsed().as_nanos() as f64 / count as f64);
}

#[test]
#[ignore = "for its figures"]
fn one_thread() {
    const COUNT: usize = 2_000_000;
    let (queue, me) = (queue(64 << 20), me());
    let start = Instant::now();
    for _ in 0..COUNT {
        drop(queue.enter(&me, None).unwrap());
        drop(queue.enter(&me, None).unwrap());
    }
    show("two locks and unlocks", COUNT, start);
    let mut buffer = Vec::with_capacity(1 << 16);
    for size in [8, 64, 1000] {
        let bytes = vec![1; size];
        let start = Instant::now();
        for _ in 0..COUNT {
            buffer.clear();
            let _ = queue.enter(&me, None).unwrap().push(1, &bytes).unwrap();
            queue.enter(&me, None).unwrap().pop(&mut buffer).unwrap();
        }
        show(&format!("push and pop, {size} bytes"), COUNT, start);
    }
    let participant = Participant::join(&queue, &me).unwrap().unwrap();
    let start = Instant::now();
    for _ in 0..COUNT {
        buffer.clear();
        let _ = queue.enter(&me, None).unwrap().push(1, &[1; 8]).unwrap();
        let taken = queue.enter(&me, None).unwrap().take(participant.member(), &mut buffer).unwrap();
        queue.enter(&me, None).unwrap().finish(&taken).unwrap();
    }
    show("push, take and finish, 8 bytes", COUNT, start);
    let items = [(1, [1_u8; 8].as_slice()); 100];
    let start = Instant::now();
    for _ in 0..COUNT / 100 {
        queue.enter(&me, None).unwrap().push_all(&items).unwrap();
        let critical = queue.enter(&me, None).unwrap();
        buffer.clear();
        (0..100).for_each(|_| assert!(critical.pop(&mut buffer).is_ok()));
    }
    show("push and pop, 100 at a time", COUNT, start);
    for size in [100_000, 10_000_000] {
        let bytes = vec![1; size];
        let start = Instant::now();
        for _ in 0..100 {
            buffer.clear();
            queue.push(&me, 1, &bytes, None).unwrap();
            queue.pop(&me, Some(participant.member()), &mut buffer, None).unwrap();
        }
        show(&format!("push and pop, {size} bytes, per KB"), 100 * size / 1000, start);
    }
}

fn stream(producers: usize, consumers: usize, size: usize, bytes: u64, each: usize) {
    let queue = queue(bytes);
    let start = Instant::now();
    let item = vec![1; size];
    let makers: Vec<_> = (0..producers)
        .map(|_| {
            fork(|| {
                let me = me();
                (0..each).for_each(|_| queue.push(&me, 1, &item, None).unwrap());
                0
            })
        })
        .collect();
    let takers: Vec<_> = (0..consumers)
        .map(|_| {
            fork(|| {
                let (me, mut buffer) = (me(), Vec::new());
                loop {
                    buffer.clear();
                    let deadline = Deadline::after(Duration::from_secs(30));
                    match queue.pop(&me, None, &mut buffer, deadline) {
                        Ok(_) => {}
                        outcome => return i32::from(outcome != Err(Ok(Refusal::Closed))),
                    }
                }
            })
        })
        .collect();
    makers.into_iter().for_each(|maker| assert_eq!(maker.reap(), 0));
    queue.enter(&me(), None).unwrap().close();
    takers.into_iter().for_each(|taker| assert_eq!(taker.reap(), 0));
    show(&format!("{producers} + {consumers} processes, {size} bytes"), producers * each, start);
}

#[test]
#[ignore = "for its figures"]
fn between_processes() {
    stream(1, 1, 8, 64 << 20, 2_000_000);
    stream(1, 1, 8, 64 << 10, 2_000_000);
    stream(1, 1, 1000, 64 << 20, 500_000);
    stream(8, 8, 8, 64 << 20, 250_000);
}

#[test]
#[ignore = "for its figures"]
fn there_and_back() {
    const COUNT: usize = 100_000;
    let (there, back) = (queue(1 << 16), queue(1 << 16));
    let child = fork(|| {
        let (me, mut buffer) = (me(), Vec::new());
        for _ in 0..COUNT {
            buffer.clear();
            there.pop(&me, None, &mut buffer, None).unwrap();
            back.push(&me, 1, &buffer, None).unwrap();
        }
        0
    });
    let (me, mut buffer) = (me(), Vec::new());
    let start = Instant::now();
    for _ in 0..COUNT {
        there.push(&me, 1, &[1; 8], None).unwrap();
        buffer.clear();
        back.pop(&me, None, &mut buffer, None).unwrap();
    }
    show("there and back", COUNT, start);
    assert_eq!(child.reap(), 0);
}
