//! Operations of a map. The entry being written is the old or the new one, all others are as they were, no memory is gone
//! with the dead, and the map goes on at once.

use process_shared_core::Outcome;
use process_shared_core::map::{Claim, Map, Patience::Patient, Refusal, Value};
use process_shared_core::platform::{map as pages, unmap};
use std::collections::HashMap;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::OnceLock;

use crate::me;
use crate::points::each_point;
use crate::support::fork;
use crate::tracer::Victim;

/// How far apart the points are: a prime number, so that each turn of a loop is cut off elsewhere.
const SPREAD: usize = 211;
/// The same for long operations.
const LONG: usize = 2503;
const BYTES: u64 = 8 << 10;

/// A map whose memory goes with it: thousands of mappings would make each fork slow.
struct Mapped {
    map: Map,
    memory: NonNull<u8>,
    length: usize,
}

impl Deref for Mapped {
    type Target = Map;

    fn deref(&self) -> &Map {
        &self.map
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the victim is dead, and nobody else knows of it.
        unsafe { unmap(self.memory, self.length) };
    }
}

struct Scene {
    map: Mapped,
    /// What it begins with.
    before: HashMap<Vec<u8>, Vec<u8>>,
}

fn make(evicts: bool) -> Mapped {
    let length = Map::memory_for(BYTES, evicts).unwrap();
    let memory = pages(length).unwrap();
    // SAFETY: fresh zeroes, which stay mapped as long as the map is there.
    let map = unsafe { Map::create(memory, length, BYTES, evicts, 7).unwrap() };
    Mapped { map, memory, length }
}

fn name(number: u64) -> Vec<u8> {
    format!("key {number}").into_bytes()
}

fn store(map: &Map, key: &[u8], bytes: &[u8]) -> Result<(), Refusal> {
    store_until(map, key, bytes, 0)
}

fn store_until(map: &Map, key: &[u8], bytes: &[u8], expiry: u64) -> Result<(), Refusal> {
    let key = map.key(1, 0, key);
    map.change(&me(), &key, Patient, |shard| shard.put(&key, &Value { tag: 1, bytes, expiry }))
}

fn put_if_absent(map: &Map, key: &[u8], bytes: &[u8]) -> bool {
    let key = map.key(1, 0, key);
    map.change(&me(), &key, Patient, |shard| match shard.current(&key) {
        Some(_) => Ok(false),
        None => shard.put(&key, &Value { tag: 1, bytes, expiry: 0 }).map(|()| true),
    })
    .unwrap()
}

fn touch(map: &Map, key: &[u8], expiry: u64) {
    let key = map.key(1, 0, key);
    map.change(&me(), &key, Patient, |shard| {
        let found = shard.current(&key).unwrap();
        shard.set_expiry(&key, &found, expiry)
    })
    .unwrap();
}

fn expiry(map: &Map, key: &[u8]) -> u64 {
    map.peek(&map.key(1, 0, key), &mut Vec::new()).unwrap().1
}

/// An instant that these tests do not live to see.
const LATE: u64 = 1 << 62;

/// As if nobody had the map's file open any more: it is put in order, and opened by somebody else.
fn open_alone(map: &Map) {
    // SAFETY: the scene keeps its memory mapped, and nobody else uses it.
    unsafe {
        Map::recover(map.memory(), Map::memory_for(BYTES, map.evicts()).unwrap(), BYTES, map.evicts())
            .unwrap()
    }
}

fn delete(map: &Map, key: &[u8]) {
    let key = map.key(1, 0, key);
    map.change(&me(), &key, Patient, |shard| match shard.current(&key) {
        Some(found) => shard.remove(&found),
        None => Ok(()),
    })
    .unwrap();
}

fn increment(map: &Map, key: &[u8]) {
    let key = map.key(1, 0, key);
    map.change(&me(), &key, Patient, |shard| {
        let found = shard.current(&key).unwrap();
        shard.change_word(&found, |word| Some(word + 1))
    })
    .unwrap();
}

