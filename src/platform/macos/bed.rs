//! Where threads sleep for an object: its Mach semaphore, and a count of who sleeps and who has been woken.
//!
//! A Mach semaphore keeps a signal that nobody waits for, so signalling it without need would make later sleepers wake
//! for nothing, more and more of them. So a waker signals only as often as there are sleepers without a signal
//! (`asleep` minus `signals`). The counts are right as long as nobody is killed here; a killed sleeper leaves them too
//! high, a killed waker may leave a signal counted and not given. Neither stops anybody: a count that is too high
//! costs one wake-up too many, once; a sleeper without its signal looks at the word by itself within `LONGEST`.
//!
//! A mutex has two words people sleep on, its own and its condition's, and one semaphore for both, whose signals may
//! reach either. So while both have sleepers, all are woken.

use super::mach::{Code, Mach, Name, System};
use crate::arena::SLOT;
use crate::word::Word;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*, fence};
use std::time::Duration;

/// The longest that anybody sleeps without looking.
pub const LONGEST: Duration = Duration::from_millis(100);
const SHORTEST: Duration = Duration::from_millis(1);
/// The same where there is no semaphore to be woken by.
const LONGEST_ALONE: Duration = Duration::from_millis(10);

/// The last bytes of a slot. All zeroes is one without a semaphore, where nobody sleeps.
#[repr(C)]
pub struct Bed {
    pub semaphore: AtomicU32,
    _unused: u32,
    crowd: AtomicU64,
}

/// Where it is in a slot.
pub const OFFSET: usize = SLOT - size_of::<Bed>();
const _: () = assert!(OFFSET >= 2 * size_of::<Word>());

/// `Bed::crowd`, taken apart: who sleeps on the slot's first and second word, and how many of them were signalled.
#[derive(Clone, Copy)]
struct Crowd {
    asleep: [u16; 2],
    signals: u32,
}

impl Crowd {
    fn from_bits(bits: u64) -> Self {
        Crowd { asleep: [bits as u16, (bits >> 16) as u16], signals: (bits >> 32) as u32 }
    }

    fn to_bits(self) -> u64 {
        u64::from(self.asleep[0]) | u64::from(self.asleep[1]) << 16 | u64::from(self.signals) << 32
    }

    fn all(self) -> u32 {
        u32::from(self.asleep[0]) + u32::from(self.asleep[1])
    }
}

/// Sleeps grow from `SHORTEST` to the longest.
pub struct Rhythm(Duration);

impl Rhythm {
    pub fn new() -> Self {
        Rhythm(SHORTEST)
    }

    /// Sleeps once, at most for `limit`.
    fn sleep(&mut self, semaphore: Name, limit: Option<Duration>) -> Nap {
        let time = limit.map_or(self.0, |limit| limit.min(self.0));
        self.0 = (self.0 * 2).min(LONGEST);
        match System::semaphore_timedwait(semaphore, time) {
            Ok(()) => Nap::Signalled,
            Err(Code::ABORTED) => Nap::Interrupted,
            Err(Code::OPERATION_TIMED_OUT) => Nap::Over,
            // Whoever made the object has ended, and its semaphore with it.
            Err(_) if pause(time.min(LONGEST_ALONE)) => Nap::Over,
            Err(_) => Nap::Interrupted,
        }
    }
}

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nap {
    Signalled,
    /// A Unix signal was handled.
    Interrupted,
    /// Its time is over.
    Over,
}

/// False if a signal was handled.
fn pause(time: Duration) -> bool {
    let time = libc::timespec { tv_sec: time.as_secs() as libc::time_t, tv_nsec: time.subsec_nanos().into() };
    // SAFETY: a valid time; what is left of it does not interest.
    unsafe { libc::nanosleep(&raw const time, std::ptr::null_mut()) == 0 }
}

impl Bed {
    /// The bed of the slot that `word` is in, and which of the slot's words that is.
    pub fn of(word: &Word) -> (&Bed, usize) {
        let address = (&raw const *word).expose_provenance();
        let slot = address & !(SLOT - 1);
        // SAFETY: words that threads sleep on are in slots of the arena, which are aligned to their size and mapped as
        // long as one of their words is borrowed. A bed is atomics, for which all zeroes is valid.
        let bed = unsafe { &*std::ptr::with_exposed_provenance::<Bed>(slot + OFFSET) };
        (bed, usize::from(address != slot))
    }

    /// Lies down on the `which`th word. The caller looks at the word next, then sleeps.
    pub fn lie_down(&self, which: usize) {
        self.change(|crowd| crowd.asleep[which] = crowd.asleep[which].saturating_add(1));
        fence(SeqCst); // pairs with the one in `wake`: either we see its change of the word, or it sees us
    }

    /// Sleeps a while, lying down.
    pub fn sleep(&self, rhythm: &mut Rhythm, limit: Option<Duration>) -> Nap {
        rhythm.sleep(self.semaphore.load(Relaxed), limit)
    }

    /// Gets up, by a signal or not. True if by a signal, or if one was given that can be for no other sleeper.
    pub fn get_up(&self, which: usize, signalled: bool) -> bool {
        let before = self.change(|crowd| {
            crowd.asleep[which] = crowd.asleep[which].saturating_sub(1);
            let left = crowd.signals.saturating_sub(u32::from(signalled));
            crowd.signals = left.min(crowd.all());
        });
        signalled || before.signals > before.all().saturating_sub(1)
    }

    /// Wakes `count` of those on the `which`th word, or more. Returns how many of them.
    pub fn wake(&self, which: usize, count: u32) -> usize {
        fence(SeqCst);
        if self.crowd.load(Relaxed) == 0 {
            return 0;
        }
        let before = self.change(|crowd| crowd.signals += crowd.signals_due(which, count));
        let due = before.signals_due(which, count);
        let semaphore = self.semaphore.load(Relaxed);
        for _ in 0..due {
            if System::semaphore_signal(semaphore).is_err() {
                break;
            }
        }
        due.min(before.asleep[which].into()) as usize
    }

    fn change(&self, change: impl Fn(&mut Crowd)) -> Crowd {
        let mut bits = self.crowd.load(Relaxed);
        loop {
            let mut crowd = Crowd::from_bits(bits);
            change(&mut crowd);
            match self.crowd.compare_exchange_weak(bits, crowd.to_bits(), SeqCst, Relaxed) {
                Ok(_) => return Crowd::from_bits(bits),
                Err(now) => bits = now,
            }
        }
    }
}

impl Crowd {
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
