//! What the index of a map takes for very many tiny entries is there for others when those are gone; and readers find what is
//! there meanwhile.

#![cfg(target_os = "linux")] // its children are killed with their parent
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/maps.rs"]
mod maps;
mod support;

use maps::{count, delete, get, make, me, store};
use process_shared_core::map::{Map, Patience::Patient, now};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::*};
use support::fork;

const BYTES: u64 = 4 << 20;

fn tiny(number: u64) -> Vec<u8> {
    number.to_string().into_bytes()
}

fn large(number: u64) -> Vec<u8> {
    format!("large {number}").into_bytes()
}

/// Stores tiny entries until there is no room, or, in a map that evicts, as many as would have none. Returns how many.
fn fill_with_tiny(map: &Map, expiry: u64) -> u64 {
    (0..BYTES / 24).take_while(|number| store(map, &tiny(*number), b"", expiry).is_ok()).count() as u64
}

fn delete_tiny(map: &Map, numbers: impl Iterator<Item = u64>) {
    for number in numbers {
        delete(map, &tiny(number));
    }
}

/// How much of its bytes a map takes in large entries, in percent.
fn percent_of_large(map: &Map) -> u64 {
    let value = vec![7; 1000];
    let is_stored = |number: &u64| store(map, &large(*number), &value, 0).is_ok();
    let entries = (0..BYTES / 1000).take_while(is_stored).count() as u64;
    let is_there = |number| get(map, &large(number)).is_some_and(|got| got == value);
    assert!(map.evicts() || (0..entries).all(is_there));
    map.stats().used * 100 / BYTES
}

type End = fn(&Map, u64);

/// What becomes of tiny entries before large ones come.
const ENDS: [(&str, End); 4] = [
    ("cleared", |map, _| map.clear(&me(), Patient).unwrap()),
    ("deleted", |map, count| delete_tiny(map, 0..count)),
    // Those that stay are in any slot of any bucket.
    ("deleted but for some", |map, count| {
        delete_tiny(map, (0..count).filter(|number| number % 40 != 0));
    }),
    ("expired", |map, _| {
        while count(map) > 0 {
            std::hint::spin_loop();
        }
    }),
];

#[test]
fn large_entries_have_the_room_of_tiny_ones() {
    for evicts in [false, true] {
        for (name, end) in ENDS {
            let map = make(BYTES, evicts);
            let expiry = if name == "expired" { now() + 1_500_000_000 } else { 0 };
            let entries = fill_with_tiny(&map, expiry);
            end(&map, entries);
            let stay = count(&map);
            let filled = percent_of_large(&map);
            println!("{entries} tiny ones {name}: {filled} %, {:?}", map.stats());
            assert!(filled >= 90, "{name}: {filled} %");
            let still_there =
                (0..entries).filter(|number| get(&map, &tiny(*number)).is_some()).count() as u64;
            assert!(evicts || still_there == stay);
        }
    }
}

#[test]
fn tiny_entries_have_the_room_of_large_ones_and_of_tiny_ones_before() {
    let map = make(BYTES, false);
    let first = fill_with_tiny(&map, 0);
    for round in 0..3 {
        map.clear(&me(), Patient).unwrap();
        if round > 0 {
            assert!(percent_of_large(&map) >= 90);
            (0..).take_while(|number| delete(&map, &large(*number))).count();
        }
        let again = fill_with_tiny(&map, 0);
        assert!(again * 100 >= first * 99, "{first}, then {again}");
        assert_eq!(count(&map), again);
    }
}

/// A cache that lives with tiny entries takes large ones later, and drops no more for them than it must.
#[test]
fn a_cache_gives_the_room_of_tiny_entries_to_large_ones() {
    let map = make(BYTES, true);
    for round in 0..3 {
        fill_with_tiny(&map, 0);
        store(&map, b"quarter", &vec![round; BYTES as usize / 4], 0).unwrap();
        assert_eq!(get(&map, b"quarter").unwrap(), vec![round; BYTES as usize / 4]);
        assert!(percent_of_large(&map) >= 90);
    }
}

/// A process fills the map with tiny entries and deletes them, again and again; so chains get shorter all the time, and
/// the memory of their buckets serves for large entries. Readers find what stays, once, and nothing that is not there.
#[test]
fn readers_find_what_stays_while_chains_get_shorter() {
    const BYTES: u64 = 256 << 10;
    let map = make(BYTES, false);
    let stays = |number: u64| format!("stays {number}").into_bytes();
    (0..300).for_each(|number| store(&map, &stays(number), &number.to_ne_bytes(), 0).unwrap());
    let page = process_shared_core::platform::map(4096).unwrap().cast::<(AtomicBool, AtomicU64)>();
    // SAFETY: fresh zeroes, which are never unmapped.
    let (is_over, looks) = unsafe { page.as_ref() };
    let readers = [(); 2].map(|()| {
        fork(|| {
            while !is_over.load(Relaxed) {
                for number in 0..300 {
                    assert_eq!(get(&map, &stays(number)).unwrap(), number.to_ne_bytes());
                    assert_eq!(get(&map, format!("never {number}").as_bytes()), None);
                }
                let mut seen = HashSet::new();
                for entry in (0..map.parts()).flat_map(|part| map.visit(part, false)) {
                    assert!(seen.insert(entry.key), "twice");
                }
                assert!((0..300).all(|number| seen.contains(&stays(number))), "not seen");
                looks.fetch_add(1, Relaxed);
            }
            0
        })
    });
    let mut rounds = 0;
    while rounds < 40 || looks.load(Relaxed) < 40 {
        let entries = (0..).take_while(|number| store(&map, &tiny(*number), b"", 0).is_ok()).count() as u64;
        delete_tiny(&map, (0..entries).filter(|number| number % 30 != rounds % 30));
        (0..9).for_each(|number| store(&map, &large(number), &vec![number as u8; 20_000], 0).unwrap());
        (0..9).for_each(|number| assert!(delete(&map, &large(number))));
        rounds += 1;
    }
    is_over.store(true, Relaxed);
    println!("{rounds} rounds, {} looks", looks.load(Relaxed));
    readers.into_iter().for_each(|reader| assert_eq!(reader.reap(), 0));
}
