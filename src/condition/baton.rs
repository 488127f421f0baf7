//! The baton: who takes it, and what its holder does before it goes on.

use super::Condition;
use super::waits::{Outstanding, class};
use crate::atomic::{Ordering::*, fence};
use crate::kernel::Kernel;
use crate::word::{ANY_CLASS, OWNER, OWNER_DIED, WAITERS, futex_word, pack};

/// In the owner bits, but no thread's number: those stay below 2**22.
pub const IDLE: u32 = 0x2000_0000;

/// The other half of the state says what the holder of the baton is on its way to: a mutex's name, or one of these.
pub const NO_MUTEX: u32 = 0; // it releases the baton at once
pub const UNNAMED: u32 = u32::MAX; // a mutex without a name

pub fn is_held(word: u32) -> bool {
    word & OWNER != 0 && word & IDLE == 0
}

/// Whether a waiter that wants `mutex` must not wait for the holder of the baton, on its way to `target`: the owner of
/// that mutex may be waiting for ours.
pub fn wants_other_mutex(mutex: u32, target: u32) -> bool {
    target != NO_MUTEX && (mutex == UNNAMED || mutex != target)
}

impl Condition<'_> {
    /// Pending: takes the baton if nobody holds it. If not, its holder will see all that the caller did before.
    pub(super) fn take_baton<K: Kernel>(self, kernel: &K, mutex: u32) -> bool {
        fence(SeqCst);
        let mut state = self.word.state.load(Relaxed);
        while !is_held(futex_word(state)) {
            if K::RECHECK.is_some() && futex_word(state) & OWNER_DIED != 0 {
                self.word.note.store(0, Relaxed); // the dead holder's, whose number may be ours by now
            }
            let held = pack(kernel.id() | WAITERS, mutex);
            match self.word.state.compare_exchange(state, held, AcqRel, Relaxed) {
                Ok(_) => {
                    kernel.robust_push(self.word);
                    if K::RECHECK.is_some() {
                        self.word.note.store(pack(kernel.id(), kernel.pid()), Relaxed);
                    }
                    if futex_word(state) & OWNER_DIED != 0 {
                        self.waits.relay(); // a transfer it began must end before the wait it went to does
                    }
                    return true;
                }
                Err(now) => state = now,
            }
        }
        false
    }

    /// Pending, with the baton, which is released: hands on what the dead left, and wakes the oldest granted waiter. If
    /// that waiter is not asleep, somebody has to poll: the caller, if it says so.
    pub(super) fn put_down<K: Kernel>(self, kernel: &K, polling: bool) {
        // Each round but the first follows a death.
        for _ in 0..=self.waits.0.table().capacity() {
            self.word.state.store(pack(kernel.id() | WAITERS, NO_MUTEX), Relaxed);
            if !K::TELLS_OF_DEATHS {
                self.waits.reap::<K>(true);
            }
            self.waits.relay();
            let round = self.waits.0.next_version() & (IDLE - 1);
            if K::RECHECK.is_some() {
                self.word.note.store(0, Relaxed);
            }
            kernel.robust_remove(self.word);
            self.word.state.store(pack(0, round), Release);
            let signal = self.wake_broadcast(kernel);
            if !self.wake_oldest_granted(kernel, round, signal, polling) || !self.take_baton(kernel, NO_MUTEX)
            {
                return;
            }
        }
        kernel.robust_remove(self.word);
        self.word.state.store(pack(0, 0), Release);
    }

    /// Pending, after the baton was released for `round`. True if a death has to be seen to first.
    fn wake_oldest_granted<K: Kernel>(self, kernel: &K, round: u32, signal: bool, polling: bool) -> bool {
        let mut last = 0;
        loop {
            match self.waits.outstanding(signal, last) {
                Outstanding::Nothing if last == 0 => {
                    let idle = pack(IDLE | round, round);
                    let _ = self.word.state.compare_exchange(pack(0, round), idle, AcqRel, Relaxed);
                    return false;
                }
                Outstanding::Granted(ticket) => {
                    if kernel.wake(self.word, i32::MAX, class(ticket.number())) > 0 {
                        return false;
                    }
                    last = ticket.number();
                }
                Outstanding::Orphan => return true,
                Outstanding::Signal if last == 0 => return false,
                Outstanding::Nothing | Outstanding::Signal => {
                    if !polling {
                        kernel.wake(self.word, 1, ANY_CLASS);
                    }
                    return false;
                }
            }
        }
    }

    /// Pending: wakes the granted waiters that must not wait for the holder of the baton, on its way to `target`.
    pub(super) fn wake_other_mutex_waiters<K: Kernel>(self, kernel: &K, target: u32) {
        let classes = self.waits.granted_classes(|mutex| wants_other_mutex(mutex, target));
        if classes != 0 {
            kernel.wake(self.word, i32::MAX, classes);
        }
    }

    /// Pending: wakes the waiters that a broadcast has ended. Returns whether somebody is about to give a signal.
    pub(super) fn wake_broadcast<K: Kernel>(self, kernel: &K) -> bool {
        let (classes, signal) = self.waits.broadcast_classes();
        if classes != 0 {
            kernel.wake(self.word, i32::MAX, classes);
        }
        signal
    }
}
