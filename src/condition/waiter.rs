//! A wait, from its beginning to its end, as its own thread goes through it.

use super::Condition;
use super::baton::{NO_MUTEX, UNNAMED, is_held, wants_other_mutex};
use super::waits::class;
use crate::atomic::Ordering::*;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::lock::Outcome;
use crate::participants::Ticket;
use crate::platform::Wake;
use crate::word::{ANY_CLASS, OWNER, aux, futex_word};
use std::time::Duration;

/// The time between two looks of a waiter that polls: at first, and at most.
const FIRST_POLL: Duration = Duration::from_micros(100);
const LAST_POLL: Duration = Duration::from_millis(10);

/// How often a granted waiter looks whether an older one goes first.
const DEFERRED_LOOKS: u32 = 100;

/// A wait in progress: the calling thread's, from `begin_wait` to `finish_wait`, `cancel_wait` or `try_cancel_wait`.
#[derive(Debug)]
pub struct Wait {
    ticket: Ticket,
    target_mutex: u32,
    has_baton: bool,
    /// Ended by a broadcast, and without an entry.
    is_broadcast: bool,
}

/// What a waiter does next.
enum Step {
    /// Its wait is over.
    Done,
    LookAgain,
    /// It sleeps while the word is as it saw it; to be granted, or because it is, and others come first.
    Sleep {
        seen: u32,
        granted: bool,
        poll: bool,
    },
}

/// How a waiter has waited so far.
struct Patience {
    poll: Duration,
    /// The older wait it let go first, and how often.
    deferred: (u64, u32),
}