fn all(map: &Map) -> HashMap<Vec<u8>, Vec<u8>> {
    let mut all = HashMap::new();
    for entry in (0..map.parts()).flat_map(|part| map.visit(part, true)) {
        assert!(all.insert(entry.key, entry.value).is_none(), "twice");
    }
    all
}

/// How many entries of a size fit into it.
fn capacity(map: &Map) -> usize {
    map.clear(&me(), Patient).unwrap();
    (0..).take_while(|number| store(map, &name(*number), &[1; 100]).is_ok()).count()
}

fn capacity_of_a_new_one() -> usize {
    static CAPACITY: OnceLock<usize> = OnceLock::new();
    *CAPACITY.get_or_init(|| capacity(&make(false)))
}

impl Scene {
    fn with(evicts: bool, lengths: impl Iterator<Item = usize>) -> Self {
        let map = make(evicts);
        for (number, length) in lengths.enumerate() {
            store(&map, &name(number as u64), &vec![number as u8; length]).unwrap();
        }
        let before = all(&map);
        Scene { map, before }
    }

    fn some() -> Self {
        Self::with(false, (0..20).map(|number| number * 20))
    }

    fn full() -> Self {
        let mut scene = Self::some();
        let mut number = 100;
        while store(&scene.map, &name(number), &[number as u8; 200]).is_ok() {
            number += 1;
        }
        // Gaps everywhere.
        (100..number).step_by(2).for_each(|number| delete(&scene.map, &name(number)));
        scene.before = all(&scene.map);
        scene
    }

    /// A third of it expires, some of that at once.
    fn expiring() -> Self {
        let mut scene = Self::some();
        for (number, expiry) in [LATE, 1, LATE + 1, 1, 1].into_iter().cycle().take(20).enumerate() {
            store_until(&scene.map, &name(100 + number as u64), &[number as u8; 70], expiry).unwrap();
        }
        scene.before = all(&scene.map);
        scene
    }

    /// Of very many tiny entries a few have stayed, in any bucket of their chains.
    fn sparse() -> Self {
        let mut scene = Self::with(false, (0..240).map(|_| 0));
        (0..240).filter(|number| number % 8 != 0).for_each(|number| delete(&scene.map, &name(number)));
        scene.before = all(&scene.map);
        scene
    }

    fn cache() -> Self {
        Self::with(true, (0..60).map(|number| number * 7))
    }

    /// Everything but the key is as before, and that is one of these; nothing is missing.
    fn check(&self, key: &[u8], expected: &[Option<Vec<u8>>]) {
        // The first to come puts in order what the dead left.
        store(&self.map, b"next", b"1").unwrap();
        delete(&self.map, b"next");
        let mut after = all(&self.map);
        let mut before = self.before.clone();
        let value = after.remove(key);
        before.remove(key);
        assert!(expected.contains(&value), "{value:?}");
        assert_eq!(after, before);
        let count = after.len() + usize::from(value.is_some());
        assert_eq!(self.map.count(&me(), Patient).unwrap(), count as u64);
        assert_eq!(capacity(&self.map), capacity_of_a_new_one());
    }

    /// Some may have been dropped; what is there is right.
    fn check_cache(&self, key: &[u8], expected: &[Option<Vec<u8>>]) {
        store(&self.map, b"next", b"1").unwrap();
        let after = all(&self.map);
        assert!(expected.contains(&after.get(key).cloned()));
        let others = || after.iter().filter(|(other, _)| *other != key && *other != b"next");
        assert!(others().all(|(key, value)| self.before.get(key) == Some(value)));
        assert_eq!(self.map.count(&me(), Patient).unwrap(), after.len() as u64);
        self.map.clear(&me(), Patient).unwrap();
        assert_eq!(self.map.stats().used, 0);
        store(&self.map, b"large", &[7; BYTES as usize / 4]).unwrap();
        store(&self.map, b"large", &[8; BYTES as usize * 3 / 4]).unwrap();
    }
}

