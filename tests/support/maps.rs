//! Maps for tests: each in memory of its own, with one class of keys and one tag.

use process_shared_core::Thread;
use process_shared_core::map::{Map, Patience::Patient, Refusal, Value};
use process_shared_core::platform::map as pages;

pub fn me() -> Thread {
    Thread::current().unwrap()
}

pub fn make(bytes: u64, evicts: bool) -> Map {
    let length = Map::memory_for(bytes, evicts).unwrap();
    // SAFETY: fresh zeroes, which are never unmapped.
    unsafe { Map::create(pages(length).unwrap(), length, bytes, evicts, 42).unwrap() }
}

pub fn store(map: &Map, key: &[u8], bytes: &[u8], expiry: u64) -> Result<(), Refusal> {
    let key = map.key(1, 0, key);
    map.change(&me(), &key, Patient, |shard| shard.put(&key, &Value { tag: 7, bytes, expiry }))
}

pub fn get(map: &Map, key: &[u8]) -> Option<Vec<u8>> {
    let mut room = Vec::new();
    let tag = map.get(&me(), &map.key(1, 0, key), &mut room)?;
    assert_eq!(tag, 7);
    Some(room)
}

pub fn delete(map: &Map, key: &[u8]) -> bool {
    let key = map.key(1, 0, key);
    map.change(&me(), &key, Patient, |shard| match shard.current(&key) {
        Some(found) => shard.remove(&found).map(|()| true),
        None => Ok(false),
    })
    .unwrap()
}

pub fn count(map: &Map) -> u64 {
    map.count(&me(), Patient).unwrap()
}
