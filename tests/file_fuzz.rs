//! Files of any bytes: each gives an error or an object, never a crash, and never takes long.

#![cfg(all(target_os = "linux", not(feature = "simulated-mach")))] // whose forks are others
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/folder.rs"]
mod folder;
mod support;

use folder::{Folder, turn};
use process_shared_core::file::{self, HEADER, Shape};
use process_shared_core::{Deadline, Error, Queue, Thread};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

const SHAPE: Shape = Shape { class: "Fuzzed", details: "4096 bytes", size: 4096 };
const ROUNDS: u32 = 10_000;

/// Xorshift: the same numbers in each run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }
}

/// Another file than `good`.
fn spoiled(good: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = good.to_vec();
    let used = 300; // of the header
    match random.below(6) {
        0 => bytes.iter_mut().for_each(|byte| *byte = random.byte()),
        1 => bytes[16..used].iter_mut().for_each(|byte| *byte = random.byte()),
        2 => bytes.truncate(random.below(good.len())),
        3 => bytes.extend((0..=random.below(5000)).map(|_| 0)),
        4 => {
            let (start, length) = (random.below(used), 1 + random.below(16));
            bytes[start..start + length].fill([0, 0xff][random.below(2)]);
        }
        _ => {
            for _ in 0..=random.below(4) {
                bytes[random.below(used)] ^= 1 << random.below(8);
            }
        }
    }
    bytes
}

#[test]
fn files_of_any_bytes_are_opened_or_refused() {
    let _turn = turn();
    let folder = Folder::on_tmpfs();
    let path = folder.path("fuzzed");
    let open = || file::open(&path, 0o600, &SHAPE, |_| Ok(()), |_| Ok(()));
    drop(open().unwrap());
    let good = fs::read(&path).unwrap();
    assert_eq!(good.len(), HEADER + SHAPE.size);
    // A crash there is seen here.
    let child = support::fork(|| {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let mut opened = 0;
        for round in 0..ROUNDS {
            fs::remove_file(&path).unwrap();
            let new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            new.unwrap().write_all(&spoiled(&good, &mut random)).unwrap();
            match open() {
                Ok(file) => {
                    opened += 1;
                    // SAFETY: inside the object.
                    unsafe { file.bytes().cast::<u8>().add(SHAPE.size - 1).write_volatile(1) };
                }
                Err(Error::Incompatible(_) | Error::Invalid(_)) => {}
                Err(other) => panic!("round {round}: {other:?}"),
            }
        }
        println!("{opened} of {ROUNDS} were opened");
        i32::from(opened == 0 || opened == ROUNDS)
    });
    assert_eq!(child.reap(), 0);
}

/// Another program writes into the header while processes come and go.
#[test]
fn a_header_that_changes_meanwhile_harms_nobody() {
    let _turn = turn();
    let folder = Folder::on_tmpfs();
    let path = folder.path("fuzzed");
    let open = || file::open(&path, 0o600, &SHAPE, |_| Ok(()), |_| Ok(()));
    drop(open().unwrap());
    let good = fs::read(&path).unwrap();
    let writer = support::fork(|| {
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        let mut random = Random(88172645463325252);
        loop {
            let bytes = if random.below(2) == 0 { good.clone() } else { spoiled(&good, &mut random) };
            let length = bytes.len().min(300);
            std::os::unix::fs::FileExt::write_all_at(&file, &bytes[..length], 0).unwrap();
        }
    });
    let openers: Vec<_> = (0..2)
        .map(|_| {
            support::fork(|| {
                for _ in 0..5000 {
                    match open() {
                        Ok(_) | Err(Error::Incompatible(_) | Error::Invalid(_) | Error::Refused(_)) => {}
                        Err(other) => panic!("{other:?}"),
                    }
                }
                0
            })
        })
        .collect();
    for opener in openers {
        assert_eq!(opener.reap(), 0);
    }
    writer.kill();
}

/// Uses a queue whatever is in its memory.
fn use_queue(queue: &Queue, random: &mut Random) {
    let thread = Thread::current().unwrap();
    let at_once = || Deadline::after(Duration::ZERO);
    let items = queue.items();
    for _ in 0..4 {
        let _ = queue.push(&thread, 7, &vec![1; random.below(6000)], at_once());
        if let Ok(Ok(taken)) = queue.take(&thread, &mut Vec::new(), at_once()) {
            let _ = match random.below(3) {
                0 => items.finish(&thread, &taken),
                1 => items.put_back(&thread, &taken),
                _ => Ok(()),
            };
        }
        let _ = items.pop(&thread, None, &mut Vec::new(), at_once());
        if let Ok(critical) = items.enter(&thread, at_once()) {
            let _ = (critical.size(), critical.in_flight().is_ok());
        }
    }
    let _ = items.clear(&thread);
}

#[test]
fn queues_of_any_bytes_are_used_or_refused() {
    let _turn = turn();
    let folder = Folder::on_tmpfs();
    let path = folder.path("fuzzed");
    let first: Vec<_> = [10, 5000, 3000, 0].map(|length| vec![2; length]).to_vec();
    let first: Vec<_> = first.iter().map(|item| (7, item.as_slice())).collect();
    let open = || Queue::in_file(&path, 0o600, "Queue", 20_000, 0, &first);
    let maker = support::fork(|| {
        let queue = open().unwrap();
        let thread = Thread::current().unwrap();
        (0..2).for_each(|_| assert!(queue.take(&thread, &mut Vec::new(), None).unwrap().is_ok()));
        support::die()
    });
    maker.reap();
    let good = fs::read(&path).unwrap();
    let memory = good.windows(8).position(|bytes| bytes == b"psqueue1").unwrap() - 64;
    let child = support::fork(|| {
        let mut random = Random(0x2545_f491_4f6c_dd1d);
        let mut opened = 0;
        for _ in 0..500 {
            let mut bytes = good.clone();
            for _ in 0..=random.below(20) {
                // The header, all of it, or the tables.
                let most = [512, 512, bytes.len() - memory, 200_000][random.below(4)];
                bytes[memory + random.below(most.min(good.len() - memory))] = random.byte();
            }
            fs::write(&path, &bytes).unwrap();
            match open() {
                Ok(queue) => {
                    opened += 1;
                    use_queue(&queue, &mut random);
                }
                Err(Error::Incompatible(_) | Error::Invalid(_)) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        println!("{opened} of 500 queues were opened");
        i32::from(opened < 100)
    });
    assert_eq!(child.reap(), 0);
}
