//! A lock that survives its holder: the protocol under `Mutex`, the roster of waiters, and the baton of a condition.
//!
//! | word                  | meaning                                                                       |
//! |-----------------------|-------------------------------------------------------------------------------|
//! | 0                     | free, nobody asleep                                                           |
//! | `id`                  | held by that thread, nobody asleep                                            |
//! | `id`, WAITERS         | held; somebody may be asleep                                                  |
//! | WAITERS               | free; somebody may be asleep, and one is being woken                          |
//! | OWNER_DIED (, WAITERS)| free, left by a holder that died (the kernel wrote it) or that asked for that |
//! | `id`, OWNER_DIED (, …)| held by one who took it over from such a holder: abandoned                    |
//!
//! Invariants: who is asleep slept on a word with WAITERS, and WAITERS stays set until an unlock finds that it woke
//! nobody. A free word with sleepers has a wake-up on its way: in the hands of a thread that has announced the lock,
//! so that if it dies, the kernel wakes the next.
//!
//! The other half counts the times the lock was taken from a word that was not 0. It keeps an unlocker, late to
//! clear WAITERS, from clearing one that a later round of sleepers needs.
//!
//! Memory order: taking is Acquire and pairs with the Release of the unlock that freed the word. A holder that died
//! is ordered by the kernel.

use crate::atomic::{AtomicU32, AtomicU64, Ordering::*, spin_loop};
use crate::deadline::Deadline;
use crate::kernel::Kernel;
use crate::platform::Wake;
use crate::word::{ANY_CLASS, Entry, OWNER, OWNER_DIED, WAITERS, join, other, word};

/// How a wait for something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was got.
    Acquired,
    /// The deadline passed; nothing was taken.
    TimedOut,
    /// A signal was handled; nothing was taken. The caller sees to the signal and waits again.
    Interrupted,
}

/// All zeroes is a free lock. The layout is what the kernel and the C library expect of a robust mutex.
#[repr(C)]
pub struct Lock {
    state: AtomicU64,
    pid: AtomicU32,
    _unused: [u32; 3],
    entry: Entry,
}

#[cfg(not(loom))]
const _: () = assert!(std::mem::offset_of!(Lock, entry) == 24 && size_of::<Lock>() == 40);

// SAFETY: `entry` is touched only by the thread that holds the lock.
unsafe impl Sync for Lock {}
// SAFETY: nothing in it belongs to a thread while it is free, and it never moves while held.
unsafe impl Send for Lock {}

/// How often to look at a held lock before sleeping: a short critical section ends sooner than a sleep begins.
pub const SPINS: u32 = if cfg!(loom) { 0 } else { 100 };

impl Lock {
    /// How far the entry is from the start.
    pub const ENTRY: usize = std::mem::offset_of!(Lock, entry);

    /// Takes the lock if nobody holds it.
    #[inline]
    pub fn try_lock<K: Kernel>(&self, kernel: &K) -> bool {
        if word(self.state.load(Relaxed)) & OWNER != 0 {
            return false;
        }
        kernel.announce(&self.entry);
        let taken = self.take(kernel);
        kernel.settle();
        taken
    }

    /// Announced: makes the free word name this thread.
    #[inline]
    fn take<K: Kernel>(&self, kernel: &K) -> bool {
        let mut state = self.state.load(Relaxed);
        loop {
            let flags = word(state);
            if flags & OWNER != 0 {
                return false;
            }
            let round = if flags == 0 { other(state) } else { other(state).wrapping_add(1) };
            match self.state.compare_exchange(state, join(flags | kernel.id(), round), Acquire, Relaxed) {
                Ok(_) => {
                    kernel.enlist(&self.entry);
                    return true;
                }
                Err(now) => state = now,
            }
        }
    }

    /// Takes the lock if it becomes free within about a microsecond.
    pub fn spin<K: Kernel>(&self, kernel: &K) -> bool {
        (0..SPINS).any(|_| {
            spin_loop();
            self.try_lock(kernel)
        })
    }

