//! What a protocol asks of the system on behalf of the calling thread. `platform::Thread` is the real one; the model
//! checker brings its own, so that what is checked is what is shipped.

use crate::deadline::Deadline;
use crate::platform::Wake;
use crate::word::{ANY_CLASS, Word};
use std::iter;
use std::time::Duration;

/// How long a sleeper relies on a system that does not tell of the words it watches.
pub const LOOK: Duration = Duration::from_millis(10);

pub trait Kernel {
    /// Whether the system does what `set_pending` and `robust_push` ask for. If not, sleepers do it, by looking every now and
    /// then, and `reap_if_owner_dead` does it for whoever must know at once.
    const TELLS_OF_DEATHS: bool = true;

    /// How long a sleeper relies on being told. It then looks for itself, because some deaths reach nobody: those of
    /// threads whose memory the kernel took first, and those under another number. Before Linux 6.2, a wake-up whose
    /// thread dies may reach nobody either. `None`: for ever.
    const RECHECK: Option<Duration> = None;

    /// Whether `wake` can choose by class. If not, a wake for a class may reach anybody, but reaches that class.
    const WAKES_BY_CLASS: bool = true;

    /// This thread's number, as lock words hold it: never 0, and unlike that of any other living thread.
    fn id(&self) -> u32;

    /// This thread's process, or 0 where nobody asks.
    fn pid(&self) -> u32 {
        0
    }

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

    /// Sleeps while each of `words` has the value beside it, until a `wake` for one of them chooses this thread, the
    /// deadline, or a signal. `None` if the system cannot, or not with so many words.
    fn wait_for_any(&self, _words: &[(&Word, u32)], _deadline: Option<Deadline>) -> Option<Wake> {
        None
    }

    /// Wakes at most `count` of the threads that sleep on `word` in one of `classes`, in the order they came. Returns
    /// how many.
    fn wake(&self, word: &Word, count: i32, classes: u32) -> usize;

    /// Marks `word` `OWNER_DIED` and wakes a waiter if the thread it names is gone for good and the system has not done
    /// that by itself. Cheap enough for every call that does not wait: it looks at a thread a few times a second.
    fn reap_if_owner_dead(_word: &Word) {}

    /// As `wait`, for a caller that looks at the word again whenever it is `Woken`: also after `RECHECK`, and then with
    /// the death of the thread that the word names known.
    fn wait_or_recheck(&self, word: &Word, expected: u32, deadline: Option<Deadline>, class: u32) -> Wake {
        let until = Self::RECHECK.map_or(deadline, |time| Deadline::soonest(deadline, time));
        match self.wait(word, expected, until, class) {
            Wake::TimedOut if until != deadline => {
                Self::reap_if_owner_dead(word);
                Wake::Woken
            }
            wake => wake,
        }
    }

    /// Does nothing for a while, or until a signal is handled: for waits that the system cannot end.
    fn nap(&self, time: Duration) -> Wake {
        std::thread::sleep(time);
        Wake::Woken
    }

    /// As `wait_or_recheck`, also until one of `watched` has another value than the one beside it. Where the system cannot
    /// tell of that, the caller looks every `LOOK`.
    fn wait_for_any_or_recheck<'w>(
        &self,
        word: &'w Word,
        expected: u32,
        watched: impl Iterator<Item = (&'w Word, u32)>,
        deadline: Option<Deadline>,
    ) -> Wake {
        let mut watched = watched.peekable();
        if watched.peek().is_none() {
            return self.wait_or_recheck(word, expected, deadline, ANY_CLASS);
        }
        let until = Self::RECHECK.map_or(deadline, |time| Deadline::soonest(deadline, time));
        let words: Vec<_> = iter::once((word, expected)).chain(watched).collect();
        let (wake, until) = match self.wait_for_any(&words, until) {
            Some(wake) => (wake, until),
            None => {
                let until = Deadline::soonest(deadline, LOOK);
                (self.wait(word, expected, until, ANY_CLASS), until)
            }
        };
        if wake == Wake::TimedOut && until != deadline { Wake::Woken } else { wake }
    }
}
