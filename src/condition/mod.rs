//! A condition variable that loses no signal and keeps none, whoever dies.
//!
//! Waits are entries of a table (`waits`); a signal grants the oldest living one, a broadcast ends all. The waiters that
//! a broadcast woke owe nobody anything, and are woken all at once. A signal is for one waiter: the granted waiter has
//! to be woken, and if it dies before it has its mutex again, the signal belongs to the next. For that there is the
//! baton, after Andrews' "passing the baton": a robust word that the granted waiters take, one after the other, and
//! hold until they have their mutex. All waiters sleep on it. So when the holder of the baton dies, the kernel wakes one
//! of them, and that waiter attends to the rest.
//!
//! | baton's word     | meaning                                                                                    |
//! |------------------|--------------------------------------------------------------------------------------------|
//! | IDLE + round     | nobody is granted, nor about to be; a waiter's death concerns nobody                       |
//! | owner bits 0     | somebody may be granted and is waking up, or somebody polls; a death wakes another waiter  |
//! | `id`, WAITERS    | that thread is on its way into or out of a wait, or about to grant; it will release it     |
//!
//! Rules:
//! - The holder of the baton does what is due before it goes on: it passes on what the dead left, and wakes the oldest
//!   granted waiter. It leaves the word IDLE only if nothing is due and nobody is about to give a signal.
//! - A thread that grants looks at the word afterwards; a thread that releases the baton looks at the waits afterwards
//!   (with a SeqCst fence between), so one of them sees the other. A thread that grants without the baton has announced
//!   its signal before it looked at the word, so the word is not IDLE when it dies.
//! - A thread that broadcasts wakes the waiters it has ended, and so does every thread that releases the baton while any
//!   of them has its entry. If all of these threads die, the kernel wakes one waiter, and a waiter that finds the word
//!   without an owner wakes the others.
//! - The kernel notices the death of a thread only if the thread has this word pending or holds the baton. A granted
//!   thread that does neither (between `begin_wait` and `sleep`; with another mutex than the holder's) is watched: a
//!   sleeper, if there is one, polls until that thread moves on.
//! - A waiter also polls if it falls asleep while the holder of the baton wants another mutex, because a grant between
//!   its look and its sleep does not change the word then.
//!
//! There is no other polling, but for `Kernel::RECHECK`.
//!
//! Waking a waiter for nothing does no harm: all decisions are taken from the table.
//!
//! `waits` is the table, `waiter` what a waiter does, `baton` what the holder of the baton does; signals are given here.

mod baton;
mod waiter;
#[doc(hidden)] // for the model checker
pub mod waits;

pub use waiter::Wait;

use crate::atomic::{AtomicU64, Ordering::*};
use crate::kernel::Kernel;
use crate::participants::{Party, Seat};
use crate::word::{Word, aux};
use baton::NO_MUTEX;
use waits::Waits;

/// The baton. All zeroes is a condition nobody waits for.
#[derive(Default)]
#[repr(transparent)]
pub struct Baton(Word);

/// As `participants::layout`.
#[cfg(test)]
pub fn layout() -> Vec<(&'static str, usize)> {
    let states = [waits::WAITING, waits::GRANTED, waits::PASSED, waits::BROADCAST];
    states.into_iter().map(|state| ("state", state.into())).chain([("idle", baton::IDLE as usize)]).collect()
}

/// A condition: its baton, and the waits in the table.
#[derive(Clone, Copy)]
pub struct Condition<'a> {
    word: &'a Word,
    waits: Waits<'a>,
}

impl Baton {
    /// The condition, whose waits are at `seat`.
    pub fn at<'a>(&'a self, seat: Seat<'a>) -> Condition<'a> {
        Condition { word: &self.0, waits: Waits(Party::new(seat, self.range())) }
    }

    /// Puts the baton in order when no process uses it: nobody waits.
    pub fn recover(&self) {
        self.0.recover(0);
    }

    /// The range of the waits.
    pub fn range(&self) -> &AtomicU64 {
        &self.0.spare
    }
}

impl Condition<'_> {
    /// Wakes the oldest of the waits that are there now. Without one, nothing happens.
    pub fn signal<K: Kernel>(self, kernel: &K) {
        self.grant(kernel, || self.waits.grant_oldest::<K>());
    }

    /// Wakes all waits that are there now.
    pub fn broadcast<K: Kernel>(self, kernel: &K) {
        self.grant(kernel, || self.waits.broadcast());
    }

    fn grant<K: Kernel>(self, kernel: &K, grant: impl FnOnce()) {
        if self.waits.0.is_empty() {
            return;
        }
        if !K::TELLS_OF_DEATHS {
            self.waits.reap::<K>(true);
        }
        if !self.waits.any_waiting() {
            self.waits.0.forget_range();
            return;
        }
        kernel.set_pending(self.word);
        let mut has_baton = self.take_baton(kernel, NO_MUTEX);
        let mut mark = None;
        if !has_baton {
            mark = self.waits.announce_signal(kernel);
            kernel.set_pending(self.word);
            has_baton = self.take_baton(kernel, NO_MUTEX);
        }
        grant();
        if let Some(mark) = mark {
            self.waits.0.retire(mark); // before the last look: nothing has to wait for us any more
        }
        if has_baton || self.take_baton(kernel, NO_MUTEX) {
            self.put_down(kernel, false);
        } else {
            self.wake_broadcast(kernel);
            let target = aux(self.word.state.load(Acquire));
            self.wake_other_mutex_waiters(kernel, target);
        }
        if let Some(mark) = mark {
            self.waits.0.leave(kernel, mark);
        }
        kernel.clear_pending();
    }

    /// How many threads wait.
    pub fn waiters(self) -> usize {
        self.waits.count::<crate::platform::Thread>()
    }

    /// How many signals are on their way to a thread that has not ended its wait yet.
    pub fn granted(self) -> usize {
        self.waits.granted_count()
    }

    /// How many waits a broadcast has ended whose threads have not woken up yet.
    pub fn woken_by_broadcast(self) -> usize {
        self.waits.broadcast_count()
    }

    /// Whether a thread of the process `pid`, which is a system call to ask for, is in the middle of a wait.
    pub fn has_waits_of(self, pid: impl FnOnce() -> u32) -> bool {
        !self.waits.0.is_empty() && self.waits.any_of_process(pid(), 0)
    }

    /// Whether another thread of the calling thread's process is.
    pub fn has_waits_of_others<K: Kernel>(self, kernel: &K) -> bool {
        self.waits.any_of_process(kernel.pid(), kernel.id())
    }
}
