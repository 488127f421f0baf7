//! The map between real processes, and against a HashMap.

#![cfg(target_os = "linux")] // its children are seen through /proc
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/folder.rs"]
mod folder;
#[path = "support/maps.rs"]
mod maps;
mod support;

use folder::{Folder, turn};
use maps::{count, delete, get, make, me, store};
use process_shared_core::map::{Claim, Map, Patience::*, Refusal, now};
use process_shared_core::platform::map as pages;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};
use support::{beside, fork};

/// xorshift: the same numbers each time.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

fn value_of(seed: u64, length: usize) -> Vec<u8> {
    (0..length).map(|index| (seed as usize + index * 7) as u8).collect()
}

#[test]
fn keeps_what_is_stored() {
    let map = make(1 << 20, false);
    for length in [0, 1, 7, 8, 9, 100, 4000, 5000, 40_000, 300_000] {
        store(&map, b"key", &value_of(1, length), 0).unwrap();
        assert_eq!(get(&map, b"key").unwrap(), value_of(1, length), "{length}");
        assert_eq!(count(&map), 1);
    }
    assert!(delete(&map, b"key") && !delete(&map, b"key"));
    assert_eq!((get(&map, b"key"), count(&map)), (None, 0));
    let stats = map.stats();
    assert_eq!((stats.hits, stats.misses, stats.stores, stats.used), (10, 1, 10, 0));
}

#[test]
fn does_what_a_hash_does() {
    for (bytes, keys, longest) in [
        (1, 3, 64),
        (4096, 50, 300),
        (64 << 10, 500, 4000),
        (64 << 10, 5000, 2),
        (1 << 20, 3000, 30_000),
        (8 << 20, 20_000, 4000),
    ] {
        let (map, mut model, mut random) = (make(bytes, false), HashMap::new(), Random(bytes + 17));
        let mut full = 0;
        for step in 0..20_000 {
            let key = random.below(keys).to_string().into_bytes();
            let limit = 1 + random.below(longest);
            let length = random.below(limit) as usize;
            match random.below(10) {
                0..5 => match store(&map, &key, &value_of(step, length), 0) {
                    Ok(()) => drop(model.insert(key, value_of(step, length))),
                    Err(Refusal::Full | Refusal::TooLarge) => full += 1,
                    Err(other) => panic!("{other:?}"),
                },
                5..8 => assert_eq!(get(&map, &key).as_ref(), model.get(&key)),
                _ => assert_eq!(delete(&map, &key), model.remove(&key).is_some()),
            }
            if step % 1000 == 0 {
                assert_eq!(count(&map), model.len() as u64);
            }
        }
        println!("{bytes} bytes: {} entries, {full} times full", model.len());
        let mut seen = HashMap::new();
        for entry in (0..map.parts()).flat_map(|part| map.visit(part, true)) {
            assert!(seen.insert(entry.key, entry.value).is_none());
        }
        assert_eq!(seen, model);
        map.clear(&me(), Patient).unwrap();
        assert_eq!((count(&map), map.stats().used), (0, 0));
    }
}

#[test]
fn a_cache_has_the_last_value_or_none() {
    for (bytes, keys, longest) in [
        (1, 3, 64),
        (4096, 50, 300),
        (64 << 10, 500, 4000),
        (1 << 20, 3000, 60_000),
        (16 << 20, 300_000, 300),
    ] {
        let (map, mut model, mut random) = (make(bytes, true), HashMap::new(), Random(bytes + 5));
        let mut refused = 0;
        for step in 0..30_000 {
            let key = random.below(keys).to_string().into_bytes();
            let limit = 1 + random.below(longest);
            let length = random.below(limit) as usize;
            if random.below(2) == 0 {
                match store(&map, &key, &value_of(step, length), 0) {
                    Ok(()) => {
                        model.insert(key.clone(), value_of(step, length));
                        assert_eq!(get(&map, &key).as_ref(), model.get(&key), "{step}");
                    }
                    Err(refusal) => {
                        assert!(length as u64 > bytes / 4, "{refusal:?} {bytes} {length}");
                        refused += 1;
                    }
                }
            } else if let Some(value) = get(&map, &key) {
                assert_eq!(Some(&value), model.get(&key), "{step}");
            }
        }
        let large = value_of(3, (bytes / 4) as usize);
        store(&map, b"large", &large, 0).unwrap();
        assert_eq!(get(&map, b"large").unwrap(), large);
        println!("{bytes}: {:?}, {refused} refused", map.stats());
    }
}

