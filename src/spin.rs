//! How long to poll a word before sleeping on it.
//!
//! Sleeping and being woken costs five to twenty microseconds. The next change by a running process often takes less
//! than one: then polling is cheaper. Otherwise it is wasted, and takes the processor from the thread that is waited
//! for. So each object learns: each miss halves the time, until it polls only now and then, to see whether times have
//! changed. With a single processor it never polls.
//!
//! Private to the process. A wrong guess costs time, nothing else.

use crate::deadline::now;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// The longest time to poll.
const MAX_SPIN: Duration = Duration::from_micros(10);
/// From so many misses on, do not poll.
const GIVE_UP_AFTER: u32 = 6;
/// From here on, counting the waits without polling, try again.
const AGAIN: u32 = GIVE_UP_AFTER + 30;
/// The longest pause between two polls, in turns of some ten nanoseconds: each poll takes the cache line from the
/// processor that works with it, and slows it down.
pub const PAUSE: u32 = 64;
/// The same for locks. A lock's word flips often, because its holder takes it again and again; each transfer of the cache
/// line costs more than a short critical section, so a processor should keep it for a while.
pub const LONG_PAUSE: u32 = 256;

/// What an object has learned: misses less hits, and from `GIVE_UP_AFTER` on the waits without polling.
#[derive(Debug, Default)]
pub struct SpinBudget(AtomicU32);

impl SpinBudget {
    /// Polls `happened`, with pauses of at most `longest` turns. True as soon as it is; false if the time is over.
    pub fn run(&self, longest: u32, mut happened: impl FnMut() -> bool) -> bool {
        let misses = self.0.load(Relaxed);
        let time = match misses {
            _ if !several_processors() => return false,
            0..GIVE_UP_AFTER => MAX_SPIN / (1 << misses),
            GIVE_UP_AFTER..AGAIN => {
                self.0.store(misses + 1, Relaxed);
                return false;
            }
            _ => MAX_SPIN,
        };
        let end = now() + time;
        let mut pause = 1;
        while now() < end {
            (0..pause).for_each(|_| std::hint::spin_loop());
            if happened() {
                self.0.store(misses.min(GIVE_UP_AFTER).saturating_sub(2), Relaxed);
                return true;
            }
            pause = longest.min(pause * 2);
        }
        self.0.store((misses + 1).min(GIVE_UP_AFTER), Relaxed);
        false
    }
}

/// Whether another thread can run while this one polls. (No `OnceLock`: a child forked in the middle of its first call
/// would wait for ever.)
fn several_processors() -> bool {
    const UNKNOWN: u8 = 2;
    static SEVERAL: AtomicU8 = AtomicU8::new(UNKNOWN);
    match SEVERAL.load(Relaxed) {
        UNKNOWN => {
            let several = std::thread::available_parallelism().is_ok_and(|count| count.get() > 1);
            SEVERAL.store(u8::from(several), Relaxed);
            several
        }
        known => known == 1,
    }
}
