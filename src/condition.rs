//! A condition variable that loses no signal and keeps none, whoever dies.
//!
//! Waits stand in the `Roster`; a signal grants the oldest living one, a broadcast all. What remains is to wake the
//! granted, and to notice when one dies between being granted and having its mutex again, because then the signal
//! belongs to the next. For that there is the baton: a lock which the granted take, one after the other, and hold
//! until they have their mutex. All waiters sleep on its word. So the kernel, when the holder of the baton dies,
//! wakes one of them, and that one sees to the rest.
//!
//! | baton's word   | meaning                                                                              |
//! |----------------|--------------------------------------------------------------------------------------|
//! | IDLE + round   | nobody is granted; a waiter's death concerns nobody                                  |
//! | owner bits 0   | somebody is granted or may be, and a wake-up is on its way; the kernel passes it on   |
//! | `id`, WAITERS  | that thread is on its way into or out of a wait, and will `attend` to the granted    |
//!
//! Who wants to sleep takes the baton too, if it is free, from before it gives its mutex back until it sleeps: so
//! there is no moment at which it could be granted and die unnoticed.
//!
//! The rule that keeps signals from getting lost: who grants looks at the word afterwards, and who frees the baton
//! looks at the grants afterwards (all SeqCst), so one of them sees the other. Waking somebody for nothing does no
//! harm: all decisions are taken from the roster.

use crate::atomic::{AtomicU32, AtomicU64, Ordering::*};
use crate::deadline::Deadline;
use crate::kernel::Kernel;
use crate::lock::Outcome;
use crate::platform::Wake;
use crate::roster::{Outstanding, Place, Roster};
use crate::word::{Entry, OWNER, WAITERS, join, other, word};
use std::time::Duration;

/// In the owner bits, but no thread's number: those stay below 2**22.
const IDLE: u32 = 0x2000_0000;

/// How long a waiter relies on another's being on its way to the baton before it looks again.
const SOON: Duration = Duration::from_millis(10);

/// All zeroes is a condition nobody waits for. Laid out like a `Lock`: the baton is on the robust list while held.
///
/// The other half of the state is, while the baton is held, the mutex its holder is on its way to; else a round.
#[repr(C)]
pub struct Condition {
    state: AtomicU64,
    round: AtomicU32,
    _unused: [u32; 3],
    entry: Entry,
}

#[cfg(not(loom))]
const _: () = assert!(std::mem::offset_of!(Condition, entry) == 24 && size_of::<Condition>() == 40);

// SAFETY: `entry` is touched only by the thread that holds the baton.
unsafe impl Sync for Condition {}

/// A wait in progress: the calling thread's, from `enter` to `finish`, `expire` or `leave`.
#[derive(Debug)]
pub struct Wait {
    place: Place,
    object: u32,
    mutex: u32,
    baton: bool,
}

fn is_held(word: u32) -> bool {
    word & OWNER != 0 && word & IDLE == 0
}

impl Condition {
    /// Begins a wait, before the caller gives its mutex back. `object` names this condition in the roster; `mutex` the
    /// mutex, 0 one that has no name. `None` if the roster is full.
    pub fn enter<K: Kernel>(&self, kernel: &K, roster: &Roster, object: u32, mutex: u32) -> Option<Wait> {
        let place = roster.enter(kernel, object)?;
        kernel.announce(&self.entry);
        let baton = self.take(kernel, mutex);
        kernel.settle();
        Some(Wait { place, object, mutex, baton })
    }

    /// Sleeps until the wait is granted: `Acquired`. After the two other outcomes the wait goes on: call again, or
    /// `expire` or `leave`.
    pub fn sleep<K: Kernel>(
        &self,
        kernel: &K,
        roster: &Roster,
        wait: &mut Wait,
        deadline: Option<Deadline>,
    ) -> Outcome {
        if wait.baton && roster.is_granted(wait.place) {
            return Outcome::Acquired;
        }
        kernel.announce(&self.entry);
        if std::mem::take(&mut wait.baton) {
            self.attend_holding(kernel, roster, wait.object);
        }
        let outcome = loop {
            let state = self.state.load(SeqCst);
            let granted = roster.is_granted(wait.place);
            if granted && !is_held(word(state)) {
                wait.baton = self.take(kernel, wait.mutex);
                if wait.baton {
                    break Outcome::Acquired;
                }
                continue;
            }
            if granted && (wait.mutex == 0 || wait.mutex != other(state)) {
                break Outcome::Acquired; // never wait for somebody who waits for another mutex than ours
            }
            let mut until = if granted { None } else { deadline };
            if word(state) & OWNER == 0 {
                self.attend(kernel, roster, wait.object);
                if roster.is_granted(wait.place) || word(self.state.load(SeqCst)) != word(state) {
                    continue;
                }
                // This one value can come back while we fall asleep, so look again soon, if it still stands then.
                let soon = Deadline::after(SOON);
                until = if until.is_none_or(|until| soon.is_some_and(|soon| soon < until)) {
                    soon
                } else {
                    until
                };
            }
            match kernel.wait(&self.state, word(state), until, wait.place.class()) {
                Wake::Woken => {}
                Wake::TimedOut if until != deadline => {}
                Wake::TimedOut => break Outcome::TimedOut,
                Wake::Interrupted => break Outcome::Interrupted,
            }
        };
        kernel.settle();
        outcome
    }

