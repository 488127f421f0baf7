//! A lock that survives its holder: the protocol under `Mutex`, the entries of participants, and the baton of a
//! condition.
//!
//! | word                  | meaning                                                                       |
//! |-----------------------|-------------------------------------------------------------------------------|
//! | 0                     | free, nobody asleep                                                           |
//! | `id`                  | held by that thread, nobody asleep                                            |
//! | `id`, WAITERS         | held; somebody may be asleep                                                  |
//! | WAITERS               | free; somebody may be asleep, and one is being woken                          |
//! | OWNER_DIED (, WAITERS)| free, left by a holder that died (the kernel wrote it) or that asked for that |
//! | `id`, OWNER_DIED (, …)| held by a thread that took it over from such a holder: abandoned              |
//!
//! Invariants: a sleeper only ever sleeps on a word that has WAITERS set, and WAITERS stays set until an unlock finds that
//! it woke nobody. A free word with sleepers has a wake-up on its way: in the hands of a thread that has the lock
//! pending, so that the kernel wakes the next sleeper if that thread dies.
//!
//! The other half counts the times the lock was taken from a word that was not 0. It keeps an unlocker that is late to
//! clear WAITERS from clearing it for a later round of sleepers.
//!
//! The word's note says which process the holder belongs to. The holder writes it right after it took the lock, so for a
//! moment it may be the note of an earlier holder.
//!
//! Memory order: taking is Acquire and pairs with the Release of the unlock that freed the word. A holder that died
//! is ordered by the kernel.

use crate::atomic::{AtomicU64, Ordering::*};
use crate::deadline::Deadline;
use crate::kernel::Kernel;
use crate::platform::Wake;
use crate::word::{ANY_CLASS, OWNER, OWNER_DIED, WAITERS, Word, aux, futex_word, pack};

/// How a wait for something ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The thread has what it waited for.
    Acquired,
    /// The deadline passed; nothing was taken.
    TimedOut,
    /// A signal was handled; nothing was taken. The caller sees to the signal and waits again.
    Interrupted,
}

/// All zeroes is a free lock.
#[derive(Default)]
#[repr(transparent)]
pub struct Lock(Word);

/// As `participants::layout`.
#[cfg(test)]
pub fn layout() -> Vec<(&'static str, usize)> {
    vec![
        ("owner", OWNER as usize),
        ("owner died", OWNER_DIED as usize),
        ("waiters", WAITERS as usize),
        ("size", size_of::<Lock>()),
    ]
}

/// A function of its own, so that the path for a lock without waiters stays short.
#[cold]
#[inline(never)]
fn next_round(state: u64) -> u64 {
    pack(futex_word(state), aux(state).wrapping_add(1))
}

impl Lock {
    /// Takes the lock if nobody holds it.
    #[inline(always)]
    pub fn try_lock<K: Kernel>(&self, kernel: &K) -> bool {
        kernel.set_pending(&self.0);
        let taken = self.take(kernel);
        kernel.clear_pending();
        taken
    }

    /// The same for a caller that does not wait: if the lock is held, finds out whether its holder is dead, where
    /// the system tells nobody.
    #[inline]
    pub fn try_lock_or_reap<K: Kernel>(&self, kernel: &K) -> bool {
        self.try_lock(kernel)
            || !K::TELLS_OF_DEATHS && {
                self.reap_if_owner_dead::<K>();
                self.try_lock(kernel)
            }
    }