impl Condition<'_> {
    /// Begins a wait, before the caller releases its mutex: the one that is named `mutex`, or that has no name if that is
    /// 0.
    ///
    /// # Errors
    /// `Ownership` if as many threads wait as the table has room for.
    pub fn begin_wait<K: Kernel>(self, kernel: &K, mutex: u32) -> Result<Wait> {
        let target_mutex = if mutex == 0 { UNNAMED } else { mutex };
        let Some(ticket) = self.waits.join(kernel, target_mutex) else {
            let limit = self.waits.0.table().capacity();
            return Err(Error::Ownership(format!("too many waiting threads (limit {limit})")));
        };
        kernel.set_pending(self.word);
        let has_baton = self.take_baton(kernel, target_mutex);
        kernel.clear_pending();
        Ok(Wait { ticket, target_mutex, has_baton, is_broadcast: false })
    }

    /// Sleeps until the wait is granted or broadcast to: `Acquired`. After the two other outcomes the wait goes on: call
    /// again, or `try_cancel_wait` or `cancel_wait`.
    pub fn sleep<K: Kernel>(self, kernel: &K, wait: &mut Wait, deadline: Option<Deadline>) -> Outcome {
        kernel.set_pending(self.word);
        if wait.has_baton && self.waits.is_granted(wait.ticket) {
            self.wake_other_mutex_waiters(kernel, wait.target_mutex);
            kernel.clear_pending();
            return Outcome::Acquired;
        }
        if std::mem::take(&mut wait.has_baton) {
            self.put_down(kernel, true);
        }
        let mut patience = Patience { poll: FIRST_POLL, deferred: (0, 0) };
        let mut outcome = loop {
            match self.next_step(kernel, wait, &mut patience) {
                Step::Done => break Outcome::Acquired,
                Step::LookAgain => {}
                Step::Sleep { seen, granted, poll } => {
                    let deadline = if granted { None } else { deadline };
                    match self.sleep_once(kernel, wait, seen, deadline, poll.then_some(&mut patience)) {
                        Wake::Woken => {}
                        Wake::TimedOut => break Outcome::TimedOut,
                        Wake::Interrupted => break Outcome::Interrupted,
                    }
                }
            }
        };
        if self.waits.is_broadcast(wait.ticket) {
            outcome = Outcome::Acquired;
            wait.is_broadcast = true;
        }
        self.hand_over_watch(kernel, wait);
        kernel.clear_pending();
        if wait.is_broadcast {
            self.waits.0.leave(kernel, wait.ticket); // nobody needs to know of it any more
        }
        outcome
    }

    fn next_step<K: Kernel>(self, kernel: &K, wait: &mut Wait, patience: &mut Patience) -> Step {
        let state = self.word.state.load(Acquire);
        let (seen, target) = (futex_word(state), aux(state));
        if self.waits.is_broadcast(wait.ticket) {
            return Step::Done;
        }
        let granted = self.waits.is_granted(wait.ticket);
        if granted && !is_held(seen) {
            if self.defers_to_an_older::<K>(wait, patience) {
                return Step::LookAgain;
            }
            wait.has_baton = self.take_baton(kernel, wait.target_mutex);
            if !wait.has_baton {
                return Step::LookAgain;
            }
            self.wake_other_mutex_waiters(kernel, wait.target_mutex);
            return Step::Done;
        }
        if granted && wants_other_mutex(wait.target_mutex, target) {
            return Step::Done;
        }
        let is_free = seen & OWNER == 0;
        if is_free {
            if self.take_baton(kernel, NO_MUTEX) {
                self.put_down(kernel, true);
            }
            let is_over = self.waits.is_granted(wait.ticket) || self.waits.is_broadcast(wait.ticket);
            if is_over || futex_word(self.word.state.load(Acquire)) != seen {
                return Step::LookAgain;
            }
        }
        // A thread that ends our wait without the baton cannot change the word, and may do so before we sleep on it.
        let poll = is_free || is_held(seen) && wants_other_mutex(wait.target_mutex, target);
        Step::Sleep { seen, granted, poll }
    }

    /// Where a wake-up may reach other waiters too: lets an older granted wait go first, unless its thread does not go. The
    /// caller does not sleep on the word meanwhile, because it could take a wake-up from the older one.
    fn defers_to_an_older<K: Kernel>(self, wait: &Wait, patience: &mut Patience) -> bool {
        let first = if K::WAKES_BY_CLASS { None } else { self.waits.first_granted() };
        let Some(first) = first.filter(|&first| first < wait.ticket.number()) else { return false };
        let looks = if patience.deferred.0 == first { patience.deferred.1 + 1 } else { 0 };
        patience.deferred = (first, looks);
        let defers = looks < DEFERRED_LOOKS;
        if defers {
            std::thread::sleep(FIRST_POLL);
        }
        defers
    }

    /// Sleeps until it is woken, or the deadline, or a look is due.
    fn sleep_once<K: Kernel>(
        self,
        kernel: &K,
        wait: &Wait,
        seen: u32,
        deadline: Option<Deadline>,
        poll: Option<&mut Patience>,
    ) -> Wake {
        let poll = poll.map(|patience| {
            let poll = patience.poll;
            patience.poll = LAST_POLL.min(poll * 2);
            poll
        });
        let until = match poll.or(K::RECHECK) {
            Some(time) => Deadline::soonest(deadline, time),
            None => deadline,
        };
        match kernel.wait(self.word, seen, until, class(wait.ticket.number())) {
            Wake::TimedOut if until != deadline => {
                // A poll is too soon to look: the waiters that a broadcast has woken poll while they run one by one.
                if K::RECHECK.is_some() && poll.is_none_or(|time| time == LAST_POLL) {
                    if is_held(futex_word(self.word.state.load(Acquire))) {
                        K::reap_if_owner_dead(self.word);
                    }
                    self.waits.reap::<K>(false);
                }
                Wake::Woken
            }
            wake => wake,
        }
    }

    /// A waiter that leaves may have been the one that polls, or was woken to see to something: another has to go on.
    fn hand_over_watch<K: Kernel>(self, kernel: &K, wait: &Wait) {
        if wait.has_baton || futex_word(self.word.state.load(Acquire)) & OWNER != 0 {
            return;
        }
        if !wait.is_broadcast {
            kernel.wake(self.word, 1, ANY_CLASS);
        } else if self.take_baton(kernel, NO_MUTEX) {
            self.put_down(kernel, false);
        }
    }

    /// To be called before the waiter does anything else than `sleep`, such as run a signal handler.
    pub fn release_baton<K: Kernel>(self, kernel: &K, wait: &mut Wait) {
        if std::mem::take(&mut wait.has_baton) {
            kernel.set_pending(self.word);
            self.put_down(kernel, false);
            kernel.clear_pending();
        }
    }

    /// Ends a wait whose `sleep` said `Acquired`; the caller has its mutex again.
    pub fn finish_wait<K: Kernel>(self, kernel: &K, mut wait: Wait) {
        if !wait.is_broadcast {
            self.waits.0.leave(kernel, wait.ticket);
        }
        self.release_baton(kernel, &mut wait);
    }

    /// Ends a wait whose deadline passed. Returns it if it has been granted meanwhile: then `sleep` again, shortly.
    pub fn try_cancel_wait<K: Kernel>(self, kernel: &K, wait: Wait) -> Option<Wait> {
        if self.waits.withdraw(wait.ticket) {
            self.finish_wait(kernel, wait);
            return None;
        }
        Some(wait)
    }

    /// Ends a wait that has to stop for another reason. If it was granted, its signal goes to the next.
    pub fn cancel_wait<K: Kernel>(self, kernel: &K, wait: Wait) {
        if wait.is_broadcast || self.waits.withdraw(wait.ticket) || self.waits.is_broadcast(wait.ticket) {
            self.finish_wait(kernel, wait);
            return;
        }
        self.waits.0.release_as_dead(kernel, wait.ticket);
        kernel.set_pending(self.word);
        if wait.has_baton || self.take_baton(kernel, NO_MUTEX) {
            self.put_down(kernel, false);
        }
        kernel.clear_pending();
    }

    /// Cancels the waits that the calling thread has begun and will never end, since what ran them is no more.
    pub fn cancel_lost_waits<K: Kernel>(self, kernel: &K) {
        for seen in self.waits.of_thread(kernel.id()) {
            let (ticket, is_broadcast) = (seen.ticket(), false);
            let has_baton = futex_word(self.word.state.load(Relaxed)) & OWNER == kernel.id();
            self.cancel_wait(kernel, Wait { ticket, target_mutex: UNNAMED, has_baton, is_broadcast });
        }
    }
}
