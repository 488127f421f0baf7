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

use crate::atomic::Ordering::*;
use crate::deadline::Deadline;
use crate::kernel::Kernel;
use crate::platform::Wake;
use crate::word::{ANY_CLASS, OWNER, OWNER_DIED, WAITERS, Word, join, other, word};

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

/// All zeroes is a free lock. The word's note is its holder's thread and process, as the holder signed.
#[derive(Default)]
#[repr(transparent)]
pub struct Lock(Word);

impl Lock {
    /// Takes the lock if nobody holds it.
    #[inline]
    pub fn try_lock<K: Kernel>(&self, kernel: &K) -> bool {
        if word(self.0.state.load(Relaxed)) & OWNER != 0 {
            return false;
        }
        kernel.announce(&self.0);
        let taken = self.take(kernel);
        kernel.settle();
        taken
    }

    /// Announced: makes the free word name this thread.
    #[inline]
    fn take<K: Kernel>(&self, kernel: &K) -> bool {
        let mut state = self.0.state.load(Relaxed);
        loop {
            let flags = word(state);
            if flags & OWNER != 0 {
                return false;
            }
            let round = if flags == 0 { other(state) } else { other(state).wrapping_add(1) };
            match self.0.state.compare_exchange(state, join(flags | kernel.id(), round), Acquire, Relaxed) {
                Ok(_) => {
                    kernel.enlist(&self.0);
                    return true;
                }
                Err(now) => state = now,
            }
        }
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
            kernel.wake(&self.0, 1, ANY_CLASS);
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
        kernel.announce(&self.0);
        let outcome = loop {
            let state = self.0.state.load(Relaxed);
            let held = word(state);
            if held & OWNER == 0 {
                if go() {
                    break Outcome::Acquired;
                }
                continue;
            }
            let expected = held | WAITERS;
            if held != expected
                && self
                    .0
                    .state
                    .compare_exchange(state, join(expected, other(state)), Relaxed, Relaxed)
                    .is_err()
            {
                continue;
            }
            match kernel.wait(&self.0, expected, deadline, ANY_CLASS) {
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
        kernel.announce(&self.0);
        kernel.delist(&self.0);
        let state = self.0.state.load(Relaxed);
        if word(state) != kernel.id()
            || self.0.state.compare_exchange(state, join(0, other(state)), Release, Relaxed).is_err()
        {
            self.release(kernel, 0);
        }
        kernel.settle();
    }

    /// Gives the lock back as a holder that dies does: the next one finds it abandoned.
    #[cold]
    pub fn abandon<K: Kernel>(&self, kernel: &K) {
        kernel.announce(&self.0);
        kernel.delist(&self.0);
        self.release(kernel, OWNER_DIED);
        kernel.settle();
    }

    /// Makes `heir` the holder in place of `holder`, both of this process. Whichever the word names when they die, at
    /// whatever point, has announced it or has it on its list.
    #[cold]
    pub fn pass_on<K: Kernel>(&self, holder: &K, heir: &K) {
        holder.announce(&self.0);
        heir.announce(&self.0);
        holder.delist(&self.0);
        let mut state = self.0.state.load(Relaxed);
        loop {
            let passed = join(word(state) & !OWNER | heir.id(), other(state));
            match self.0.state.compare_exchange(state, passed, Relaxed, Relaxed) {
                Ok(_) => break,
                Err(now) => state = now,
            }
        }
        heir.enlist(&self.0);
        let note = self.0.note.load(Relaxed);
        if word(note) == holder.id() {
            self.0.note.store(join(heir.id(), other(note)), Relaxed);
        }
        holder.settle();
        heir.settle();
    }

    /// Announced, delisted: frees the word, leaving `mark` in it, and wakes one sleeper.
    #[cold]
    fn release<K: Kernel>(&self, kernel: &K, mark: u32) {
        let mut state = self.0.state.load(Relaxed);
        let free = loop {
            let free = join(word(state) & WAITERS | mark, other(state));
            match self.0.state.compare_exchange(state, free, Release, Relaxed) {
                Ok(_) => break free,
                Err(now) => state = now,
            }
        };
        if word(free) & WAITERS != 0 && kernel.wake(&self.0, 1, ANY_CLASS) == 0 {
            // Nobody slept. Fails, rightly, when the lock was taken meanwhile: that one's unlock looks again.
            let clear = join(word(free) & !WAITERS, other(free));
            let _ = self.0.state.compare_exchange(free, clear, Relaxed, Relaxed);
        }
    }

    /// Finds out whether its holder is dead, where the system does not see to that.
    #[inline]
    pub fn look_after<K: Kernel>(&self) {
        K::look_after(&self.0);
    }

    /// Whether anybody holds it.
    #[inline]
    pub fn is_locked(&self) -> bool {
        self.owner() != 0
    }

    /// The thread that holds it, or 0.
    #[inline]
    pub fn owner(&self) -> u32 {
        word(self.0.state.load(Relaxed)) & OWNER
    }

    /// Whether a holder died, or left it as if, and nobody has unlocked it since.
    #[inline]
    pub fn is_abandoned(&self) -> bool {
        word(self.0.state.load(Relaxed)) & OWNER_DIED != 0
    }

    /// Called by a holder that took it over, once what the dead one left is in order: as if nobody had died.
    pub fn mend<K: Kernel>(&self, kernel: &K) {
        debug_assert_eq!(self.owner(), kernel.id());
        self.0.state.fetch_and(join(!OWNER_DIED, u32::MAX), Release);
    }

    /// Whether a thread holds it that is alive and, if it took it over from the dead, has called `mend`.
    pub fn is_live(&self) -> bool {
        let word = word(self.0.state.load(Acquire));
        word & OWNER != 0 && word & OWNER_DIED == 0
    }

    /// Says in which process its holder is: called by the holder, for `pid`.
    #[inline]
    pub fn sign<K: Kernel>(&self, kernel: &K, pid: u32) {
        self.0.note.store(join(kernel.id(), pid), Relaxed);
    }

    /// The process of its holder `owner`, or 0 in the moment before it has signed.
    pub fn pid(&self, owner: u32) -> u32 {
        let note = self.0.note.load(Relaxed);
        if word(note) == owner { other(note) } else { 0 }
    }
}
