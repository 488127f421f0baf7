//! Where threads sleep for an object: its Mach semaphore, and a count of the sleepers and of the signals sent to them.
//!
//! A Mach semaphore keeps a signal that nobody waits for. Signalling it without need would make later sleepers wake for
//! nothing, more and more of them. So a waker signals only as often as there are sleepers without a signal (`asleep`
//! minus `signals`). A killed sleeper leaves the counts too high. A killed waker may leave a signal counted and not
//! given. Neither stops anybody: a count that is too high costs one spurious wake-up, once; a sleeper without its signal
//! looks at the word by itself within `LONGEST`.
//!
//! A mutex has two futex words, its own and its condition's, and one semaphore for both, whose signals may reach a
//! sleeper of either. So while both have sleepers, all are woken.

use super::mach::{Code, Mach, System};
use super::{SleepEnd, pause};
use crate::arena::SLOT;
use crate::word::Word;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*, fence};
use std::time::Duration;

/// The longest time that a thread sleeps where there is no semaphore to be woken by, since the process that made the object
/// has ended.
const LONGEST_ALONE: Duration = Duration::from_millis(10);

/// The last bytes of a slot. All zeroes is a queue without a semaphore and without sleepers.
#[repr(C)]
pub struct SleepQueue {
    pub semaphore: AtomicU32,
    _unused: u32,
    /// A `SleeperCount`.
    count: AtomicU64,
}

/// Where the queue is in a slot.
pub const OFFSET: usize = SLOT - super::SLOT_TAIL;
const _: () = assert!(OFFSET >= 2 * size_of::<Word>());

/// How many threads sleep on the slot's first and second word, and how many of them were signalled.
#[derive(Clone, Copy)]
struct SleeperCount {
    asleep: [u16; 2],
    signals: u32,
}

impl SleeperCount {
    fn from_bits(bits: u64) -> Self {
        SleeperCount { asleep: [bits as u16, (bits >> 16) as u16], signals: (bits >> 32) as u32 }
    }

    fn to_bits(self) -> u64 {
        u64::from(self.asleep[0]) | u64::from(self.asleep[1]) << 16 | u64::from(self.signals) << 32
    }

    fn all(self) -> u32 {
        u32::from(self.asleep[0]) + u32::from(self.asleep[1])
    }
}

impl SleepQueue {
    /// The queue of the slot that `word` is in, and which of the slot's words `word` is.
    pub fn of(word: &Word) -> (&SleepQueue, usize) {
        let address = (&raw const *word).expose_provenance();
        let slot = address & !(SLOT - 1);
        // SAFETY: words that threads sleep on are in slots of the arena, which are aligned to their size and mapped as
        // long as one of their words is borrowed. A queue is atomics, for which all zeroes is valid.
        let queue = unsafe { &*std::ptr::with_exposed_provenance::<SleepQueue>(slot + OFFSET) };
        (queue, usize::from(address != slot))
    }

    /// Counts the calling thread as a sleeper on the `which`th word. The caller looks at the word next, then sleeps.
    pub fn begin_sleep(&self, which: usize) {
        self.change(|sleepers| sleepers.asleep[which] = sleepers.asleep[which].saturating_add(1));
        fence(SeqCst); // pairs with the fence in `wake`: this thread sees the change of the word, or the waker counts it
    }

    /// Sleeps for at most `time`. Between `begin_sleep` and `end_sleep`.
    pub fn sleep(&self, time: Duration) -> SleepEnd {
        match System::semaphore_timedwait(self.semaphore.load(Relaxed), time) {
            Ok(()) => SleepEnd::Signalled,
            Err(Code::ABORTED) => SleepEnd::Interrupted,
            Err(Code::OPERATION_TIMED_OUT) => SleepEnd::Over,
            // The process that made the object has ended, and the semaphore with it.
            Err(_) if pause(time.min(LONGEST_ALONE)) => SleepEnd::Over,
            Err(_) => SleepEnd::Interrupted,
        }
    }

    /// Ends `begin_sleep`. `signalled`: a signal woke this thread. Returns whether one did, or one is on its way that can
    /// be for no other sleeper.
    pub fn end_sleep(&self, which: usize, signalled: bool) -> bool {
        let before = self.change(|sleepers| {
            sleepers.asleep[which] = sleepers.asleep[which].saturating_sub(1);
            let left = sleepers.signals.saturating_sub(u32::from(signalled));
            sleepers.signals = left.min(sleepers.all());
        });
        signalled || before.signals > before.all().saturating_sub(1)
    }

    /// Wakes at least `count` of the sleepers on the `which`th word. Returns how many of them.
    pub fn wake(&self, which: usize, count: u32) -> usize {
        fence(SeqCst);
        if self.count.load(Relaxed) == 0 {
            return 0;
        }
        let before = self.change(|sleepers| sleepers.signals += sleepers.signals_due(which, count));
        let due = before.signals_due(which, count);
        let semaphore = self.semaphore.load(Relaxed);
        for _ in 0..due {
            if System::semaphore_signal(semaphore).is_err() {
                break;
            }
        }
        due.min(before.asleep[which].into()) as usize
    }

    fn change(&self, change: impl Fn(&mut SleeperCount)) -> SleeperCount {
        let mut bits = self.count.load(Relaxed);
        loop {
            let mut sleepers = SleeperCount::from_bits(bits);
            change(&mut sleepers);
            match self.count.compare_exchange_weak(bits, sleepers.to_bits(), SeqCst, Relaxed) {
                Ok(_) => return SleeperCount::from_bits(bits),
                Err(now) => bits = now,
            }
        }
    }
}

impl SleeperCount {
    /// How many signals have to be added so that `count` sleepers of the `which`th word wake.
    fn signals_due(self, which: usize, count: u32) -> u32 {
        let unsignalled = self.all().saturating_sub(self.signals);
        if self.asleep[which] == 0 {
            0
        } else if self.asleep[1 - which] > 0 {
            unsignalled
        } else {
            unsignalled.min(count)
        }
    }
}
