//! An event: threads wait until it is set. Resetting it keeps no thread asleep that waited when it was set.
//!
//! The half of the state that the kernel does not know holds SET and the epoch, which counts how often the event was
//! set. The futex word says what sleepers need:
//!
//! | futex word            | SET | meaning                                                        |
//! |-----------------------|-----|----------------------------------------------------------------|
//! | 0                     | any | nobody is asleep                                               |
//! | WAITERS, maybe ODD    | no  | threads may be asleep; ODD is the lowest bit of the epoch      |
//! | ODD alone (WAKING)    | yes | sleepers of the last epoch may not have been woken yet         |
//!
//! Invariant: if a thread of an earlier epoch sleeps, or one of the current epoch while SET, the word is WAKING or a
//! woken thread is on its way. `set` and every woken waiter have the event pending. When one of them dies, the kernel
//! wakes a sleeper, which finds WAKING and wakes all others. `reset` finishes the wake-ups of a setter that died.
//!
//! A sleeper expects a word that differs from one epoch to the next. So it cannot fall asleep after its epoch has passed,
//! unless two have passed between its last two steps; the kernel's `RECHECK` ends that sleep.
//!
//! Memory order: a thread that has seen SET, or a later epoch (Acquire), sees what came before `set` (Release).

use crate::atomic::{AtomicU64, Ordering::*};
use crate::deadline::Deadline;
use crate::kernel::Kernel;
use crate::lock::Outcome;
use crate::platform::Wake;
use crate::word::{ANY_CLASS, OWNER_DIED, WAITERS, Word, aux, futex_word, pack};

const ODD: u32 = OWNER_DIED; // the kernel gives this bit no meaning in a word that names nobody
const WAKING: u32 = ODD;

const SET: u32 = 1 << 31;
const EPOCH: u32 = SET - 1;

/// As `participants::layout`.
#[cfg(test)]
pub fn layout() -> Vec<(&'static str, usize)> {
    vec![("set", SET as usize)]
}

/// All zeroes is an event that is not set.
#[derive(Default)]
#[repr(transparent)]
pub struct Event(Word);

/// What a thread that waits has seen: the event was not set, and had been set so often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch(u32);

impl Epoch {
    /// As a number, for `Epoch::of`.
    pub fn number(self) -> u32 {
        self.0
    }

    pub fn of(number: u32) -> Self {
        Epoch(number)
    }
}

impl Event {
    /// Puts the event in order when no process uses it. It stays as it is, set or not.
    pub fn recover(&self) {
        self.0.recover(pack(0, aux(self.0.state.load(Relaxed))));
    }

    #[inline]
    pub fn is_set(&self) -> bool {
        aux(self.0.state.load(Acquire)) & SET != 0
    }

    /// What a wait begins with: None if the event is set, and there is nothing to wait for.
    #[inline]
    pub fn begin(&self) -> Option<Epoch> {
        let half = aux(self.0.state.load(Acquire));
        (half & SET == 0).then_some(Epoch(half))
    }

    /// Whether the event has been set since `begin`.
    #[inline]
    pub fn is_over(&self, epoch: Epoch) -> bool {
        aux(self.0.state.load(Acquire)) != epoch.0
    }

    /// Sleeps until the event has been set since `begin`: `Acquired` then.
    #[cold]
    pub fn wait<K: Kernel>(&self, kernel: &K, epoch: Epoch, deadline: Option<Deadline>) -> Outcome {
        let asleep = if epoch.0 & 1 == 0 { WAITERS } else { WAITERS | ODD };
        kernel.set_pending(&self.0);
        let outcome = loop {
            let state = self.0.state.load(Acquire);
            if aux(state) != epoch.0 {
                self.finish(kernel, state);
                break Outcome::Acquired;
            }
            if futex_word(state) != asleep
                && self.0.state.compare_exchange(state, pack(asleep, epoch.0), Relaxed, Relaxed).is_err()
            {
                continue;
            }
            match kernel.wait_or_recheck(&self.0, asleep, deadline, ANY_CLASS) {
                Wake::Woken => {}
                _ if self.is_over(epoch) => {}
                Wake::TimedOut => break Outcome::TimedOut,
                Wake::Interrupted => break Outcome::Interrupted,
            }
        };
        kernel.clear_pending();
        outcome
    }

    /// Wakes the sleepers of the last epoch if that has not been done. The caller has the event pending.
    fn finish<K: Kernel>(&self, kernel: &K, state: u64) {
        if aux(state) & SET != 0 && futex_word(state) == WAKING {
            kernel.wake(&self.0, i32::MAX, ANY_CLASS);
            let _ = self.0.state.compare_exchange(state, pack(0, aux(state)), Release, Relaxed);
        }
    }

    /// Sets it and wakes all who wait. False if it was set already.
    pub fn set<K: Kernel>(&self, kernel: &K) -> bool {
        let state = self.0.state.load(Acquire);
        if aux(state) & SET != 0 && futex_word(state) == 0 {
            return false;
        }
        kernel.set_pending(&self.0);
        let set = self.set_pending(kernel);
        kernel.clear_pending();
        set
    }

    fn set_pending<K: Kernel>(&self, kernel: &K) -> bool {
        let mut state = self.0.state.load(Acquire);
        loop {
            let half = aux(state);
            if half & SET != 0 {
                self.finish(kernel, state);
                return false;
            }
            let next = SET | half.wrapping_add(1) & EPOCH;
            let word = if futex_word(state) == 0 { 0 } else { WAKING };
            match self.0.state.compare_exchange(state, pack(word, next), AcqRel, Acquire) {
                Ok(_) => {
                    self.finish(kernel, pack(word, next));
                    return true;
                }
                Err(now) => state = now,
            }
        }
    }

    /// Ends that it is set. Threads that waited when it was set go on all the same.
    pub fn reset<K: Kernel>(&self, kernel: &K) {
        kernel.set_pending(&self.0);
        loop {
            let state = self.0.state.load(Acquire);
            if aux(state) & SET == 0 {
                break;
            }
            self.finish(kernel, state);
            let word = if futex_word(state) == WAKING { 0 } else { futex_word(state) }; // 0, unless others write here
            let (now, next) = (pack(word, aux(state)), pack(0, aux(state) & EPOCH));
            if self.0.state.compare_exchange(now, next, AcqRel, Relaxed).is_ok() {
                break;
            }
        }
        kernel.clear_pending();
    }

    /// A word for the use of the event's owner object.
    pub fn spare(&self) -> &AtomicU64 {
        &self.0.spare
    }
}
