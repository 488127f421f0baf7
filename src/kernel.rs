//! What a protocol asks of the system on behalf of the calling thread. `platform::Thread` is the real one; the model
//! checker brings its own, so that what is checked is what is shipped.

use crate::atomic::AtomicU64;
use crate::deadline::Deadline;
use crate::platform::Wake;
use crate::word::Entry;

pub trait Kernel {
    /// This thread's number, as lock words hold it: never 0, and unlike that of any other living thread.
    fn id(&self) -> u32;

    /// From here to `settle`, this thread's death makes the system look at the word of `entry`: if it names this
    /// thread, it is marked `OWNER_DIED` and one waiter is woken; if it names nobody, one waiter is woken. Holds for
    /// one entry at a time.
    fn announce(&self, entry: &Entry);

    /// Ends `announce`.
    fn settle(&self);

    /// Has the death of this thread mark the word of `entry` as long as it names this thread, and wake a waiter.
    /// Called between `announce` and `settle`.
    fn enlist(&self, entry: &Entry);

    /// Ends `enlist`. Called between `announce` and `settle`.
    fn delist(&self, entry: &Entry);

    /// Sleeps while the word of `state` is `expected`, until a `wake` for `class` chooses this thread, the deadline,
    /// or a signal. A wake-up that chose this thread is always reported as `Woken`.
    fn wait(&self, state: &AtomicU64, expected: u32, deadline: Option<Deadline>, class: u32) -> Wake;

    /// Wakes at most `count` of the threads that sleep on the word of `state` in one of `classes`, in the order they
    /// came. Returns how many.
    fn wake(&self, state: &AtomicU64, count: i32, classes: u32) -> usize;
}