fn kill(name: &str, spread: usize, scene: fn() -> Scene, operation: fn(&Map), check: fn(&Scene)) {
    each_point(name, spread, |run| {
        let scene = scene();
        run.kill(&Victim {
            prepare: &|| {
                me(); // so that becoming known to the kernel is no step of the operation
            },
            operation: &|| operation(&scene.map),
            ready: &|| {},
            asleep: &|_| panic!("the victim sleeps"),
            at_the_point: &|| {},
        });
        check(&scene);
    });
}

fn old(scene: &Scene, key: &[u8]) -> Option<Vec<u8>> {
    scene.before.get(key).cloned()
}

macro_rules! kills {
    ($($name:ident $spread:ident: $scene:expr, $operation:expr, $check:expr;)*) => {$(
        #[test]
        fn $name() {
            kill(concat!("map::", stringify!($name)), $spread, $scene, $operation, $check);
        }
    )*};
}

kills! {
    store_new SPREAD: Scene::some, |map| store(map, b"new", &[3; 50]).unwrap(),
        |scene| scene.check(b"new", &[None, Some(vec![3; 50])]);
    store_long SPREAD: Scene::some, |map| store(map, b"new", &[3; 2000]).unwrap(),
        |scene| scene.check(b"new", &[None, Some(vec![3; 2000])]);
    store_large SPREAD: Scene::some, |map| store(map, b"new", &[3; 3000]).unwrap(),
        |scene| scene.check(b"new", &[None, Some(vec![3; 3000])]);
    replace SPREAD: Scene::some, |map| store(map, &name(3), &[3; 300]).unwrap(),
        |scene| scene.check(&name(3), &[old(scene, &name(3)), Some(vec![3; 300])]);
    replace_again LONG: Scene::some, |map| {
            store(map, &name(3), &[3; 1500]).unwrap();
            store(map, &name(3), &[4; 1500]).unwrap();
        },
        |scene| scene.check(&name(3), &[old(scene, &name(3)), Some(vec![3; 1500]), Some(vec![4; 1500])]);
    remove SPREAD: Scene::some, |map| delete(map, &name(3)), |scene| scene.check(&name(3), &[old(scene, &name(3)), None]);
    close_gaps LONG: Scene::full, |map| store(map, b"new", &[3; 1500]).unwrap(),
        |scene| scene.check(b"new", &[None, Some(vec![3; 1500])]);
    no_room LONG: Scene::full, |map| assert_eq!(store(map, b"new", &[3; 8000]), Err(Refusal::Full)),
        |scene| scene.check(b"new", &[None]);
    count SPREAD: || {
            let mut scene = Scene::some();
            store(&scene.map, b"count", &5_u64.to_ne_bytes()).unwrap();
            scene.before = all(&scene.map);
            scene
        },
        |map| increment(map, b"count"),
        |scene| scene.check(b"count", &[5_u64, 6].map(|count| Some(count.to_ne_bytes().to_vec())));
    more_buckets LONG: || Scene::with(false, (0..90).map(|_| 0)),
        |map| (200..215).for_each(|number| store(map, &name(number), b"").unwrap()),
        |scene| {
            let count = scene.map.parts(); // the victim's entries are whole, however many there are
            assert!(count > 0);
            store(&scene.map, b"next", b"1").unwrap();
            let after = all(&scene.map);
            assert!(scene.before.iter().all(|(key, value)| after.get(key) == Some(value)));
            assert_eq!(scene.map.count(&me(), Patient).unwrap(), after.len() as u64);
            (300..500).for_each(|number| assert_ne!(store(&scene.map, &name(number), b""), Err(Refusal::Corrupt)));
            scene.map.clear(&me(), Patient).unwrap();
            assert_eq!(scene.map.stats().used, 0);
        };
    shorten_chains SPREAD: Scene::sparse, |map| store(map, b"new", &[3; 6000]).unwrap(),
        |scene| scene.check(b"new", &[None, Some(vec![3; 6000])]);
    clear_chains LONG: || Scene::with(false, (0..240).map(|_| 0)), |map| map.clear(&me(), Patient).unwrap(), |scene| {
            store(&scene.map, b"next", b"1").unwrap();
            assert_eq!(scene.map.count(&me(), Patient).unwrap(), all(&scene.map).len() as u64);
            assert_eq!(capacity(&scene.map), capacity_of_a_new_one());
        };
    put_if_absent_new SPREAD: Scene::some, |map| assert!(put_if_absent(map, b"new", &[3; 50])),
        |scene| scene.check(b"new", &[None, Some(vec![3; 50])]);
    put_if_absent_there SPREAD: Scene::some, |map| assert!(!put_if_absent(map, &name(3), &[3; 50])),
        |scene| scene.check(&name(3), &[old(scene, &name(3))]);
    touch_what_expires SPREAD: Scene::expiring, |map| touch(map, &name(100), LATE + 5), |scene| {
            assert!([LATE, LATE + 5].contains(&expiry(&scene.map, &name(100))));
            scene.check(&name(100), &[old(scene, &name(100))]);
        };
    touch_what_never_expires SPREAD: Scene::expiring, |map| touch(map, &name(3), LATE), |scene| {
            assert!([0, LATE].contains(&expiry(&scene.map, &name(3))));
            scene.check(&name(3), &[old(scene, &name(3))]);
        };
    touch_to_never SPREAD: Scene::expiring, |map| touch(map, &name(102), 0), |scene| {
            assert!([LATE + 1, 0].contains(&expiry(&scene.map, &name(102))));
            scene.check(&name(102), &[old(scene, &name(102))]);
        };
    drop_what_has_expired LONG: Scene::expiring, |map| assert!(map.count(&me(), Patient).unwrap() < 40),
        |scene| scene.check(&name(3), &[old(scene, &name(3))]);
    store_expiring SPREAD: Scene::expiring, |map| store_until(map, b"new", &[3; 50], LATE - 5).unwrap(), |scene| {
            if let Some((_, expiry)) = scene.map.peek(&scene.map.key(1, 0, b"new"), &mut Vec::new()) {
                assert_eq!(expiry, LATE - 5);
            }
            scene.check(b"new", &[None, Some(vec![3; 50])]);
        };
    open_what_the_dead_left LONG: Scene::some, |map| store(map, b"new", &[3; 1500]).unwrap(), |scene| {
            open_alone(&scene.map);
            scene.check(b"new", &[None, Some(vec![3; 1500])]);
        };
    evict SPREAD: Scene::cache, |map| store(map, b"new", &[3; 1000]).unwrap(),
        |scene| scene.check_cache(b"new", &[None, Some(vec![3; 1000])]);
    evict_for_large LONG: Scene::cache, |map| store(map, b"new", &[3; 6000]).unwrap(),
        |scene| scene.check_cache(b"new", &[None, Some(vec![3; 6000])]);
    clear LONG: Scene::some, |map| map.clear(&me(), Patient).unwrap(), |scene| {
            store(&scene.map, b"next", b"1").unwrap();
            let after = all(&scene.map);
            assert!(after.iter().all(|(key, value)| key == b"next" || scene.before.get(key) == Some(value)));
            assert_eq!(scene.map.count(&me(), Patient).unwrap(), after.len() as u64);
            assert_eq!(capacity(&scene.map), capacity_of_a_new_one());
        };
    compute SPREAD: Scene::some, |map| {
            let Ok(Claim::Ours(mark)) = map.claim(&me(), 99, Patient) else { panic!() };
            store(map, b"new", b"computed").unwrap();
            map.release(&me(), mark);
        },
        |scene| {
            // Whoever waits goes on, and nobody is left out.
            let waiter = fork(|| loop {
                match scene.map.claim(&me(), 99, Patient) {
                    Ok(Claim::Ours(_)) => return 0,
                    Ok(Claim::Others(mark)) => assert_eq!(scene.map.await_release(&me(), mark, None), Outcome::Acquired),
                    _ => return 1,
                }
            });
            assert_eq!(waiter.reap(), 0);
            scene.check(b"new", &[None, Some(b"computed".to_vec())]);
        };
}