    /// Pending: makes the free word name this thread.
    #[inline(always)]
    fn take<K: Kernel>(&self, kernel: &K) -> bool {
        let mut state = self.0.state.load(Relaxed);
        loop {
            let flags = futex_word(state);
            if flags & OWNER != 0 {
                return false;
            }
            let free = if flags == 0 { state } else { next_round(state) };
            match self.0.state.compare_exchange(state, free | pack(kernel.id(), 0), Acquire, Relaxed) {
                Ok(_) => {
                    kernel.robust_push(&self.0);
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
    pub fn wait_until_free<K: Kernel>(&self, kernel: &K, deadline: Option<Deadline>) -> Outcome {
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
        // Pending all the way: a wake-up in our hands must not die with us.
        kernel.set_pending(&self.0);
        let outcome = loop {
            let state = self.0.state.load(Relaxed);
            let held = futex_word(state);
            if held & OWNER == 0 {
                if go() {
                    break Outcome::Acquired;
                }
                continue;
            }
            let expected = held | WAITERS;
            if held != expected
                && self.0.state.compare_exchange(state, pack(expected, aux(state)), Relaxed, Relaxed).is_err()
            {
                continue;
            }
            match kernel.wait_or_recheck(&self.0, expected, deadline, ANY_CLASS) {
                Wake::Woken => {}
                Wake::TimedOut => break Outcome::TimedOut,
                Wake::Interrupted => break Outcome::Interrupted,
            }
        };
        kernel.clear_pending();
        outcome
    }

    /// Releases the lock. The calling thread holds it.
    #[inline(always)]
    pub fn unlock<K: Kernel>(&self, kernel: &K) {
        kernel.set_pending(&self.0);
        kernel.robust_remove(&self.0);
        let state = self.0.state.load(Relaxed);
        let held = pack(kernel.id(), 0);
        if futex_word(state) != kernel.id()
            || self.0.state.compare_exchange(state, state - held, Release, Relaxed).is_err()
        {
            self.release(kernel, 0);
        }
        kernel.clear_pending();
    }

    /// Releases the lock as a holder that dies does: the next one finds it abandoned.
    #[cold]
    pub fn release_as_dead<K: Kernel>(&self, kernel: &K) {
        kernel.set_pending(&self.0);
        kernel.robust_remove(&self.0);
        self.release(kernel, OWNER_DIED);
        kernel.clear_pending();
    }

    /// Makes `heir` the holder in place of `holder`, both of this process. At every point, the thread that the word names
    /// has it pending or on its list.
    #[cold]
    pub fn transfer<K: Kernel>(&self, holder: &K, heir: &K) {
        holder.set_pending(&self.0);
        heir.set_pending(&self.0);
        holder.robust_remove(&self.0);
        let mut state = self.0.state.load(Relaxed);
        loop {
            let passed = pack(futex_word(state) & !OWNER | heir.id(), aux(state));
            match self.0.state.compare_exchange(state, passed, Relaxed, Relaxed) {
                Ok(_) => break,
                Err(now) => state = now,
            }
        }
        heir.robust_push(&self.0);
        let note = self.0.note.load(Relaxed);
        if futex_word(note) == holder.id() {
            self.0.note.store(pack(heir.id(), aux(note)), Relaxed);
        }
        holder.clear_pending();
        heir.clear_pending();
    }

    /// Pending, off the list: frees the word, leaving `mark` in it, and wakes one sleeper.
    #[cold]
    fn release<K: Kernel>(&self, kernel: &K, mark: u32) {
        let mut state = self.0.state.load(Relaxed);
        let free = loop {
            let free = pack(futex_word(state) & WAITERS | mark, aux(state));
            match self.0.state.compare_exchange(state, free, Release, Relaxed) {
                Ok(_) => break free,
                Err(now) => state = now,
            }
        };
        if futex_word(free) & WAITERS != 0 && kernel.wake(&self.0, 1, ANY_CLASS) == 0 {
            // Nobody slept. Fails, rightly, when the lock was taken meanwhile: the new holder's unlock looks again.
            let clear = pack(futex_word(free) & !WAITERS, aux(free));
            let _ = self.0.state.compare_exchange(free, clear, Relaxed, Relaxed);
        }
    }

    /// For a thread that wants to be woken when the holder dies or unlocks: the value of the word until then. `None` if it
    /// has happened.
    pub fn watch(&self) -> Option<u32> {
        let mut state = self.0.state.load(Acquire);
        loop {
            let held = futex_word(state);
            if held & OWNER == 0 || held & OWNER_DIED != 0 {
                return None;
            }
            if held & WAITERS != 0 {
                return Some(held);
            }
            match self.0.state.compare_exchange(state, pack(held | WAITERS, aux(state)), Relaxed, Acquire) {
                Ok(_) => return Some(held | WAITERS),
                Err(now) => state = now,
            }
        }
    }

    /// Finds out whether its holder is dead, where the system has not said so.
    #[inline]
    pub fn reap_if_owner_dead<K: Kernel>(&self) {
        K::reap_if_owner_dead(&self.0);
    }

    /// The word, for a platform.
    pub fn word(&self) -> &Word {
        &self.0
    }

    /// Whether anybody holds it.
    #[inline]
    pub fn is_locked(&self) -> bool {
        self.owner() != 0
    }

    /// Whether nobody holds it or waits for it, and no holder has died.
    #[inline]
    pub fn is_untouched(&self) -> bool {
        futex_word(self.0.state.load(Acquire)) == 0
    }

    /// The thread that holds it, or 0.
    #[inline]
    pub fn owner(&self) -> u32 {
        futex_word(self.0.state.load(Relaxed)) & OWNER
    }

    /// Whether a holder died, or left it as if, and nobody has unlocked it since.
    #[inline]
    pub fn is_abandoned(&self) -> bool {
        futex_word(self.0.state.load(Relaxed)) & OWNER_DIED != 0
    }

    /// Puts the lock in order when no process uses it: free, and abandoned if a holder is gone that did not unlock it.
    pub fn recover(&self) {
        let left = futex_word(self.0.state.load(Relaxed)) & (OWNER | OWNER_DIED) != 0;
        self.0.recover(pack(if left { OWNER_DIED } else { 0 }, 0));
    }

    /// Called by a holder that took the lock over, once what the dead holder left is in order: as if nobody had died.
    pub fn make_consistent(&self) {
        self.0.state.fetch_and(pack(!OWNER_DIED, u32::MAX), Release);
    }

    /// Whether a thread holds it that is alive and, if it took the lock over from the dead, has called `make_consistent`.
    pub fn is_live(&self) -> bool {
        let held = futex_word(self.0.state.load(Acquire));
        held & OWNER != 0 && held & OWNER_DIED == 0
    }

    /// Says in which process its holder is: called by the holder.
    #[inline]
    pub fn record_owner<K: Kernel>(&self, kernel: &K) {
        self.0.note.store(pack(kernel.id(), kernel.pid()), Relaxed);
    }

    /// The process of its holder `owner`, or 0 in the moment before the holder has recorded it.
    #[inline]
    pub fn pid(&self, owner: u32) -> u32 {
        self.0.pid_of(owner)
    }

    /// A word for the use of the lock's owner object.
    #[inline]
    pub fn spare(&self) -> &AtomicU64 {
        &self.0.spare
    }
}