    /// To be called before the waiter does anything else than `sleep`, such as run a signal handler.
    pub fn rest<K: Kernel>(&self, kernel: &K, roster: &Roster, wait: &mut Wait) {
        if std::mem::take(&mut wait.baton) {
            kernel.announce(&self.entry);
            self.attend_holding(kernel, roster, wait.object);
            kernel.settle();
        }
    }

    /// Ends a wait whose `sleep` said `Acquired`; the caller has its mutex again.
    pub fn finish<K: Kernel>(&self, kernel: &K, roster: &Roster, mut wait: Wait) {
        roster.leave(kernel, wait.place);
        self.rest(kernel, roster, &mut wait);
    }

    /// Ends a wait whose deadline passed. Gives it back if it has been granted meanwhile: then `sleep` again, shortly.
    pub fn expire<K: Kernel>(&self, kernel: &K, roster: &Roster, wait: Wait) -> Option<Wait> {
        if roster.withdraw(wait.place) {
            self.finish(kernel, roster, wait);
            return None;
        }
        Some(wait)
    }

    /// Ends a wait that has to stop for another reason. If it was granted, its signal goes to the next.
    pub fn leave<K: Kernel>(&self, kernel: &K, roster: &Roster, wait: Wait) {
        if !roster.withdraw(wait.place) {
            kernel.announce(&self.entry);
            roster.pass_on(wait.place, wait.object);
            self.attend(kernel, roster, wait.object);
            kernel.settle();
        }
        self.finish(kernel, roster, wait);
    }

    /// Wakes the oldest of the waits that are there now. Without one, nothing happens.
    pub fn signal<K: Kernel>(&self, kernel: &K, roster: &Roster, object: u32) {
        self.grant(kernel, roster, object, |limit| {
            roster.grant_oldest(object, limit);
        });
    }

    /// Wakes all waits that are there now.
    pub fn broadcast<K: Kernel>(&self, kernel: &K, roster: &Roster, object: u32) {
        self.grant(kernel, roster, object, |limit| roster.grant_all(object, limit));
    }

    fn grant<K: Kernel>(&self, kernel: &K, roster: &Roster, object: u32, grant: impl FnOnce(u64)) {
        if roster.count(object) > 0 {
            kernel.announce(&self.entry);
            grant(roster.newest());
            self.attend(kernel, roster, object);
            kernel.settle();
        }
    }

    /// Announced: takes the baton if nobody holds it.
    fn take<K: Kernel>(&self, kernel: &K, mutex: u32) -> bool {
        let mut state = self.state.load(SeqCst);
        while !is_held(word(state)) {
            match self.state.compare_exchange(state, join(kernel.id() | WAITERS, mutex), SeqCst, SeqCst) {
                Ok(_) => {
                    kernel.enlist(&self.entry);
                    return true;
                }
                Err(now) => state = now,
            }
        }
        false
    }

    /// Announced: sees to it that the oldest granted wait gets going, unless the holder of the baton will.
    fn attend<K: Kernel>(&self, kernel: &K, roster: &Roster, object: u32) {
        if self.take(kernel, 0) {
            self.attend_holding(kernel, roster, object);
        }
    }

    /// Announced, with the baton, which is put down: hands on what the dead left, and wakes the oldest granted wait.
    fn attend_holding<K: Kernel>(&self, kernel: &K, roster: &Roster, object: u32) {
        loop {
            roster.relay(object);
            let round = self.round.load(Relaxed).wrapping_add(1);
            self.round.store(round, Relaxed);
            kernel.delist(&self.entry);
            self.state.store(join(0, round), SeqCst);
            match roster.outstanding(object) {
                Outstanding::Nothing => {
                    let idle = join(IDLE | round & (IDLE - 1), round);
                    let _ = self.state.compare_exchange(join(0, round), idle, SeqCst, SeqCst);
                    return;
                }
                Outstanding::Granted(place) => {
                    // Alive but not asleep: it sees the word change. Dead: its grant has to go to the next.
                    if kernel.wake(&self.state, i32::MAX, place.class()) > 0 || roster.is_live(place) {
                        return;
                    }
                }
                Outstanding::Orphan => {}
            }
            if !self.take(kernel, 0) {
                return;
            }
        }
    }
}
