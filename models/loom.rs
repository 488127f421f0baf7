//! The model checker's platform (`--cfg loom`): a kernel with futexes and robust lists, made of loom's own locks, and
//! threads that can die between any two steps of a protocol. `tests/loom.rs` has the scenarios.

use super::Wake;
use crate::deadline::Deadline;
use crate::kernel::Kernel;
use crate::word::{ANY_CLASS, Word, aux, futex_word, pack};
use loom::sync::atomic::Ordering::{self, *};
use loom::sync::{Arc, Condvar, Mutex};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

pub const OWNER: u32 = 0x3fff_ffff;
pub const OWNER_DIED: u32 = 0x4000_0000;
pub const WAITERS: u32 = 0x8000_0000;
pub const WORD_FROM_NEXT: isize = -32;

#[derive(Default)]
pub struct Entry;

loom::thread_local! {
    /// How many steps this thread has left.
    static LIFE: Cell<usize> = Cell::new(usize::MAX);

    /// Whether all memory orders of this thread are taken for Relaxed.
    static WEAK: Cell<bool> = Cell::new(false);
}

struct Death;

/// Where a thread can die.
fn step() {
    LIFE.with(|life| match life.get() {
        usize::MAX => {}
        0 => resume_unwind(Box::new(Death)),
        left => life.set(left - 1),
    });
}

fn effective(order: Ordering) -> Ordering {
    if WEAK.with(Cell::get) { Relaxed } else { order }
}

/// Runs `act` with every memory order taken for Relaxed. For tests of the model itself.
pub fn weakly(act: impl FnOnce()) {
    WEAK.with(|weak| weak.set(true));
    act();
    WEAK.with(|weak| weak.set(false));
}

macro_rules! mortal_atomic {
    ($name:ident, $integer:ty) => {
        /// loom's atomic. Each operation can be the thread's last.
        #[derive(Default, Debug)]
        pub struct $name(loom::sync::atomic::$name);

        impl $name {
            pub fn new(value: $integer) -> Self {
                $name(loom::sync::atomic::$name::new(value))
            }

            pub fn load(&self, order: Ordering) -> $integer {
                step();
                self.0.load(effective(order))
            }

            pub fn store(&self, value: $integer, order: Ordering) {
                step();
                self.0.store(value, effective(order));
            }

            pub fn swap(&self, value: $integer, order: Ordering) -> $integer {
                step();
                self.0.swap(value, effective(order))
            }

            pub fn compare_exchange(
                &self,
                current: $integer,
                new: $integer,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$integer, $integer> {
                step();
                self.0.compare_exchange(current, new, effective(success), effective(failure))
            }

            pub fn fetch_add(&self, value: $integer, order: Ordering) -> $integer {
                step();
                self.0.fetch_add(value, effective(order))
            }

            pub fn fetch_and(&self, value: $integer, order: Ordering) -> $integer {
                step();
                self.0.fetch_and(value, effective(order))
            }

            pub fn fetch_max(&self, value: $integer, order: Ordering) -> $integer {
                step();
                self.0.fetch_max(value, effective(order))
            }
        }
    };
}

mortal_atomic!(AtomicU32, u32);
mortal_atomic!(AtomicU64, u64);

/// One thread asleep.
struct Sleeper {
    words: Vec<*const Word>,
    class: u32,
    thread: u32,
    timed: bool,
    bell: Arc<Condvar>,
}

// SAFETY: the address is compared, never followed.
unsafe impl Send for Sleeper {}

/// The threads asleep, in the order of their arrival.
#[derive(Default)]
struct Queue {
    asleep: Vec<Sleeper>,
    expired: Vec<u32>,
}

/// A kernel, one for each run of a model.
#[derive(Clone)]
pub struct World(Arc<Mutex<Queue>>);

/// What a wait with a deadline does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// It ends at once instead of sleeping. The caller polls.
    Quick,
    /// It sleeps until `World::expire`.
    Slow,
}

/// A thread of the model.
pub struct Thread {
    id: u32,
    world: World,
    clock: Clock,
    bell: Arc<Condvar>,
    pending: Cell<*const Word>,
    held: RefCell<Vec<*const Word>>,
    /// Its wake-ups wake nobody. For tests of the model itself.
    pub mute: Cell<bool>,
    /// The kernel does nothing at its death. For tests of the model itself.
    pub forgotten: Cell<bool>,
    /// Its process, where that matters.
    pub process: Cell<u32>,
}

impl Default for World {
    fn default() -> Self {
        World(Arc::new(Mutex::new(Queue::default())))
    }
}

impl World {
    /// A thread with this number, to be used by one thread of the model.
    pub fn thread(&self, id: u32, clock: Clock) -> Thread {
        Thread {
            id,
            world: self.clone(),
            clock,
            bell: Arc::new(Condvar::new()),
            pending: Cell::new(std::ptr::null()),
            held: RefCell::default(),
            mute: Cell::new(false),
            forgotten: Cell::new(false),
            process: Cell::new(0),
        }
    }