    /// Takes the lock as soon as it is free; sleeps until then.
    #[cold]
    pub fn lock<K: Kernel>(&self, kernel: &K, deadline: Option<Deadline>) -> Outcome {
        self.await_free(kernel, deadline, || self.take(kernel))
    }

    /// Sleeps until the lock is free, and wakes the next waiter instead of taking it: `Acquired` then.
    #[cold]
    pub fn watch<K: Kernel>(&self, kernel: &K, deadline: Option<Deadline>) -> Outcome {
        self.await_free(kernel, deadline, || {
            kernel.wake(&self.state, 1, ANY_CLASS);
            true
        })
    }

    fn await_free<K: Kernel>(
        &self,
        kernel: &K,
        deadline: Option<Deadline>,
        go: impl Fn() -> bool,
    ) -> Outcome {
        // Announced all the way: a wake-up in our hands must not die with us.
        kernel.announce(&self.entry);
        let outcome = loop {
            let state = self.state.load(Relaxed);
            let held = word(state);
            if held & OWNER == 0 {
                if go() {
                    break Outcome::Acquired;
                }
                continue;
            }
            let expected = held | WAITERS;
            if held != expected
                && self.state.compare_exchange(state, join(expected, other(state)), Relaxed, Relaxed).is_err()
            {
                continue;
            }
            match kernel.wait(&self.state, expected, deadline, ANY_CLASS) {
                Wake::Woken => {}
                Wake::TimedOut => break Outcome::TimedOut,
                Wake::Interrupted => break Outcome::Interrupted,
            }
        };
        kernel.settle();
        outcome
    }

    /// Gives the lock back. The calling thread holds it.
    #[inline]
    pub fn unlock<K: Kernel>(&self, kernel: &K) {
        self.pid.store(0, Relaxed);
        kernel.announce(&self.entry);
        kernel.delist(&self.entry);
        let state = self.state.load(Relaxed);
        if word(state) != kernel.id()
            || self.state.compare_exchange(state, join(0, other(state)), Release, Relaxed).is_err()
        {
            self.release(kernel, 0);
        }
        kernel.settle();
    }

    /// Gives the lock back as a holder that dies does: the next one finds it abandoned.
    #[cold]
    pub fn abandon<K: Kernel>(&self, kernel: &K) {
        self.pid.store(0, Relaxed);
        kernel.announce(&self.entry);
        kernel.delist(&self.entry);
        self.release(kernel, OWNER_DIED);
        kernel.settle();
    }

    /// Announced, delisted: frees the word, leaving `mark` in it, and wakes one sleeper.
    #[cold]
    fn release<K: Kernel>(&self, kernel: &K, mark: u32) {
        let mut state = self.state.load(Relaxed);
        let free = loop {
            let free = join(word(state) & WAITERS | mark, other(state));
            match self.state.compare_exchange(state, free, Release, Relaxed) {
                Ok(_) => break free,
                Err(now) => state = now,
            }
        };
        if word(free) & WAITERS != 0 && kernel.wake(&self.state, 1, ANY_CLASS) == 0 {
            // Nobody slept. Fails, rightly, when the lock was taken meanwhile: that one's unlock looks again.
            let clear = join(word(free) & !WAITERS, other(free));
            let _ = self.state.compare_exchange(free, clear, Relaxed, Relaxed);
        }
    }

    /// Whether anybody holds it.
    #[inline]
    pub fn is_locked(&self) -> bool {
        self.owner() != 0
    }

    /// The thread that holds it, or 0.
    #[inline]
    pub fn owner(&self) -> u32 {
        word(self.state.load(Relaxed)) & OWNER
    }

    /// Whether a holder died, or left it as if, and nobody has unlocked it since.
    #[inline]
    pub fn is_abandoned(&self) -> bool {
        word(self.state.load(Relaxed)) & OWNER_DIED != 0
    }

    /// Says in which process its holder is: called by the holder, for `pid`.
    #[inline]
    pub fn sign(&self, pid: u32) {
        self.pid.store(pid, Relaxed);
    }

    /// The holder's process as it signed, or 0 in the moment before it has.
    pub fn pid(&self) -> u32 {
        self.pid.load(Relaxed)
    }
}
