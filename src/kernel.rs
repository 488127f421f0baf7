//! What a protocol asks of the system on behalf of the calling thread. `platform::Thread` is the real one; the model
//! checker brings its own, so that what is checked is what is shipped.

use crate::deadline::Deadline;
use crate::platform::Wake;
use crate::word::Word;

pub trait Kernel {
    /// Whether the system does what `set_pending` and `robust_push` ask for. If not, sleepers do it, by looking every now and
    /// then, and `reap_if_owner_dead` does it for whoever must know at once.
    const TELLS_OF_DEATHS: bool = true;

    /// Whether `wake` can choose by class. If not, a wake for a class may reach anybody, but reaches that class.
    const WAKES_BY_CLASS: bool = true;

    /// This thread's number, as lock words hold it: never 0, and unlike that of any other living thread.
    fn id(&self) -> u32;

    /// From here to `clear_pending`, this thread's death makes the system look at `word`: if it names this thread, it is
    /// marked `OWNER_DIED` and one waiter is woken; if it names nobody, one waiter is woken. Holds for one word at a
    /// time.
    fn set_pending(&self, word: &Word);

    /// Ends `set_pending`.
    fn clear_pending(&self);

    /// Has the death of this thread mark `word` as long as it names this thread, and wake a waiter. Called between
    /// `set_pending` and `clear_pending`. Several such words are seen to one after the other, the newest first.
    fn robust_push(&self, word: &Word);

    /// Ends `robust_push`. Called between `set_pending` and `clear_pending`.
    fn robust_remove(&self, word: &Word);

    /// Sleeps while `word` is `expected`, until a `wake` for `class` chooses this thread, the deadline, or a signal. A
    /// wake-up that chose this thread is always reported as `Woken`.
    fn wait(&self, word: &Word, expected: u32, deadline: Option<Deadline>, class: u32) -> Wake;

    /// Wakes at most `count` of the threads that sleep on `word` in one of `classes`, in the order they came. Returns
    /// how many.
    fn wake(&self, word: &Word, count: i32, classes: u32) -> usize;

    /// Marks `word` `OWNER_DIED` if the thread it names is dead, where the system has not done that by itself.
    fn reap_if_owner_dead(_word: &Word) {}
}