    /// The deadlines of all sleepers that have one pass.
    pub fn expire(&self) {
        let mut queue = self.lock();
        let (timed, asleep) = std::mem::take(&mut queue.asleep).into_iter().partition(|one| one.timed);
        queue.asleep = asleep;
        for sleeper in timed {
            queue.expired.push(sleeper.thread);
            sleeper.bell.notify_one();
        }
    }

    fn lock(&self) -> loom::sync::MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn wake(&self, word: *const Word, count: usize, classes: u32) -> usize {
        let mut queue = self.lock();
        let mut woken = 0;
        let (chosen, asleep) = std::mem::take(&mut queue.asleep).into_iter().partition(|sleeper| {
            let matches = sleeper.words.contains(&word) && sleeper.class & classes != 0 && woken < count;
            woken += usize::from(matches);
            matches
        });
        queue.asleep = asleep;
        for sleeper in Vec::from_iter::<Vec<Sleeper>>(chosen) {
            sleeper.bell.notify_one();
        }
        woken
    }
}

impl Thread {
    /// Runs `life` for at most `steps` steps. If the thread dies, the kernel handles its death, and this is true.
    pub fn live(&self, steps: usize, life: impl FnOnce(&Self)) -> bool {
        LIFE.with(|left| left.set(steps));
        let end = catch_unwind(AssertUnwindSafe(|| life(self)));
        LIFE.with(|left| left.set(usize::MAX));
        match end {
            Ok(()) => false,
            Err(reason) if reason.is::<Death>() => {
                if !self.forgotten.get() {
                    self.die();
                }
                true
            }
            Err(reason) => resume_unwind(reason),
        }
    }

    /// Ends this thread, which does nothing itself, with its process.
    pub fn end(&self) {
        if !self.forgotten.get() {
            self.die();
        }
    }

    /// The kernel's exit_robust_list.
    fn die(&self) {
        let pending = self.pending.get();
        for &word in self.held.borrow().iter().rev().filter(|&&word| word != pending) {
            self.bury(word, false);
        }
        if !pending.is_null() {
            self.bury(pending, true);
        }
    }

    /// The kernel's handle_futex_death.
    fn bury(&self, address: *const Word, pending: bool) {
        // SAFETY: the models keep their words as long as their threads.
        let state = &unsafe { &*address }.state.0;
        let mut now = state.load(Relaxed);
        loop {
            let value = futex_word(now);
            if value & OWNER == 0 && pending {
                self.world.wake(address, 1, ANY_CLASS);
            }
            if value & OWNER != self.id {
                return;
            }
            match state.compare_exchange(now, pack(value & WAITERS | OWNER_DIED, aux(now)), AcqRel, Relaxed) {
                Ok(_) if value & WAITERS != 0 => {
                    self.world.wake(address, 1, ANY_CLASS);
                    return;
                }
                Ok(_) => return,
                Err(then) => now = then,
            }
        }
    }
}

impl Kernel for Thread {
    fn id(&self) -> u32 {
        self.id
    }

    fn pid(&self) -> u32 {
        self.process.get()
    }

    fn set_pending(&self, word: &Word) {
        step();
        self.pending.set(word);
    }

    fn clear_pending(&self) {
        step();
        self.pending.set(std::ptr::null());
    }

    fn robust_push(&self, word: &Word) {
        step();
        self.held.borrow_mut().push(word);
    }

    fn robust_remove(&self, word: &Word) {
        step();
        self.held.borrow_mut().retain(|&held| !std::ptr::eq(held, word));
    }

    fn wait(&self, address: &Word, expected: u32, deadline: Option<Deadline>, class: u32) -> Wake {
        self.sleep(&[(address, expected)], deadline, class)
    }

    fn wait_for_any(&self, words: &[(&Word, u32)], deadline: Option<Deadline>) -> Option<Wake> {
        Some(self.sleep(words, deadline, ANY_CLASS))
    }

    fn wake(&self, word: &Word, count: i32, classes: u32) -> usize {
        step();
        if self.mute.get() {
            return 1;
        }
        self.world.wake(word, count as usize, classes)
    }
}

impl Thread {
    fn sleep(&self, words: &[(&Word, u32)], deadline: Option<Deadline>, class: u32) -> Wake {
        step();
        let mut queue = self.world.lock();
        if words.iter().any(|(word, expected)| futex_word(word.state.0.load(Relaxed)) != *expected) {
            return Wake::Woken;
        }
        if deadline.is_some() && self.clock == Clock::Quick {
            drop(queue);
            loom::thread::yield_now();
            return Wake::TimedOut;
        }
        let (timed, bell) = (deadline.is_some(), self.bell.clone());
        let words = words.iter().map(|(word, _)| std::ptr::from_ref(*word)).collect();
        queue.asleep.push(Sleeper { words, class, thread: self.id, timed, bell });
        while queue.asleep.iter().any(|sleeper| sleeper.thread == self.id) {
            queue = self.bell.wait(queue).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        let expired = queue.expired.contains(&self.id);
        queue.expired.retain(|&thread| thread != self.id);
        drop(queue);
        step();
        if expired { Wake::TimedOut } else { Wake::Woken }
    }
}
