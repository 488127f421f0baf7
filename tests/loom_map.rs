//! How a map's entries are published and read, under the model checker: see `tests/loom.rs`.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]

#[path = "support/model_checking.rs"]
mod model_checking;

use loom::sync::Arc;
use loom::thread;
use model_checking::{check, check_deaths, notices};
use process_shared_core::map::slot::{Lead, Slot, before_reuse};
use process_shared_core::platform::{AtomicU64, Clock, World};
use std::sync::atomic::Ordering::Relaxed;

// `Slot::appreciate` is left out: loom lets a load see a compare-and-swap's value after a store that comes later in the
// order of the slot's values.

const HASH: u64 = 7 << 40;

/// A slot, and two places for entries of two words, which are equal in a whole entry.
#[derive(Default)]
struct Shared {
    world: World,
    slot: Slot,
    places: [[AtomicU64; 2]; 2],
}

/// What may be taken away.
#[derive(Clone, Copy)]
struct Protocol {
    before_reuse: fn(),
    still_leads: fn(&Slot, Lead) -> bool,
}

const WHOLE: Protocol = Protocol { before_reuse, still_leads: Slot::still_leads };

impl Protocol {
    /// Writes an entry to a place that the slot does not lead to, and publishes it.
    fn put(self, shared: &Shared, place: usize, value: u64) {
        (self.before_reuse)();
        shared.places[place].iter().for_each(|word| word.store(value, Relaxed));
        shared.slot.lead_to(place as u64, HASH, 0);
    }

    /// Moves the entry from one place to the other.
    fn move_on(self, shared: &Shared, from: usize) {
        (self.before_reuse)();
        for (from, to) in shared.places[from].iter().zip(&shared.places[1 - from]) {
            to.store(from.load(Relaxed), Relaxed);
        }
        shared.slot.move_to(1 - from as u64, 1);
    }

    /// One attempt to read: what the slot led to, and the value. `None` if there is none, or it changed meanwhile.
    fn read(self, shared: &Shared) -> Option<(Lead, u64)> {
        let lead = shared.slot.look();
        let place = &shared.places[lead.location()? as usize];
        let [first, second] = [0, 1].map(|index| place[index].load(Relaxed));
        if !(self.still_leads)(&shared.slot, lead) {
            return None;
        }
        assert!(lead.may_be(HASH));
        assert_eq!(first, second, "half an entry");
        Some((lead, first))
    }
}

/// An entry is there; a writer replaces it by one in the other place, and that by one in the first place again.
fn read_while_it_is_replaced(protocol: Protocol) {
    check(3, move || {
        let shared = Arc::new(Shared::default());
        protocol.put(&shared, 0, 1);
        let before = shared.slot.look();
        let theirs = shared.clone();
        let writer = thread::spawn(move || {
            protocol.put(&theirs, 1, 2);
            protocol.put(&theirs, 0, 3);
        });
        if let Some((lead, value)) = protocol.read(&shared) {
            let is_first = lead == before;
            assert!(if is_first { value == 1 } else { value > 1 }, "another entry");
        }
        writer.join().unwrap();
        assert_eq!(protocol.read(&shared).unwrap().1, 3);
    });
}

#[test]
fn a_reader_has_whole_entries_only() {
    read_while_it_is_replaced(WHOLE);
}

/// The entry is moved, its old place gets another entry, and in the end it is gone.
#[test]
fn an_entry_that_is_moved_is_the_same_until_it_is_gone() {
    check(3, || {
        let shared = Arc::new(Shared::default());
        WHOLE.put(&shared, 0, 1);
        let theirs = shared.clone();
        let writer = thread::spawn(move || {
            WHOLE.move_on(&theirs, 0);
            before_reuse();
            theirs.places[0].iter().for_each(|word| word.store(9, Relaxed));
            theirs.slot.clear();
            before_reuse();
            theirs.places[1].iter().for_each(|word| word.store(9, Relaxed));
        });
        if let Some((_, value)) = WHOLE.read(&shared) {
            assert_eq!(value, 1, "another entry");
        }
        writer.join().unwrap();
        assert!(shared.slot.look().is_empty() && WHOLE.read(&shared).is_none());
    });
}

/// A number is changed in place, by one store, and the slot says so.
#[test]
fn a_number_that_is_changed_in_place_is_the_old_or_the_new_one() {
    check(3, || {
        let shared = Arc::new(Shared::default());
        WHOLE.put(&shared, 0, 1);
        let before = shared.slot.look();
        let theirs = shared.clone();
        let writer = thread::spawn(move || {
            theirs.places[0][0].store(2, Relaxed);
            theirs.slot.step();
        });
        let lead = shared.slot.look();
        let value = shared.places[0][0].load(Relaxed);
        assert!([1, 2].contains(&value) && (lead == before || value == 2));
        writer.join().unwrap();
        assert_eq!(shared.slot.look().location(), Some(0));
        assert!(!shared.slot.still_leads(before));
    });
}

/// A writer dies at any step; the next one, who has its lock, goes on.
#[test]
fn a_dead_writer_leaves_the_old_entry_or_the_new_one() {
    check_deaths(2, |steps| {
        let shared = Arc::new(Shared::default());
        WHOLE.put(&shared, 0, 1);
        let theirs = shared.clone();
        let writer = thread::spawn(move || {
            theirs.world.thread(1, Clock::Quick).live(steps, |_| WHOLE.put(&theirs, 1, 2))
        });
        WHOLE.read(&shared);
        let died = writer.join().unwrap();
        let (lead, value) = WHOLE.read(&shared).unwrap();
        assert!(if died { [1, 2].contains(&value) } else { value == 2 });
        WHOLE.put(&shared, 1 - lead.location().unwrap() as usize, 3);
        assert_eq!(WHOLE.read(&shared).unwrap().1, 3);
        died
    });
}

#[test]
fn the_model_notices_what_is_broken() {
    notices("memory_is_used_again_at_once", "half an entry");
    notices("a_reader_looks_without_a_fence", "half an entry");
    notices("a_reader_does_not_look_again", "half an entry");
}

#[test]
#[ignore = "fails on purpose"]
fn memory_is_used_again_at_once() {
    read_while_it_is_replaced(Protocol { before_reuse: || (), ..WHOLE });
}

#[test]
#[ignore = "fails on purpose"]
fn a_reader_looks_without_a_fence() {
    read_while_it_is_replaced(Protocol { still_leads: |slot, lead| slot.look() == lead, ..WHOLE });
}

#[test]
#[ignore = "fails on purpose"]
fn a_reader_does_not_look_again() {
    read_while_it_is_replaced(Protocol { still_leads: |_, _| true, ..WHOLE });
}
