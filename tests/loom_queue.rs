//! The gate of a queue under the model checker: see `tests/loom.rs`. A lost wake-up ends in a deadlock, which loom reports.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]

#[path = "support/model_checking.rs"]
mod model_checking;

use loom::sync::Arc;
use loom::thread;
use model_checking::{check, check_deaths};
use process_shared_core::kernel::Kernel;
use process_shared_core::lock::{Lock, Outcome};
use process_shared_core::platform::{AtomicU64, Clock, Thread, World};
use process_shared_core::queue::gate::{Gate, Look};
use std::sync::atomic::Ordering::Relaxed;

/// A queue that only counts.
struct Shared {
    world: World,
    lock: Lock,
    items: Gate,
    /// Items pushed, and of these taken: one word, so that each step is a whole one.
    counts: AtomicU64,
}

const TAKEN: u64 = 1 << 32;

impl Shared {
    fn new() -> Arc<Self> {
        Arc::new(Shared {
            world: World::default(),
            lock: Lock::default(),
            items: Gate::default(),
            counts: AtomicU64::new(0),
        })
    }

    fn enter(&self, me: &Thread) {
        assert!(self.lock.try_lock(me) || self.lock.lock(me, None) == Outcome::Acquired);
        if self.lock.is_abandoned() {
            self.lock.make_consistent();
        }
    }

    fn pushed(&self) -> u64 {
        self.counts.load(Relaxed) % TAKEN
    }

    fn push(&self, me: &Thread) {
        self.enter(me);
        let counts = self.counts.load(Relaxed);
        self.items.signal(me, || self.counts.store(counts + 1, Relaxed), || true);
        self.lock.unlock(me);
    }

    fn pop(&self, me: &Thread) {
        let look = || {
            self.enter(me);
            let counts = self.counts.load(Relaxed);
            let found = counts % TAKEN > counts / TAKEN;
            if found {
                self.counts.store(counts + TAKEN, Relaxed);
            } else {
                self.items.arm();
            }
            self.lock.unlock(me);
            Ok(if found { Look::Found(()) } else { Look::Armed })
        };
        let sleep = |word: &_, expected| me.wait(word, expected, None, u32::MAX);
        self.items.wait(me, None, look, sleep).unwrap();
    }
}

fn spawn<R: 'static>(
    shared: &Arc<Shared>,
    life: impl FnOnce(&Shared) -> R + 'static,
) -> thread::JoinHandle<R> {
    let shared = shared.clone();
    thread::spawn(move || life(&shared))
}

#[test]
fn all_that_wait_get_what_is_pushed() {
    check(2, || {
        let shared = Shared::new();
        let takers =
            [1, 2].map(|id| spawn(&shared, move |shared| shared.pop(&shared.world.thread(id, Clock::Slow))));
        let me = shared.world.thread(3, Clock::Slow);
        shared.push(&me);
        shared.push(&me);
        takers.into_iter().for_each(|taker| taker.join().unwrap());
        assert_eq!(shared.counts.load(Relaxed), 2 + 2 * TAKEN);
    });
}

/// An item of a pusher that dies is there or not; a taker that waits learns of it.
#[test]
fn outlives_a_pusher() {
    check_deaths(2, |steps| {
        let shared = Shared::new();
        let taker = spawn(&shared, |shared| shared.pop(&shared.world.thread(1, Clock::Slow)));
        let pusher = spawn(&shared, move |shared| {
            shared.world.thread(2, Clock::Slow).live(steps, |me| shared.push(me))
        });
        let died = pusher.join().unwrap();
        let me = shared.world.thread(3, Clock::Slow);
        // Without the lock: whoever takes it would see to what the dead one left.
        if shared.pushed() == 0 {
            shared.push(&me);
        }
        taker.join().unwrap();
        died
    });
}

/// A taker that dies has taken an item or none; the other gets what is left.
#[test]
fn outlives_a_taker() {
    check_deaths(1, |steps| {
        let shared = Shared::new();
        let mortal = spawn(&shared, move |shared| {
            shared.world.thread(1, Clock::Slow).live(steps, |me| shared.pop(me))
        });
        let other = spawn(&shared, |shared| shared.pop(&shared.world.thread(2, Clock::Slow)));
        let me = shared.world.thread(3, Clock::Slow);
        shared.push(&me);
        shared.push(&me);
        other.join().unwrap();
        mortal.join().unwrap()
    });
}
