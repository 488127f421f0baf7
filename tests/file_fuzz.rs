//! Files of any bytes: each gives an error or an object, never a crash, and never takes long.

#![cfg(all(target_os = "linux", not(feature = "simulated-mach")))] // whose forks are others
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/folder.rs"]
mod folder;
mod support;

use folder::{Folder, turn};
use process_shared_core::file::{self, HEADER, Shape};
use process_shared_core::map::{Claim, Patience::Patient, Value, now};
use process_shared_core::{Deadline, Error, Map, Queue, Thread};
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
        for _ in 0..3000 {
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

/// Uses a map whatever is in its memory: all operations, with keys that are there and others.
fn use_map(map: &Map, random: &mut Random) {
    let thread = Thread::current().unwrap();
    let entries = map.entries();
    let mut room = Vec::new();
    for _ in 0..8 {
        let name = format!("key {}", random.below(60)).into_bytes();
        let key = entries.key(1, 0, &name);
        let _ = (entries.peek(&key, &mut room), entries.get(&thread, &key, &mut room));
        let bytes = vec![1; [random.below(30), 8, random.below(2000), random.below(12_000)][random.below(4)]];
        let expiry = [0, 1, now() + 1000, now() << 1][random.below(4)];
        let _ = entries.change(&thread, &key, Patient, |shard| {
            shard.put(&key, &Value { tag: 1, bytes: &bytes, expiry })
        });
        let _ = entries.change(&thread, &key, Patient, |shard| match shard.current(&key) {
            Some(found) => match random.below(3) {
                0 => shard.remove(&found),
                1 => shard.set_expiry(&key, &found, now() << 1),
                _ => shard.change_word(&found, |word| Some(word.wrapping_add(1))).map(|_| ()),
            },
            None => Ok(()),
        });
        if let Ok(Claim::Ours(mark)) = entries.claim(&thread, key.hash, Patient) {
            entries.release(&thread, mark);
        }
    }
    let _ = (entries.count(&thread, Patient), entries.stats());
    (0..entries.parts()).for_each(|part| drop(entries.visit(part, true)));
    if random.below(4) == 0 {
        let _ = entries.clear(&thread, Patient);
    }
}

#[test]
fn maps_of_any_bytes_are_used_or_refused() {
    let _turn = turn();
    let folder = Folder::on_tmpfs();
    for evicts in [false, true] {
        let path = folder.path(if evicts { "cache" } else { "map" });
        let open = || Map::in_file(&path, 0o600, "Fuzzed", 16_000, evicts);
        let maker = support::fork(|| {
            let map = open().unwrap();
            // Full, with gaps, and buckets that did not fit into the index.
            (0..300).for_each(|_| use_map(&map, &mut Random(0x9e37_79b9_7f4a_7c15)));
            let thread = Thread::current().unwrap();
            for number in 0..60 + 300 {
                let length = if number < 60 { number * 10 } else { 0 };
                let name = format!("key {number}").into_bytes();
                let (key, bytes) = (map.entries().key(1, 0, &name), vec![2; length]);
                let value = Value { tag: 1, bytes: &bytes, expiry: 0 };
                let _ = map.entries().change(&thread, &key, Patient, |shard| shard.put(&key, &value));
            }
            0
        });
        assert_eq!(maker.reap(), 0);
        let good = fs::read(&path).unwrap();
        let memory = good.windows(8).position(|bytes| bytes == b"psmap\0\0\x01").unwrap();
        let entries = good.len() - memory - (16_000 + 64 * 256);
        let child = support::fork(|| {
            let mut random = Random(0x2545_f491_4f6c_dd1d);
            let mut opened = 0;
            for _ in 0..300 {
                let mut bytes = good.clone();
                for _ in 0..=random.below(20) {
                    // The header; shards, index and what is known of blocks; the entries.
                    let (from, most) =
                        [(0, 512), (20_000, entries - 20_000), (entries, 16_000)][random.below(3)];
                    let at = memory + from + random.below(most);
                    match random.below(3) {
                        0 => bytes[at] = random.byte(),
                        1 => bytes[at & !7..][..8].fill([0, 0xff][random.below(2)]),
                        // One word for another: they lead in circles.
                        _ => {
                            let other = (memory + from + random.below(most)) & !7;
                            bytes.copy_within(other..other + 8, at & !7);
                        }
                    }
                }
                fs::write(&path, &bytes).unwrap();
                match open() {
                    Ok(map) => {
                        opened += 1;
                        use_map(&map, &mut random);
                    }
                    Err(Error::Incompatible(_) | Error::Invalid(_)) => {}
                    Err(other) => panic!("{other:?}"),
                }
            }
            println!("{opened} of 300 maps were opened");
            i32::from(opened < 60)
        });
        assert_eq!(child.reap(), 0);
    }
}