#[test]
fn ninety_percent_can_be_filled_and_an_entry_takes_forty_bytes() {
    for length in [100_u64, 500, 1000, 4000, 10_000, 33_000, 100_000] {
        let bytes = 32 << 20;
        let (map, value) = (make(bytes, false), value_of(9, length as usize));
        let mut entries = 0_u64;
        while store(&map, format!("{entries:08}").as_bytes(), &value, 0).is_ok() {
            entries += 1;
        }
        let filled = entries * (length + 8 + 40) * 100 / bytes;
        println!("{length} bytes: {entries} entries, {filled} %");
        assert!(filled >= 90, "{length}: {filled} %");
        assert_eq!(count(&map), entries);
    }
}

#[test]
fn no_room_changes_nothing() {
    let map = make(1 << 20, false);
    let mut entries = 0;
    while store(&map, format!("{entries}").as_bytes(), &value_of(entries, 700), 0).is_ok() {
        entries += 1;
    }
    assert_eq!(store(&map, b"0", &value_of(1, 20_000), 0), Err(Refusal::Full));
    assert_eq!(store(&map, b"new", &value_of(1, 2_000_000), 0), Err(Refusal::TooLarge));
    for number in 0..entries {
        assert_eq!(get(&map, format!("{number}").as_bytes()).unwrap(), value_of(number, 700));
    }
    // What is deleted anywhere makes room for anything.
    (0..entries).filter(|number| number % 2 == 0).for_each(|number| {
        assert!(delete(&map, format!("{number}").as_bytes()));
    });
    store(&map, b"large", &value_of(1, 400_000), 0).unwrap();
    assert_eq!(get(&map, b"large").unwrap(), value_of(1, 400_000));
}

#[test]
fn entries_expire_at_their_instant_and_make_room_first() {
    let map = make(1 << 20, true);
    let soon = now() + 2_000_000_000;
    let mut stored = 0;
    while map.stats().free > 300_000 {
        let expiry = if stored % 2 == 0 { soon } else { 0 };
        store(&map, format!("{stored}").as_bytes(), &value_of(stored, 100), expiry).unwrap();
        stored += 1;
    }
    assert_eq!(count(&map), stored);
    while now() < soon {
        std::hint::spin_loop();
    }
    assert_eq!(get(&map, b"0"), None);
    for number in 0..stored * 2 / 3 {
        store(&map, format!("more {number}").as_bytes(), &value_of(number, 100), 0).unwrap();
    }
    assert_eq!(map.stats().evictions, 0);
    assert_eq!(count(&map), stored / 2 + stored * 2 / 3);
    assert_eq!(map.stats().expirations, stored.div_ceil(2));
}

