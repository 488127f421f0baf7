//! How long to watch for something that may happen at once before sleeping until it does.
//!
//! Going to sleep and being woken costs five to twenty microseconds. What a running process does next often takes less
//! than one: then watching is cheaper. Where it does not, watching is wasted, and takes the processor from the one who
//! is waited for. So each object learns: every time in vain halves the time, until it watches only now and then to see
//! whether times have changed. Never with one processor.
//!
//! Private to the process; being wrong costs time, nothing else.

use crate::deadline::now;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// The longest time to watch.
const MAX_SPIN: Duration = Duration::from_micros(10);
/// From so many times in vain on, do not watch.
const GIVE_UP_AFTER: u32 = 6;
/// After so many waits without watching, try again.
const AGAIN: u32 = GIVE_UP_AFTER + 30;
/// The longest pause between two looks, in turns of some ten nanoseconds: whoever looks takes the word from the
/// processor that works with it, which then works slower.
pub const PAUSE: u32 = 64;
/// The same for what is often free, and not for long, as a lock is that its holder takes again and again: each time that
/// it goes to another processor costs more than it does to take it, so that one should keep it for a while.
pub const LONG_PAUSE: u32 = 256;

/// What an object has learned: the times it was in vain, less those it was not; from `GIVE_UP_AFTER` on, the waits since.
#[derive(Debug, Default)]
pub struct SpinBudget(AtomicU32);

impl SpinBudget {
    /// Whether `happened` said yes before it was too long, with pauses of at most `longest`.
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

/// Whether anybody can do anything while this thread watches.
fn several_processors() -> bool {
    static SEVERAL: OnceLock<bool> = OnceLock::new();
    *SEVERAL.get_or_init(|| std::thread::available_parallelism().is_ok_and(|count| count.get() > 1))
}