#[test]
fn increments_of_killed_processes_are_exact() {
    let map = make(1 << 20, false);
    store(&map, b"count", &0_u64.to_ne_bytes(), 0).unwrap();
    let done = pages(4096).unwrap().cast::<std::sync::atomic::AtomicU64>();
    // SAFETY: fresh zeroes.
    let done = unsafe { done.as_ref() };
    let key = map.key(1, 0, b"count");
    let children: Vec<_> = (0..20)
        .map(|_| {
            fork(|| {
                loop {
                    let add = |word: u64| Some(word + 1);
                    map.change(&me(), &key, Patient, |shard| {
                        let found = shard.current(&key).unwrap();
                        shard.change_word(&found, add)
                    })
                    .unwrap();
                    done.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            })
        })
        .collect();
    for child in children {
        std::thread::sleep(Duration::from_millis(3));
        child.kill();
    }
    let value = u64::from_ne_bytes(get(&map, b"count").unwrap().try_into().unwrap());
    let returned = done.load(std::sync::atomic::Ordering::Relaxed);
    assert!((returned..=returned + 20).contains(&value), "{returned} {value}");
    assert_eq!(count(&map), 1);
}

#[test]
fn readers_see_whole_values_while_writers_are_killed() {
    for evicts in [false, true] {
        let map = make(256 << 10, evicts);
        let writer = |seed: u64| {
            let mut random = Random(seed);
            loop {
                let key = random.below(200).to_string();
                let value = vec![random.below(256) as u8; random.below(3000) as usize];
                let _ = store(&map, key.as_bytes(), &value, 0);
                if random.below(4) == 0 {
                    delete(&map, key.as_bytes());
                }
            }
        };
        let start = Instant::now();
        let (mut seed, mut hits) = (1, 0_u64);
        while start.elapsed() < Duration::from_millis(700) {
            let children = [fork(|| writer(seed)), fork(|| writer(seed + 1))];
            seed += 2;
            let round = Instant::now();
            while round.elapsed() < Duration::from_millis(10) {
                for number in 0..200 {
                    if let Some(value) = get(&map, number.to_string().as_bytes()) {
                        assert!(value.iter().all(|byte| *byte == value[0]), "torn");
                        hits += 1;
                    }
                }
            }
            children.into_iter().for_each(|child| child.kill());
        }
        println!("{hits} hits, {seed} writers killed");
        let mut keys = HashSet::new();
        let mut used = 0;
        for entry in (0..map.parts()).flat_map(|part| map.visit(part, true)) {
            used += 16 + entry.value.len().next_multiple_of(1) as u64;
            assert!(keys.insert(entry.key));
        }
        assert_eq!(keys.len() as u64, count(&map));
        assert!(used <= map.stats().used || keys.is_empty());
        // Nothing has leaked: an empty map takes as much as a new one.
        map.clear(&me(), Patient).unwrap();
        let value = value_of(1, 1000);
        let fill = |map: &Map| {
            (0..)
                .take_while(|number: &u64| {
                    store(map, number.to_string().as_bytes(), &value, 0).is_ok()
                        && (!evicts || *number < 1000)
                })
                .count()
        };
        assert_eq!(fill(&map), fill(&make(256 << 10, evicts)));
    }
}

#[test]
fn a_value_is_computed_by_one_at_a_time() {
    let map = make(1 << 20, false);
    let hash = map.key(1, 0, b"key").hash;
    let Ok(Claim::Ours(mark)) = map.claim(&me(), hash, Patient) else { panic!() };
    assert_eq!(map.claim(&me(), hash, Patient), Ok(Claim::Already(mark)));
    let other = fork(|| match map.claim(&me(), hash, Patient) {
        Ok(Claim::Others(mark)) => {
            map.await_release(&me(), mark, None);
            i32::from(matches!(map.claim(&me(), hash, Patient), Ok(Claim::Ours(_))))
        }
        _ => 2,
    });
    other.until_asleep();
    let another = map.key(1, 0, b"another").hash;
    let Ok(Claim::Ours(second)) = map.claim(&me(), another, Patient) else { panic!() };
    map.release(&me(), second);
    map.release(&me(), mark);
    assert_eq!(other.reap(), 1);
    // It died with the mark.
    assert!(matches!(map.claim(&me(), hash, Patient), Ok(Claim::Ours(_))));
}

/// Keys by Zipf's law: the n-th is asked for as often as 1 / n^s says.
struct Zipf(Vec<f64>);

impl Zipf {
    fn new(keys: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let sums: Vec<f64> = (1..=keys)
            .map(|rank| {
                sum += (rank as f64).powf(-exponent);
                sum
            })
            .collect();
        Zipf(sums.iter().map(|part| part / sum).collect())
    }

    fn next(&self, random: &mut Random) -> u64 {
        let point = random.below(1 << 40) as f64 / (1_u64 << 40) as f64;
        self.0.partition_point(|part| *part < point) as u64
    }
}

/// The hits of a cache that has room for so many entries and drops the one that was used least recently.
fn hits_of_lru(capacity: usize, keys: impl Iterator<Item = u64>) -> usize {
    let (mut used, mut order, mut hits) = (HashMap::new(), std::collections::BTreeMap::new(), 0);
    for (instant, key) in keys.enumerate() {
        if let Some(before) = used.insert(key, instant) {
            order.remove(&before);
            hits += 1;
        }
        order.insert(instant, key);
        if order.len() > capacity {
            let (_, oldest) = order.pop_first().unwrap();
            used.remove(&oldest);
        }
    }
    hits
}

#[test]
fn a_cache_hits_at_least_as_often_as_one_that_drops_the_least_recently_used() {
    let bytes = 2 << 20;
    for exponent in [0.8, 1.0, 1.2] {
        for scan in [0, 200] {
            let (zipf, mut random) = (Zipf::new(100_000, exponent), Random(99));
            let mut next = 1_u64 << 32;
            let keys: Vec<u64> = (0..400_000)
                .map(|step| {
                    // A scan of a thousand keys that nobody asks for again, now and then.
                    if scan > 0 && step % 5000 < 5 * scan {
                        next += 1;
                        next
                    } else {
                        zipf.next(&mut random)
                    }
                })
                .collect();
            let map = make(bytes, true);
            let value = value_of(1, 100);
            let mut hits = 0;
            for key in &keys {
                let key = format!("{key:012}");
                match get(&map, key.as_bytes()) {
                    Some(_) => hits += 1,
                    None => store(&map, key.as_bytes(), &value, 0).unwrap(),
                }
            }
            // As many as there would be room for, had it nothing but entries.
            let lru = hits_of_lru((bytes / 128) as usize, keys.iter().copied());
            let percent = |hits: usize| hits as f64 * 100.0 / keys.len() as f64;
            println!("s {exponent}, scan {scan}: {:.2} %, LRU {:.2} %", percent(hits), percent(lru));
            assert!(hits >= lru, "{exponent} {scan}: {hits} {lru}");
        }
    }
}

/// The fiber that computed it was given up in the middle.
#[test]
fn a_lost_computation_ends_with_its_map() {
    let child = fork(|| {
        let (thread, map) = (me(), process_shared_core::Map::new(1 << 16, false).unwrap());
        assert!(matches!(map.entries().claim(&thread, 7, Patient), Ok(Claim::Ours(_))));
        assert!(!thread.held().is_empty());
        drop(map);
        assert!(thread.held().is_empty(), "the list leads into memory that is gone");
        0
    });
    assert_eq!(child.reap(), 0);
}

#[test]
fn a_lost_computation_of_another_thread_keeps_its_memory() {
    let child = fork(|| {
        let map = process_shared_core::Map::new(1 << 16, false).unwrap();
        let (begun, dropped) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
        let lose = || {
            let thread = me();
            assert!(matches!(map.entries().claim(&thread, 7, Patient), Ok(Claim::Ours(_))));
            begun.wait();
            dropped.wait();
            let mutex = process_shared_core::Mutex::new().unwrap();
            assert!(mutex.try_lock(&thread).unwrap()); // writes to the neighbours on the list
            mutex.unlock(&thread);
        };
        beside(lose, || {
            begun.wait();
            // SAFETY: the handle is not used again.
            drop(unsafe { std::ptr::read(&raw const map) });
            dropped.wait();
        });
        std::mem::forget(map);
        0
    });
    assert_eq!(child.reap(), 0);
}

/// In a file there may be several handles of a map, in one process too.
#[test]
fn a_handle_that_goes_ends_no_computation_of_another_handle() {
    let _turn = turn();
    let folder = Folder::on_tmpfs();
    let open =
        || process_shared_core::Map::in_file(&folder.path("map"), 0o600, "Map", 10_000, false).unwrap();
    let (one, other) = (open(), open());
    let Ok(Claim::Ours(mark)) = one.entries().claim(&me(), 7, Patient) else { panic!() };
    drop(other);
    assert!(one.entries().is_marked(mark));
    drop(one);
    assert!(!open().entries().is_marked(mark));
}
